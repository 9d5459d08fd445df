package examples

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// This file computes the shop example by hand: union-find over normalised identifiers, then traits and segments in plain Go,
// from the same CSV files and sharing nothing with Dray.

// shopAsOf is as_of in dray.yaml.
const shopAsOf = "2018-04-10 00:00:00"

// shopper is one person as the example's syncs see them.
type shopper struct {
	firstName, lastName, city string
	email, phone              string
	favourites                []string // the products seen most often: any of them is right
	orders, cents             int64    // cents of completed orders
	lastOrder                 string
	subscribed                bool
	winBack                   bool
}

func (s *shopper) tier() string {
	switch {
	case s.cents >= 30_00:
		return "gold"
	case s.orders > 0:
		return "base"
	default:
		return "none"
	}
}

// segments are the names of those the shopper is in, sorted.
func (s *shopper) segments() string {
	var in []string
	if s.subscribed && s.orders == 0 {
		in = append(in, "subscribers_without_order")
	}
	if s.tier() == "gold" {
		in = append(in, "vips")
	}
	if s.winBack {
		in = append(in, "win_back")
	}
	return strings.Join(in, " ")
}

// contact is what hubspot is to hold of a shopper.
type contact struct{ firstName, lastName, city, phone, jobTitle string }

// shop is the whole computation.
type shop struct {
	parent   map[string]string   // union-find over "kind:value"
	people   map[string]*shopper // by root
	newest   map[string]string   // identifier → its last time
	orders   map[string]int64    // order id → cents
	contacts map[string]contact  // by email
	vips     []string            // emails, sorted
	winBack  map[string]*shopper // by email, or "(none)" with a number
}

func computeShop(t *testing.T, p *project) *shop {
	t.Helper()
	s := &shop{parent: map[string]string{}, people: map[string]*shopper{}, newest: map[string]string{}, orders: map[string]int64{}}
	customers, orders, payments := p.table(t, "raw_customers.csv"), p.table(t, "raw_orders.csv"), p.table(t, "raw_payments.csv")
	contacts, events := p.table(t, "contacts.csv"), p.table(t, "web_events.csv")

	customers.each(func(r map[string]string) { s.link("", id("user_id", r["id"])) })
	orders.each(func(r map[string]string) { s.link(r["order_date"]+" 00:00:00", id("user_id", r["user_id"])) })
	contacts.each(func(r map[string]string) { s.link(r["updated_at"], contactIDs(r)...) })
	events.each(func(r map[string]string) { s.link(r["occurred_at"], eventIDs(r)...) })

	payments.each(func(r map[string]string) { s.orders[r["order_id"]] += number(t, r["amount"]) })
	s.nameTraits(customers, contacts)
	orders.each(func(r map[string]string) { s.takeOrder(r) })
	s.webTraits(events)
	s.identifierTraits()
	s.deliver()
	return s
}

func id(kind, value string) string {
	if value == "" {
		return ""
	}
	return kind + ":" + value
}

func contactIDs(r map[string]string) []string {
	return []string{id("user_id", r["customer_id"]), emailID(r["email"]), phoneID(r["phone"])}
}

func eventIDs(r map[string]string) []string {
	return []string{id("anonymous_id", r["anonymous_id"]), id("user_id", r["customer_id"]), emailID(r["email"])}
}

func emailID(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	if s == "test@example.com" {
		return ""
	}
	return id("email", s)
}

// phoneID knows the spellings that the generator writes.
func phoneID(s string) string {
	s = strings.ReplaceAll(s, " ", "")
	s = strings.TrimPrefix(strings.TrimPrefix(s, "0045"), "+45")
	if len(s) != 8 || strings.Trim(s, "0123456789") != "" {
		return ""
	}
	return "phone:+45" + s
}

func (s *shop) find(x string) string {
	if s.parent[x] == "" {
		s.parent[x] = x
	}
	for s.parent[x] != x {
		x = s.parent[x]
	}
	return x
}

