package build_test

import (
	"strings"
	"testing"

	"github.com/dray-dev/dray/models/build"
	"github.com/dray-dev/dray/models/graph"
)

const ofEachOther = `
sources: [{name: s, tables: [{name: raw_accounts}, {name: raw_people}]}]
models:
  - {name: accounts, primary_key: id, sql: "select * from {{ source('s', 'raw_accounts') }}"}
  - {name: people, primary_key: id, sql: "select * from {{ source('s', 'raw_people') }}"}
entities:
  - name: account
    identifiers: [{name: account_id}]
    inputs:
      - {name: accounts, from: ref('accounts'), identifiers: {account_id: id}}
      - {name: customers, from: profiles('customer'), identifiers: {account_id: account_id}}
    traits:
      - {name: mrr, pick: max, from: [accounts.mrr]}
      - {name: people, from: customers, value: count(*)}
      - {name: spent, from: customers, value: sum(spent)}
  - name: customer
    identifiers: [{name: user_id}]
    relations: [{name: account, entity: account, on: {account_id: account_id}}]
    inputs: [{name: people, from: ref('people'), identifiers: {user_id: id}}]
    traits:
      - {name: account_id, pick: max, from: [people.account]}
      - {name: spent, pick: max, from: [people.spent]}
      - {name: mrr, sql: account.mrr, history: true}
      - {name: colleagues, sql: account.people - 1}
segments:
  - {name: of_two, entity: customer, where: {trait: account.people, eq: 2}}
  - {name: with_rich, entity: account, where: {did: customers, where: spent > mrr}}
destinations: [{name: hook, type: hook}]
syncs:
  - {name: all, entity: customer, where: {not: {trait: account.mrr, gte: 100}}, destination: hook, object: x, mode: upsert, key: {id: user_id}}
`

// Customers know what their account has, and accounts what their customers have, in one build; whatever is asked for, both are whole.
func TestEntitiesOfEachOther(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("create table raw_accounts as select * from (values ('a', 10), ('b', 100)) t(id, mrr)")
	f.exec("create table raw_people as select * from (values (1, 'a', 5), (2, 'a', 20), (3, 'b', 7), (4, 'c', 1), (5, null, 2)) t(id, account, spent)")
	f.yaml(ofEachOther)
	if _, err := build.Explain(t.Context(), f.w, f.compile(f.hooks)); err != nil {
		t.Fatal(err)
	}
	r := f.mustRun(f.hooks, graph.ID("entity.account"))
	if n, ok := r.Node("entity.customer"); !ok || n.Status != build.OK || n.Rows != 5 || n.Identity == nil || n.Identity.Profiles != 5 {
		t.Errorf("customers: %+v", n)
	}
	const customers = "select user_id, coalesce(cast(mrr as varchar), '-'), coalesce(cast(colleagues as varchar), '-') from dray.profiles_customer order by user_id"
	f.expect("select account_id, people, spent from dray.profiles_account order by account_id", "a,2,25;b,1,7;c,1,1")
	f.expect(customers, "1,10,1;2,10,1;3,100,0;4,-,0;5,-,-")
	f.expect("select count(*) from dray.profiles_customer_history where valid_to is null", "3")

	f.exec("update raw_accounts set mrr = 11 where id = 'a'")
	next := f.hooks
	next.AsOf = next.AsOf.AddDate(0, 0, 1)
	f.mustRun(next)
	f.expect(customers, "1,11,1;2,11,1;3,100,0;4,-,0;5,-,-")
	f.expect("select count(*), count(valid_to) from dray.profiles_customer_history", "5,2")
	f.expect("select count(*) from dray.segment_of_two", "2")
	f.expect("select count(*) from dray.segment_with_rich", "1")
	f.expect("select count(*) from dray.profiles_customer where updated_at > timestamp '2026-01-03'", "2")
	s := f.compile(next).Syncs["all"]
	if err := s.Bind(t.Context(), f.w); err != nil {
		t.Fatal(err)
	}
	f.expect("select user_id from ("+s.Input+") as q order by user_id", "1;2;4;5")

	// What a build beside makes is the same, and leaves the history alone.
	next.Scratch, next.AsOf = true, next.AsOf.AddDate(0, 0, 1)
	f.mustRun(next)
	f.expect(strings.Replace(customers, "dray.", "dray_scratch.", 1), "1,11,1;2,11,1;3,100,0;4,-,0;5,-,-")
	f.expect("select count(*), count(valid_to) from dray.profiles_customer_history", "5,2")
}
