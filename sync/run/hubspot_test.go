package run_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/connectors/standin"
)

// hubspotStandIn serves HubSpot's stand-in, without limits, until the test ends.
func hubspotStandIn(t *testing.T) (hub standin.StandIn, url string) {
	t.Helper()
	for _, e := range registry.Destinations() {
		if e.Connector.Spec().Type == "hubspot" {
			hub = e.StandIn()
		}
	}
	hub.Core().Limit(standin.Limit{}, nil)
	srv := httptest.NewServer(hub.Handler())
	t.Cleanup(srv.Close)
	return hub, srv.URL
}

// hubspotProject delivers raw.people to HubSpot's stand-in: contacts by e-mail, and members of a list by the contacts' record ids.
func hubspotProject(t *testing.T, via string) (*project, standin.StandIn) {
	hub, url := hubspotStandIn(t)
	p := newProject(t, fmt.Sprintf(`
name: crm
version: 1
warehouse: {type: duckdb, path: w.duckdb}
sources: [{name: raw, schema: raw, tables: [{name: people}]}]
models: [{name: people, primary_key: id, sql: "select * from {{ source('raw', 'people') }}"}]
destinations:
  - {name: hub, type: hubspot, access_token: "${TOKEN}", base_url: "%s", settle: 0s}
syncs:
  - name: members
    model: people
    where: n > 5
    destination: hub
    object: list_members
    options: {list: Friends, create: true}
    mode: mirror
    key: {email: email}
    %s
    guard: {max_removes: 100%%}
  - name: contacts
    model: people
    destination: hub
    object: contacts
    mode: mirror
    key: {email: email}
    fields: {firstname: name}
    on_remove: delete
    guard: {max_removes: 100%%}
`, url, via), nil)
	p.env["TOKEN"] = "pat-secret"
	p.exec("CREATE SCHEMA raw", "CREATE TABLE raw.people (id BIGINT, email VARCHAR, name VARCHAR, n INTEGER)",
		"INSERT INTO raw.people SELECT i, 'U' || i || '@Example.com', 'name ' || i, i FROM range(10) t(i)")
	return p, hub
}

func TestHubSpot(t *testing.T) {
	t.Parallel()
	p, _ := hubspotProject(t, "via: contacts")
	reports, err := p.run()
	if err != nil || len(reports) != 2 {
		t.Fatalf("%v", err)
	}
	contacts, members := reports[0], reports[1] // via puts contacts first
	if contacts.Sync != "contacts" || contacts.Delivered.Add != 10 || members.Delivered.Add != 4 {
		t.Fatalf("first run: %s %s", canonical(contacts), canonical(members))
	}
	if reports, err = p.run(); err != nil || reports[0].Requests+reports[1].Requests != 0 {
		t.Fatalf("second run: %v %s", err, canonical(reports))
	}
	ids := p.query("SELECT remote_id FROM dray.snapshot_contacts WHERE dest_key = 'u7@example.com' AND origin = 'created'")
	if len(ids) != 1 || len(p.query("SELECT 1 FROM dray.snapshot_members WHERE remote_id = '"+ids[0]+"'")) != 1 {
		t.Fatalf("record ids: %v", ids)
	}
	// A changed address is one rekey by record id; the list's member is the same record.
	p.exec("UPDATE raw.people SET email = 'new@example.com' WHERE id = 7")
	if reports, err = p.run(); err != nil || reports[0].Delivered.Update != 1 || reports[0].Planned.Total() != 1 ||
		reports[1].Delivered.Update != 1 || reports[1].Planned.Total() != 1 {
		t.Fatalf("a changed key: %v %s", err, canonical(reports))
	}
	if now := p.query("SELECT remote_id FROM dray.snapshot_contacts WHERE dest_key = 'new@example.com'"); len(now) != 1 || now[0] != ids[0] {
		t.Fatalf("the record id was %v and is %v", ids, now)
	}
	p.exec("DELETE FROM raw.people WHERE id IN (7, 8)")
	if reports, err = p.run(); err != nil || reports[0].Delivered.Remove != 2 || reports[1].Delivered.Remove != 2 {
		t.Fatalf("rows left: %v %s", err, canonical(reports))
	}
	if reports, err = p.run(); err != nil || reports[0].Requests+reports[1].Requests != 0 {
		t.Fatalf("quiet again: %v %s", err, canonical(reports))
	}
}