// link joins the identifiers of one row and notes when each was seen.
func (s *shop) link(at string, ids ...string) {
	first := ""
	for _, x := range ids {
		if x == "" {
			continue
		}
		s.newest[x] = max(s.newest[x], at)
		if first == "" {
			first = x
		}
		s.parent[s.find(x)] = s.find(first)
	}
}

// of is the shopper that a row belongs to; nil where it names nobody.
func (s *shop) of(ids ...string) *shopper {
	for _, x := range ids {
		if x == "" {
			continue
		}
		root := s.find(x)
		if s.people[root] == nil {
			s.people[root] = &shopper{}
		}
		return s.people[root]
	}
	return nil
}

func (s *shop) nameTraits(customers, contacts *table) {
	known := map[*shopper]string{} // newest contact row so far
	contacts.each(func(r map[string]string) {
		w := s.of(contactIDs(r)...)
		if w == nil {
			return
		}
		w.firstName = cmp.Or(w.firstName, r["first_name"])
		if r["updated_at"] > known[w] {
			known[w] = r["updated_at"]
			w.city, w.subscribed = cmp.Or(r["city"], w.city), r["subscribed"] == "true"
		}
	})
	customers.each(func(r map[string]string) { // in the order of their numbers
		w := s.of(id("user_id", r["id"]))
		w.firstName = cmp.Or(w.firstName, r["first_name"])
		w.lastName = cmp.Or(w.lastName, r["last_name"])
	})
}

func (s *shop) takeOrder(r map[string]string) {
	w := s.of(id("user_id", r["user_id"]))
	w.orders++
	w.lastOrder = max(w.lastOrder, r["order_date"])
	if r["status"] == "completed" {
		w.cents += s.orders[r["id"]]
	}
	s.orders[r["id"]] += 0 // an order without payments is an order all the same
}

func (s *shop) webTraits(events *table) {
	asOf, _ := time.Parse(time.DateTime, shopAsOf)
	since := asOf.AddDate(0, 0, -60).Format(time.DateTime)
	lapsed := asOf.AddDate(0, 0, -30).Format(time.DateTime)
	seen, views := map[*shopper]map[string]int{}, map[*shopper]int{}
	events.each(func(r map[string]string) {
		w := s.of(eventIDs(r)...)
		if r["product"] != "" {
			if seen[w] == nil {
				seen[w] = map[string]int{}
			}
			seen[w][r["product"]]++
		}
		if r["event"] == "viewed_product" && r["occurred_at"] >= since && r["occurred_at"] <= shopAsOf {
			views[w]++
		}
	})
	for w, products := range seen {
		most := slices.Max(slices.Collect(maps.Values(products)))
		for product, n := range products {
			if n == most {
				w.favourites = append(w.favourites, product)
			}
		}
	}
	for _, w := range s.people {
		w.winBack = w.orders > 0 && w.lastOrder+" 00:00:00" < lapsed && views[w] >= 2
	}
}

// identifierTraits gives each shopper the address and number seen last.
func (s *shop) identifierTraits() {
	for x := range s.parent {
		w := s.of(x)
		kind, value, _ := strings.Cut(x, ":")
		switch kind {
		case "email":
			if w.email == "" || s.newest[x] > s.newest["email:"+w.email] {
				w.email = value
			}
		case "phone":
			if w.phone == "" || s.newest[x] > s.newest["phone:"+w.phone] {
				w.phone = value
			}
		}
	}
}

// deliver is what each sync is to hold.
func (s *shop) deliver() {
	s.contacts, s.winBack = map[string]contact{}, map[string]*shopper{}
	for root, w := range s.people {
		if w.winBack {
			s.winBack[cmp.Or(w.email, root)] = w
		}
		if w.email == "" {
			continue
		}
		s.contacts[w.email] = contact{w.firstName, w.lastName, w.city, w.phone, w.tier() + " customer"}
		if w.tier() == "gold" {
			s.vips = append(s.vips, w.email)
		}
	}
	slices.Sort(s.vips)
}
