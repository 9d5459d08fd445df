package run_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/dray-dev/dray/sync/report"
)

// profilesProject delivers the people of raw.seen who are members as contacts to HubSpot's stand-in.
func profilesProject(t *testing.T) *project {
	t.Helper()
	_, url := hubspotStandIn(t)
	p := newProject(t, fmt.Sprintf(`
name: crm
version: 1
warehouse: {type: duckdb, path: w.duckdb}
sources: [{name: raw, schema: raw, tables: [{name: seen}]}]
models: [{name: seen, sql: "select * from {{ source('raw', 'seen') }}"}]
entities:
  - name: person
    identifiers: [{name: account}, {name: email, normalize: email}]
    inputs: [{from: ref('seen'), identifiers: {account: account, email: email}, at: seen_at}]
    traits:
      - {name: first_name, pick: longest, from: [seen.name]}
      - {name: member, from: seen, value: max(member)}
destinations: [{name: hub, type: hubspot, access_token: "${TOKEN}", base_url: "%s", settle: 0s}]
syncs:
  - name: contacts
    entity: person
    where: {trait: member, eq: 1}
    destination: hub
    object: contacts
    mode: mirror
    key: {email: email}
    fields: {firstname: first_name}
    on_remove: delete
    guard: {max_removes: 100%%}
`, url), nil)
	p.env["TOKEN"] = "pat-secret"
	p.exec("CREATE SCHEMA raw", "CREATE TABLE raw.seen (account VARCHAR, email VARCHAR, name VARCHAR, member INTEGER, seen_at TIMESTAMP)")
	return p
}

// saw adds rows: account, email, member, day of January.
func (p *project) saw(account, email string, member, day int) {
	p.t.Helper()
	p.exec(fmt.Sprintf("INSERT INTO raw.seen VALUES ('%s', '%s', 'Name', %d, TIMESTAMP '2024-01-%02d 10:00:00')", account, email, member, day))
}

// delivers runs the sync and holds what it delivered.
func (p *project) delivers(want report.Counts) {
	p.t.Helper()
	reports, err := p.run()
	if err != nil {
		p.t.Fatal(err)
	}
	if got := reports[0].Delivered; got != want || reports[0].Planned != want {
		p.t.Fatalf("planned %+v, delivered %+v, want %+v", reports[0].Planned, got, want)
	}
}

func (p *project) record(email string) string {
	p.t.Helper()
	ids := p.query("SELECT remote_id FROM dray.snapshot_contacts WHERE dest_key = '" + email + "'")
	if len(ids) != 1 {
		p.t.Fatalf("%s has the records %v", email, ids)
	}
	return ids[0]
}

// A profile that is merged goes on as the other: its record is updated, not removed and made anew.
func TestProfilesThatMerge(t *testing.T) {
	t.Parallel()
	p := profilesProject(t)
	p.saw("a", "a@x.example", 0, 1)
	p.saw("b", "b@x.example", 1, 2)
	p.saw("c", "c@x.example", 1, 3)
	p.delivers(report.Counts{Add: 2})
	b := p.record("b@x.example")

	p.saw("a", "b@x.example", 0, 1) // one person, older as a, still known by the latest address: nothing to send
	p.delivers(report.Counts{})
	p.saw("a", "a@x.example", 0, 4)
	p.delivers(report.Counts{Update: 1})
	if now := p.record("a@x.example"); now != b {
		t.Fatalf("record %s was %s", now, b)
	}

	// Merged into one that has a record of its own: one of two records goes.
	c := p.record("c@x.example")
	p.saw("c", "b@x.example", 0, 1)
	p.delivers(report.Counts{Remove: 1})
	if ids := p.query("SELECT remote_id FROM dray.snapshot_contacts"); !slices.Equal(ids, []string{b}) || b == c {
		t.Fatalf("records %v, want %s alone", ids, b)
	}
	p.delivers(report.Counts{})
}

// The record of a profile that is split may be any of the parts': none of them writes its key into it.
func TestProfilesThatSplit(t *testing.T) {
	t.Parallel()
	for name, runs := range map[string]bool{"with a run between": true, "and who is a member": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := profilesProject(t)
			p.saw("a", "a@x.example", 0, 1)
			p.saw("a", "c@x.example", 0, 2)
			p.saw("c", "c@x.example", 1, 3)
			p.delivers(report.Counts{Add: 1})
			c := p.record("c@x.example")

			p.exec("DELETE FROM raw.seen WHERE account = 'a' AND email = 'c@x.example'")
			if runs {
				p.delivers(report.Counts{}) // c is a profile of its own now, and the same contact
			}
			p.exec("UPDATE raw.seen SET member = 1 - member")
			p.delivers(report.Counts{Add: 1, Remove: 1})
			if a := p.record("a@x.example"); a == c {
				t.Fatal("the record of one person was given to another")
			}
			p.exec("UPDATE raw.seen SET email = 'aa@x.example' WHERE account = 'a'") // a record follows its own profile again
			a := p.record("a@x.example")
			p.delivers(report.Counts{Update: 1})
			if now := p.record("aa@x.example"); now != a {
				t.Fatalf("record %s was %s", now, a)
			}
		})
	}
}