// A record follows its row, and a row that takes a record over under another primary key is its row from then on: when the first one
// comes back with another address, it does not get the record of who has it now.
func TestHubSpotRecordsFollowTheirRows(t *testing.T) {
	t.Parallel()
	p, _ := hubspotProject(t, "via: contacts")
	if _, err := p.run(); err != nil {
		t.Fatal(err)
	}
	p.exec("UPDATE raw.people SET id = id + 70 WHERE id IN (3, 7)")
	reports, err := p.run()
	if err != nil || reports[0].Requests+reports[1].Requests != 0 || reports[0].Unchanged != 10 || reports[0].Planned.Total() != 0 {
		t.Fatalf("rows under another primary key: %v %s", err, canonical(reports))
	}
	if keys := p.query("SELECT primary_key FROM dray.snapshot_contacts WHERE dest_key IN ('u3@example.com', 'u7@example.com') ORDER BY 1"); !slices.Equal(keys, []string{"73", "77"}) {
		t.Fatalf("the snapshot remembers %v", keys)
	}
	p.exec("DELETE FROM raw.people WHERE id = 77", "INSERT INTO raw.people VALUES (7, 'another@example.com', 'another', 1)",
		"UPDATE raw.people SET email = 'u33@example.com' WHERE id = 73")
	three := p.query("SELECT remote_id FROM dray.snapshot_contacts WHERE dest_key = 'u3@example.com'")
	if reports, err = p.run(); err != nil || reports[0].Delivered.Add != 1 || reports[0].Delivered.Remove != 1 || reports[0].Delivered.Update != 1 {
		t.Fatalf("one left, another came: %v %s", err, canonical(reports[0]))
	}
	if now := p.query("SELECT remote_id FROM dray.snapshot_contacts WHERE dest_key = 'u33@example.com'"); !slices.Equal(now, three) {
		t.Fatalf("the record of a row that changed its address was %v and is %v", three, now)
	}
	if reports, err = p.run(); err != nil || reports[0].Requests+reports[1].Requests != 0 {
		t.Fatalf("quiet again: %v %s", err, canonical(reports))
	}
}

// members are the addresses in the list, as the stand-in has them.
func (p *project) members(hub standin.StandIn) []string {
	p.t.Helper()
	list := p.query("SELECT container FROM dray.meta WHERE sync = 'members'")
	return slices.Sorted(maps.Keys(hub.Records("list_members", list[0])))
}

// Members are written by record id: a remove of one key must not take away who is a member under another.
func TestHubSpotMembersWithTwoKeys(t *testing.T) {
	t.Parallel()
	p, hub := hubspotProject(t, "via: contacts")
	if _, err := p.run(); err != nil {
		t.Fatal(err)
	}
	// HubSpot merges two contacts: both addresses name one record.
	kept := p.query("SELECT remote_id FROM dray.snapshot_members WHERE dest_key = 'u8@example.com'")[0]
	p.exec("UPDATE dray.snapshot_members SET remote_id = '"+kept+"' WHERE dest_key = 'u9@example.com'",
		"UPDATE dray.snapshot_contacts SET remote_id = '"+kept+"' WHERE dest_key = 'u9@example.com'",
		"UPDATE raw.people SET n = 1 WHERE id = 9")
	reports, err := p.run()
	if m := reports[1]; err != nil || m.Planned.Total() != 0 || m.Forgotten != 1 || m.Requests != 0 || !slices.Contains(p.members(hub), "u8@example.com") {
		t.Fatalf("one of two keys left: %v %s, members %v", err, canonical(reports[1]), p.members(hub))
	}
	p.exec("UPDATE raw.people SET n = 1 WHERE id = 8")
	if reports, err = p.run(); err != nil || reports[1].Delivered.Remove != 1 || slices.Contains(p.members(hub), "u8@example.com") {
		t.Fatalf("the other left too: %v %s, members %v", err, canonical(reports[1]), p.members(hub))
	}
}

