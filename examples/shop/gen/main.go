// Gen writes what dbt's jaffle data does not have: contacts (newsletter and support desk) and web events.
//
// The output is a pure function of the seed and of data/raw_customers.csv and data/raw_orders.csv, and is committed, so
// that the example can be read without running anything. To write it again: go run ./examples/shop/gen
//
// What is in it, on purpose:
//   - e-mail addresses and telephone numbers written as people write them (case, spaces, +45, 0045);
//   - three people who registered twice: two customer numbers, one e-mail address;
//   - test@example.com, typed in by many who did not want to give their own: it must join nobody;
//   - visitors who stay anonymous, and visitors who are known from the day they log in;
//   - subscribers who never bought anything, and contacts without any address.
package main

import (
	"encoding/csv"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	seed        = 20180401
	subscribers = 30 // people who never ordered
	anonymous   = 60 // devices that never log in
	stamp       = "2006-01-02 15:04:05"
)

func main() {
	dir := flag.String("dir", "examples/shop/data", "folder with raw_customers.csv and raw_orders.csv; written to")
	flag.Parse()
	if err := write(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	customers, err := read(filepath.Join(dir, "raw_customers.csv"))
	if err != nil {
		return err
	}
	orders, err := read(filepath.Join(dir, "raw_orders.csv"))
	if err != nil {
		return err
	}
	contacts, events := generate(customers, orders)
	if err := save(filepath.Join(dir, "contacts.csv"), contacts); err != nil {
		return err
	}
	return save(filepath.Join(dir, "web_events.csv"), events)
}

// person is who a contact or an event really belongs to; that truth is not written anywhere.
type person struct {
	customer   string // "" for who never registered
	first      string
	email      string
	phone      string // eight digits
	city       string
	subscribed bool
	devices    []string
	orderedOn  []time.Time
}

type maker struct {
	*rand.Rand
	contacts, events [][]string
}

func generate(customers, orders [][]string) (contacts, events [][]string) {
	m := &maker{Rand: rand.New(rand.NewPCG(seed, seed))}
	people := m.people(customers, orders)
	for i, p := range people {
		m.contactsOf(i, p)
	}
	m.strangers()
	for _, p := range people {
		m.eventsOf(p)
	}
	for range anonymous {
		device := m.device()
		for range 1 + m.IntN(6) {
			m.event(m.day(), device, "", "", "viewed_product")
		}
	}
	return numbered("contact_id", "customer_id,email,phone,first_name,city,subscribed,updated_at", m.contacts),
		numbered("event_id", "anonymous_id,customer_id,email,event,product,occurred_at", m.events)
}

func (m *maker) people(customers, orders [][]string) []*person {
	dates := map[string][]time.Time{}
	for _, o := range orders {
		if day, err := time.Parse(time.DateOnly, o[2]); err == nil {
			dates[o[1]] = append(dates[o[1]], day)
		}
	}
	var people []*person
	for _, c := range customers {
		people = append(people, m.person(c[0], c[1], dates[c[0]]))
	}
	for i := range subscribers {
		people = append(people, m.person("", names()[m.IntN(len(names()))], nil))
		people[len(people)-1].email = fmt.Sprintf("reader%02d@example.org", i+1)
	}
	for _, twice := range [][2]int{{11, 56}, {24, 80}, {39, 93}} { // registered a second time with the same address
		people[twice[1]].email = people[twice[0]].email
		people[twice[1]].first = people[twice[0]].first
	}
	return people
}

func (m *maker) person(customer, first string, ordered []time.Time) *person {
	p := &person{
		customer: customer, first: first, city: cities()[m.IntN(len(cities()))], subscribed: m.IntN(3) > 0, orderedOn: ordered,
		email: strings.ToLower(first) + customer + "@example.com",
		phone: fmt.Sprintf("2%07d", m.IntN(10_000_000)),
	}
	for range 1 + m.IntN(2) {
		p.devices = append(p.devices, m.device())
	}
	return p
}

// contactsOf writes what newsletter and support desk hold about p: none to three rows.
func (m *maker) contactsOf(i int, p *person) {
	for n := range 1 + m.IntN(3) {
		email, phone, customer := m.spelled(p.email), m.dialled(p.phone), p.customer
		switch {
		case n > 0 && m.IntN(4) == 0:
			email = "" // the support desk knew the number only
		case m.IntN(5) == 0:
			phone = ""
		}
		if email != "" && m.IntN(3) == 0 {
			customer = "" // the newsletter does not know customer numbers
		}
		if i%17 == 5 && n == 0 {
			email = "test@example.com"
			customer = p.customer
		}
		m.contacts = append(m.contacts, []string{
			customer, email, phone, p.first, p.city, strconv.FormatBool(p.subscribed), m.at(m.day()),
		})
	}
}

// strangers are contacts that identify nobody: no customer, no usable address.
func (m *maker) strangers() {
	for range 4 {
		m.contacts = append(m.contacts, []string{"", " ", "unknown", "", "", "false", m.at(m.day())})
	}
}

// eventsOf lets p visit the shop before each order, and now and then without one.
func (m *maker) eventsOf(p *person) {
	for _, ordered := range p.orderedOn {
		device := p.devices[m.IntN(len(p.devices))]
		for range 2 + m.IntN(4) {
			m.event(ordered.AddDate(0, 0, -m.IntN(5)), device, "", "", "viewed_product")
		}
		m.event(ordered, device, p.customer, "", "added_to_cart")
		m.event(ordered, device, p.customer, "", "checked_out")
	}
	for range m.IntN(6) {
		m.event(m.day(), p.devices[m.IntN(len(p.devices))], "", "", "viewed_product")
	}
	if p.subscribed {
		m.event(m.day(), p.devices[0], "", m.spelled(p.email), "subscribed")
	}
}

func (m *maker) event(day time.Time, device, customer, email, what string) {
	product := ""
	if what != "subscribed" {
		product = products()[m.IntN(len(products()))]
	}
	m.events = append(m.events, []string{device, customer, email, what, product, m.at(day)})
}

func (m *maker) device() string { return fmt.Sprintf("d-%08x", m.Uint32()) }

// day is one of the hundred days in which the shop's orders lie.
func (m *maker) day() time.Time {
	return time.Date(2018, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, m.IntN(99))
}

func (m *maker) at(day time.Time) string {
	return day.Add(time.Duration(7*3600+m.IntN(15*3600)) * time.Second).Format(stamp)
}

// spelled writes an address as people do; all spellings are the same mailbox.
func (m *maker) spelled(email string) string {
	switch m.IntN(4) {
	case 0:
		return strings.ToUpper(email[:1]) + email[1:]
	case 1:
		return " " + email
	default:
		return email
	}
}

// dialled writes a Danish number as people do.
func (m *maker) dialled(phone string) string {
	switch m.IntN(4) {
	case 0:
		return "+45 " + phone[:2] + " " + phone[2:4] + " " + phone[4:6] + " " + phone[6:]
	case 1:
		return "0045" + phone
	case 2:
		return phone[:4] + " " + phone[4:]
	default:
		return "+45" + phone
	}
}

func names() []string {
	return []string{"Søren", "Åse", "Ida", "Noah", "Freja", "Oscar", "Anna", "Emil", "Clara", "Lærke"}
}

func cities() []string {
	return []string{"København", "Aarhus", "Odense", "Aalborg", "Esbjerg", "Randers"}
}

func products() []string {
	return []string{"nutellaphone who dis?", "doctor stew", "the krautback", "vanilla ice", "chai and mighty", "adele-ade"}
}

// numbered sorts rows by their last column (a time), puts a number before each and the header on top.
func numbered(id, header string, rows [][]string) [][]string {
	slices.SortStableFunc(rows, func(a, b []string) int { return strings.Compare(a[len(a)-1], b[len(b)-1]) })
	out := [][]string{append([]string{id}, strings.Split(header, ",")...)}
	for i, row := range rows {
		out = append(out, append([]string{strconv.Itoa(i + 1)}, row...))
	}
	return out
}

// read gives a CSV file's rows without its header.
func read(path string) ([][]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := csv.NewReader(f)
	if _, err := r.Read(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r.ReadAll()
}

func save(path string, rows [][]string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return writeAll(f, rows)
}

func writeAll(f io.WriteCloser, rows [][]string) error {
	if err := csv.NewWriter(f).WriteAll(rows); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