// Without via the record behind a new address is known only when it is looked up; a remove under the old one goes first.
func TestHubSpotMemberMovesWithoutVia(t *testing.T) {
	t.Parallel()
	p, hub := hubspotProject(t, "tags: [none]")
	if _, err := p.run(); err != nil {
		t.Fatal(err)
	}
	want := []string{"new@example.com", "u6@example.com", "u8@example.com", "u9@example.com"}
	p.exec("UPDATE raw.people SET email = 'new@example.com' WHERE id = 7")
	if _, err := p.run(); err != nil {
		t.Fatal(err)
	}
	reports, err := p.run()
	if err != nil || reports[0].ExitCode+reports[1].ExitCode != 0 || !slices.Equal(p.members(hub), want) {
		t.Fatalf("the member's address changed: %v %s; members %v, want %v", err, canonical(reports), p.members(hub), want)
	}
	if reports, err = p.run(); err != nil || reports[0].Requests+reports[1].Requests != 0 {
		t.Fatalf("quiet again: %v %s", err, canonical(reports))
	}
}

// A field that is written only where HubSpot has nothing: what stands there stays, is never cleared, and causes no update.
func TestHubSpotWritesIfEmpty(t *testing.T) {
	t.Parallel()
	p, hub := hubspotProject(t, "via: contacts")
	p.write("dray.yaml", strings.Replace(p.read("dray.yaml"), "fields: {firstname: name}\n    on_remove: delete",
		"fields: {firstname: name, lastname: {column: last, write: if_empty}}\n    on_remove: clear", 1))
	p.exec("ALTER TABLE raw.people ADD COLUMN last VARCHAR", "UPDATE raw.people SET last = 'ours' WHERE id < 9")
	create := httptest.NewRequest(http.MethodPost, "/crm/v3/objects/contacts/batch/create", strings.NewReader(
		`{"inputs":[{"associations":[],"objectWriteTraceId":"1","properties":{"email":"u1@example.com","lastname":"theirs"}}]}`))
	create.Header.Set("Authorization", "Bearer pat-secret")
	create.Header.Set("Content-Type", "application/json")
	made := httptest.NewRecorder()
	if hub.Handler().ServeHTTP(made, create); made.Code != http.StatusCreated {
		t.Fatalf("making a contact: %d %s", made.Code, made.Body)
	}
	lastname := func(email string) any { return hub.Records("contacts", "")[email]["lastname"] }
	step := func(what string, updates, requests int64) {
		t.Helper()
		reports, err := p.run()
		if err != nil || reports[0].Delivered.Update != updates || reports[0].Requests != requests {
			t.Fatalf("%s: %v %s", what, err, canonical(reports[0]))
		}
	}
	if _, err := p.run(); err != nil {
		t.Fatal(err)
	}
	if a, b, c := lastname("u1@example.com"), lastname("u2@example.com"), lastname("u9@example.com"); a != "theirs" || b != "ours" || c != nil {
		t.Fatalf("after the first run the names are %v, %v and %v", a, b, c)
	}
	if got := p.query("SELECT dest_key FROM dray.snapshot_contacts WHERE lastname IS NULL AND theirs IS NOT NULL"); len(got) != 1 || got[0] != "u1@example.com" {
		t.Fatalf("theirs: %v", got)
	}
	step("nothing changed", 0, 0)
	p.exec("UPDATE raw.people SET last = 'changed' WHERE id < 9")
	step("neither ours nor theirs is written again", 0, 0)
	p.exec("UPDATE raw.people SET last = 'late' WHERE id = 9")
	if e := p.plan()[0].Estimate; e.Requests != 2 || e.Minutes <= 0 {
		t.Errorf("the estimate of a look and a write is %+v", e)
	}
	step("nothing was there yet", 1, 2)
	p.exec("UPDATE raw.people SET name = 'new' WHERE id = 1")
	step("another field changed", 1, 1)
	if a, c := lastname("u1@example.com"), lastname("u9@example.com"); a != "theirs" || c != "late" {
		t.Fatalf("the names are %v and %v", a, c)
	}
	p.exec("DELETE FROM raw.people WHERE id IN (1, 2)")
	if _, err := p.run(); err != nil {
		t.Fatal(err)
	}
	if a, b := lastname("u1@example.com"), lastname("u2@example.com"); a != "theirs" || (b != nil && b != "") {
		t.Fatalf("after both left the names are %v and %v", a, b)
	}
}

// A changed key is an update of the record: what changed is sent, and what is written to new records alone is not.
func TestHubSpotRekeySendsWhatChanged(t *testing.T) {
	t.Parallel()
	p, hub := hubspotProject(t, "via: contacts")
	p.write("dray.yaml", strings.Replace(p.read("dray.yaml"), "fields: {firstname: name}",
		"fields: {firstname: name, lastname: {column: name, write: on_add}, phone: {column: phone, nulls: omit}}", 1))
	p.exec("ALTER TABLE raw.people ADD COLUMN phone VARCHAR", "UPDATE raw.people SET phone = '+4512345678'")
	if _, err := p.run(); err != nil {
		t.Fatal(err)
	}
	p.exec("UPDATE raw.people SET email = 'new@example.com', name = 'Another', phone = NULL WHERE id = 1")
	reports, err := p.run()
	if err != nil || reports[0].Delivered.Update != 1 || reports[0].Planned.Total() != 1 {
		t.Fatalf("a changed key: %v %s", err, canonical(reports[0]))
	}
	now := hub.Records("contacts", "")["new@example.com"]
	if now["firstname"] != "Another" || now["lastname"] != "name 1" || now["phone"] != "+4512345678" {
		t.Fatalf("the record is %v", now)
	}
	if got := p.query("SELECT firstname, lastname, phone FROM dray.snapshot_contacts WHERE dest_key = 'new@example.com'"); len(got) != 1 || got[0] != "Anothername 1+4512345678" {
		t.Fatalf("the snapshot has %q", got)
	}
	if reports, err = p.run(); err != nil || reports[0].Requests+reports[1].Requests != 0 {
		t.Fatalf("quiet again: %v %s", err, canonical(reports))
	}
}

// An insert that HubSpot carried out without an answer is refused from then on, because the contact exists: it is found by its own
// key and settled. One that somebody else has made was never sent without an answer: it stays rejected.
func TestHubSpotInsertThatWasNotAnswered(t *testing.T) {
	t.Parallel()
	p, hub := hubspotProject(t, "tags: [none]")
	yaml := p.read("dray.yaml")
	yaml = yaml[:strings.Index(yaml, "  - name: members")] + `  - name: contacts
    model: people
    destination: hub
    object: contacts
    mode: insert
    key: {email: email}
    fields: {firstname: name}
    retry: {attempts: 1}
`
	p.write("dray.yaml", yaml)
	hub.Core().Script(standin.Fault{Match: "/batch/create", Apply: true, Drop: true})
	if rep := p.must(1); rep.Uncertain.Add != 10 {
		t.Fatalf("the answer was lost: %s", canonical(rep))
	}
	before := hub.Core().Total()
	rep := p.must(0)
	if rep.Delivered.Add != 10 || rep.Uncertain.Add != 0 || rep.Rejected.Add != 0 {
		t.Fatalf("the contacts are there: %s", canonical(rep))
	}
	if got := p.query("SELECT DISTINCT origin = 'created', remote_id IS NOT NULL FROM dray.snapshot_contacts"); !slices.Equal(got, []string{"false true"}) {
		t.Errorf("created by us, and a record id: %v", got)
	}
	if hub.Core().Total()-before > 6 {
		t.Errorf("%d requests", hub.Core().Total()-before)
	}
	if rep := p.must(0); rep.Requests != 0 {
		t.Fatalf("quiet: %s", canonical(rep))
	}

	// Another sync's contacts are there before its first try.
	p.write("dray.yaml", strings.ReplaceAll(yaml, "name: contacts", "name: others"))
	if rep := p.must(3); rep.Rejected.Add != 10 || rep.Delivered.Add != 0 {
		t.Fatalf("somebody else's contacts: %s", canonical(rep))
	}
}

// call makes a request of the account's own, as another program would.
func call(t *testing.T, hub standin.StandIn, path, body string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer pat-secret")
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	if hub.Handler().ServeHTTP(w, r); w.Code != http.StatusCreated {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
}

// A field holds the id of a company: found before the row is sent, compared by the value it is found by. A row whose company is not
// there waits for it, and is never sent with nothing in its place.
func TestHubSpotLooksUpRecords(t *testing.T) {
	t.Parallel()
	p, hub := hubspotProject(t, "via: contacts")
	call(t, hub, "/crm/v3/properties/companies", `{"name":"ext_id","label":"x","type":"string","fieldType":"text","groupName":"companyinformation","hasUniqueValue":true}`)
	company := func(ext string) {
		call(t, hub, "/crm/v3/objects/companies/batch/create", `{"inputs":[{"associations":[],"properties":{"name":"n","ext_id":"`+ext+`"}}]}`)
	}
	p.write("dray.yaml", strings.Replace(p.read("dray.yaml"), "fields: {firstname: name}",
		"retry: {attempts: 1}\n    fields: {firstname: name, company: {lookup: {object: companies, by: ext_id, value: account}}}", 1))
	p.exec("ALTER TABLE raw.people ADD COLUMN account VARCHAR", "UPDATE raw.people SET account = 'A' WHERE id IN (1, 2)",
		"UPDATE raw.people SET account = 'B' WHERE id = 3", "UPDATE raw.people SET account = '' WHERE id = 4")
	company("A")
	holds := func(n int) any { return hub.Records("contacts", "")[fmt.Sprintf("u%d@example.com", n)]["company"] }
	remembers := func(n int) string {
		return strings.Join(p.query(fmt.Sprintf("SELECT company FROM dray.snapshot_contacts WHERE dest_key = 'u%d@example.com'", n)), ",")
	}
	step := func(what string, delivered, noRecord, deferred, requests int64) {
		t.Helper()
		reports, err := p.run()
		if c := reports[0]; err != nil || c.Delivered.Total() != delivered || c.Skipped.Reasons["no_record"] != noRecord ||
			c.Deferred.Total() != deferred || requests >= 0 && c.Requests != requests {
			t.Fatalf("%s: %v %s", what, err, canonical(reports[0]))
		}
	}
	step("one company is there", 8, 2, 0, 2)
	id := holds(1)
	if id == nil || id == "A" || holds(2) != id || holds(5) != nil || hub.Records("contacts", "")["u3@example.com"] != nil {
		t.Fatalf("the contacts are %v", hub.Records("contacts", ""))
	}
	if remembers(1) != "A" {
		t.Fatalf("the snapshot has %q", remembers(1))
	}
	step("the other is not there yet", 0, 2, 0, 1)
	company("B")
	step("now it is", 1, 1, 0, 2)
	if other := holds(3); other == nil || other == id || other == "B" {
		t.Fatalf("the third has %v", other)
	}
	p.exec("UPDATE raw.people SET account = NULL WHERE id = 4")
	step("nothing is to be found", 1, 0, 0, 1)
	step("quiet", 0, 0, 0, 0)

	p.exec("UPDATE raw.people SET account = 'gone' WHERE id = 1", "UPDATE raw.people SET name = 'Another' WHERE id = 2")
	step("a changed account that is not there, and a name", 1, 1, 0, 2)
	if holds(1) != id || remembers(1) != "A" || hub.Records("contacts", "")["u2@example.com"]["firstname"] != "Another" {
		t.Fatalf("the first has %v (%s)", holds(1), remembers(1))
	}
	p.exec("UPDATE raw.people SET account = NULL WHERE id = 1")
	step("no account", 1, 0, 0, 1)
	if holds(1) != nil && holds(1) != "" {
		t.Fatalf("the first has %v", holds(1))
	}

	hub.Core().Script(standin.Fault{Match: "/companies/batch/read", Times: -1, Status: 500})
	p.exec("UPDATE raw.people SET account = 'B' WHERE id IN (1, 5)", "UPDATE raw.people SET name = 'Yet another' WHERE id = 2")
	step("no answer about companies", 1, 0, 2, -1)
	hub.Core().Clear()
	hub.Core().RefuseBatch("%%")
	p.exec("UPDATE raw.people SET account = '%%' WHERE id = 6")
	step("a value that HubSpot refuses", 2, 1, 0, 4)
	if holds(1) != holds(3) || holds(5) != holds(3) || holds(6) != nil {
		t.Fatalf("the contacts are %v", hub.Records("contacts", ""))
	}
}

// What HubSpot cannot be asked for is the mapping's fault, told once, and not a row's.
func TestHubSpotLookupOfNothing(t *testing.T) {
	t.Parallel()
	p, hub := hubspotProject(t, "via: contacts")
	p.write("dray.yaml", strings.Replace(p.read("dray.yaml"), "fields: {firstname: name}",
		"fields: {firstname: name, company: {lookup: {object: companies, by: domain, value: name}}}", 1))
	reports, err := p.run()
	if c := reports[0]; err == nil || c.ExitCode != 2 || !strings.Contains(c.Error.Message, "finds no companies by domain") || c.Deferred.Total() != 10 || c.Requests > 12 {
		t.Fatalf("%v %s", err, canonical(reports[0]))
	}
	if n := len(hub.Records("contacts", "")); n != 0 {
		t.Fatalf("%d contacts were sent", n)
	}
}
