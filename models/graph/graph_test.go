package graph_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/graph"
)

// load reads a project of one dray.yaml below a common head, and of other files.
func load(t *testing.T, yaml string, files ...string) *config.Project {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("dray.yaml", "name: t\nversion: 1\nvars: {n: 5}\n")
	write("p.yaml", yaml)
	for i := 0; i < len(files); i += 2 {
		write(files[i], files[i+1])
	}
	p, err := config.Load(dir, config.Options{Env: func(name string) (string, bool) { return "secret", name == "TOKEN" }})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func crm() destination.Spec {
	settle := time.Duration(0)
	return destination.Spec{
		Type: "crm", Settle: &settle,
		Config: []destination.Option{
			{Name: "token", Type: "string", Secret: true, Required: true, Doc: "the access token"},
			{Name: "batch", Type: "int", Default: "10"},
			{Name: "region", Type: "string", Enum: []string{"eu", "us"}},
			{Name: "wait", Type: "duration"},
			{Name: "headers", Type: "map"},
			{Name: "dry", Type: "bool"},
		},
		Objects: []destination.Object{
			{
				Name: "contacts", Modes: []destination.Mode{destination.Upsert, destination.Mirror, destination.Update},
				Removes: []string{"delete", "clear", "set", "archive"}, Keys: []destination.Key{{Name: "email"}, {Name: "ext_id"}},
				Fields: []destination.Field{{Name: "firstname"}, {Name: "lifecyclestage"}, {Name: "created_at", ReadOnly: true}},
			},
			{
				Name: "members", Modes: []destination.Mode{destination.Mirror}, DefaultRemove: "delete", Removes: []string{"delete", "ignore"},
				Keys: []destination.Key{{Name: "email"}}, MembersByID: true, Membership: true,
				Options: []destination.Option{{Name: "list", Type: "string", Required: true, Doc: "the list"}, {Name: "create", Type: "bool"}},
			},
		},
	}
}

func hook() destination.Spec {
	return destination.Spec{Type: "hook", AnyObject: true, Objects: []destination.Object{{
		Name: "*", Modes: []destination.Mode{destination.Upsert, destination.Insert, destination.Mirror}, Removes: []string{"delete"},
		AnyKey: true, OpenFields: true, AnyRemove: true,
	}}}
}

func specs(typ string) (destination.Spec, bool) {
	s, ok := map[string]destination.Spec{"crm": crm(), "hook": hook()}[typ]
	return s, ok
}

const shop = `
sources:
  - {name: shop, tables: [{name: orders}], files: {events: data/events.csv}}
models:
  - {name: customers, primary_key: id, sql: "select 1 as id", tags: [core]}
  - {name: orders, sql: "select * from {{ source('shop', 'orders') }} join {{ ref('customers') }}"}
entities:
  - name: customer
    identifiers: [{name: user_id}, {name: email, normalize: email}, {name: device, column: none}]
    inputs:
      - {name: orders, from: ref('orders'), identifiers: {user_id: id}, at: ts}
      - {from: "source('shop', 'events')", identifiers: {device: d}, at: ts}
    traits:
      - {name: ltv, from: orders, value: sum(amount), default: 0}
segments:
  - {name: vips, entity: customer, where: {trait: ltv, gt: "{{ var('n') }}"}, tags: [core, vip]}
  - {name: vip_visitors, entity: customer, where: {all: [{in: vips}, {did: events}]}}
destinations:
  - {name: crm, type: crm, token: "${TOKEN}"}
  - {name: hook, type: hook}
`

const secondEntity = "entities:\n  - {name: e2, identifiers: [{name: id}]}\n"

// syncs is the shop with one more sync to the CRM.
func withSync(keys string) string {
	return shop + "syncs:\n  - name: s\n    " + strings.ReplaceAll(strings.TrimSpace(keys), "\n", "\n    ") + "\n"
}

// oneEntity has the inputs x, without a time, and y; its traits may follow, from line 7.
const oneEntity = "sources: [{name: r, tables: [{name: x}, {name: y}]}]\nentities:\n  - name: e\n    identifiers: [{name: id}]\n" +
	"    inputs: [{from: \"source('r', 'x')\", identifiers: {id: id}}, {from: \"source('r', 'y')\", identifiers: {id: id}, at: ts}]\n"

func TestProblems(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		yaml  string
		files []string
		want  []string
	}{
		"identifiers of an input": {
			yaml: "entities: [{name: e, identifiers: [{name: email}], inputs: [{from: ref('m'), identifiers: {emale: x}}, {name: q, from: ref('m'), identifiers: {}}]}]\nmodels: [{name: m, sql: select 1}]",
			want: []string{
				`p.yaml:1:99: entity "e" has no identifier "emale" (there are email)`,
				`p.yaml:1:143: input "q" names no identifier, so nobody knows whose its rows are (identifiers: {email: COLUMN})`,
			},
		},
		"whose refused values are lent": {
			yaml: "entities:\n  - name: e\n    identifiers:\n      - {name: a, on_refused: first}\n      - {name: b, on_refused: latest}\n      - {name: c, on_refused: latest}\n      - {name: d, on_refused: none}\n" +
				"    inputs: [{from: ref('m'), identifiers: {a: x, b: y}}, {name: q, from: ref('m'), at: t, identifiers: {c: x}}, {name: l, link: false, from: ref('m'), at: t, identifiers: {a: x, b: x, c: x}}]\nmodels: [{name: m, sql: select 1}]",
			want: []string{
				`p.yaml:4:31: identifier "a" is the most trusted one: its values are met with no profile of a more trusted`,
				`p.yaml:5:31: latest needs a time, and no input that has "b" beside a more trusted identifier has one (say at: COLUMN in the input)`,
				`p.yaml:6:31: no input has "c" beside a more trusted identifier, so it is met with nobody`,
			},
		},
		"fields that nest": {
			yaml: withSync("entity: customer\ndestination: hook\nobject: people\nmode: upsert\nkey: {id: user_id}\nfields:\n  a: ltv\n  a.b: email\n  c..d: email\n  e\\.f: email\n  e: email"),
			want: []string{`field "a" cannot be a value and hold "a.b" (a dot that belongs to the name is written \.)`, `field "c..d": a dot nests, and a part beside it is empty`},
		},
		"lookup": {
			yaml: withSync("entity: customer\ndestination: hook\nobject: people\nmode: upsert\nkey: {id: user_id}\nfields:\n  a: {lookup: {object: Account, by: Ext_Id__c, value: ltvv}}"),
			want: []string{
				`field "a" looks up a record, and a destination of type hook cannot be asked for one (send a column that holds the id)`,
				`profiles of "customer" have no column "ltvv" (did you mean ltv?)`,
			},
		},
		"none of a kind": {
			yaml: "segments: [{name: s, entity: c, where: \"true\"}]",
			want: []string{`p.yaml:1:30: there is no entity "c" (the project has no entities)`},
		},
		"no identifiers": {
			yaml: "models: [{name: m, sql: select 1 as id}]\nentities: [{name: e, inputs: [{from: ref('m'), identifiers: {id: id}}]}]",
			want: []string{`p.yaml:2:19: entity "e" has no identifiers`},
		},
		"time zone of a source": {
			yaml: "sources: [{name: s, timezone: Europe/Copenhagn, tables: [{name: t}]}, {name: l, timezone: Local}]",
			want: []string{`p.yaml:1:31: there is no time zone "Europe/Copenhagn"`, `there is no time zone "Local"`},
		},
		"dangling ref": {
			yaml: shop, files: []string{"models/m.sql", "select *\nfrom {{ ref('ordrs') }}"},
			want: []string{`models/m.sql:2:9: there is no model "ordrs" (did you mean orders?)`},
		},
		"ref of a source": {
			yaml: shop, files: []string{"models/m.sql", "select * from {{ ref('events') }}"},
			want: []string{`models/m.sql:1:18: there is no model "events" (did you mean source('shop', 'events')?)`},
		},
		"dangling source": {
			yaml: shop, files: []string{"models/m.sql", "select * from {{ source('shop', 'order') }}"},
			want: []string{`models/m.sql:1:18: there is no source table "shop.order" (did you mean shop.orders?)`},
		},
		"ref in one branch": {
			yaml: shop, files: []string{"models/m.sql", "select 1 {% if is_incremental() %} from {{ ref('gone') }} {% endif %}"},
			want: []string{`models/m.sql:1:44: there is no model "gone"`},
		},
		"in a block of YAML": {
			yaml: "models:\n  - name: m\n    sql: |\n      select *\n      from {{ reff('x') }}\n",
			want: []string{`p.yaml:5:15: there is no function or macro "reff" (did you mean ref?)`},
		},
		"cycle": {
			yaml: "models:\n  - {name: a, sql: \"select * from {{ ref('c') }}\"}\n  - {name: b, sql: \"select * from {{ ref('a') }}\"}\n  - {name: c, sql: \"select * from {{ ref('b') }}\"}\n",
			want: []string{"these read each other in a circle: a → b → c → a (one of them must do without the other)"},
		},
		"cycle over kinds": {
			yaml: "models:\n  - {name: m, sql: \"select * from {{ profiles('e') }}\"}\nentities:\n  - {name: e, identifiers: [{name: id}], inputs: [{name: m, from: ref('m'), identifiers: {id: id}}]}\n",
			want: []string{"entity e → model m → entity e"},
		},
		"reads itself": {
			yaml: "models:\n  - {name: a, sql: \"select * from {{ ref('a') }}\"}\n",
			want: []string{`model "a" reads itself (the relation a model builds is {{ this }}, inside {% if is_incremental() %})`},
		},
		"segments in a circle": {
			yaml: "entities:\n  - {name: e, identifiers: [{name: id}]}\nsegments:\n  - {name: a, entity: e, where: {in: b}}\n  - {name: b, entity: e, where: {not: {in: a}}}\n",
			want: []string{"these read each other in a circle: a → b → a"},
		},
		"input": {
			yaml: "entities:\n  - {name: e, identifiers: [{name: id}], inputs: [{from: ref('nope'), identifiers: {id: id}}, {name: x, from: 'a b', identifiers: {id: id}}]}\n",
			want: []string{`p.yaml:2:58: there is no model "nope" (the project has no models)`, `"a b" is not a relation (write ref('model')`},
		},
		"trait's input": {
			yaml: strings.Replace(shop, "from: orders, value", "from: order, value", 1),
			want: []string{`entity "customer" has no input "order" (did you mean orders?)`},
		},
		"did of no input": {
			yaml: strings.Replace(shop, "did: events", "did: customers", 1),
			want: []string{`entity "customer" has no input "customers" (add to its inputs: - {name: customers, from: ref('customers'), identifiers: {user_id: COLUMN}, at: COLUMN})`},
		},
		"trait": {
			yaml: strings.Replace(shop, "trait: ltv, gt", "trait: lvt, gt", 1),
			want: []string{`entity "customer" has no trait or identifier "lvt" (did you mean ltv?)`},
		},
		"segment's entity": {
			yaml: strings.Replace(shop, "vips, entity: customer", "vips, entity: custmer", 1),
			want: []string{`there is no entity "custmer" (did you mean customer?)`},
		},
		"in": {
			yaml: strings.Replace(shop, "in: vips", "in: vipz", 1),
			want: []string{`there is no segment "vipz" (did you mean vips?)`},
		},
		"exclusive": {
			yaml: shop, files: []string{"s.yaml", "segments:\n  - {name: a, entity: customer, exclusive: [vips, vipz]}\n  - {name: b, entity: e2, exclusive: [vips]}\n" + secondEntity},
			want: []string{`s.yaml:2:44: there is no segment "vipz" (did you mean vips?)`, `s.yaml:3:38: segment "vips" is of entity "customer", not of "e2"`},
		},
		"exclusive in a circle": {
			yaml: shop, files: []string{"s.yaml", "segments:\n  - {name: a, entity: customer, exclusive: [a, b]}\n  - {name: b, entity: customer, exclusive: [b, a]}\n"},
			want: []string{"these read each other in a circle: a → b → a"},
		},
		"top by no trait": {
			yaml: shop, files: []string{"s.yaml", "segments:\n  - {name: a, entity: customer, top: 10% by lvt}\n"},
			want: []string{`s.yaml:2:38: entity "customer" has no trait or identifier "lvt" (did you mean ltv?)`},
		},
		"window without a time": {
			yaml: "sources: [{name: r, tables: [{name: x}, {name: y}]}]\nentities:\n  - name: e\n    identifiers: [{name: id}]\n    inputs: [{from: \"source('r', 'x')\", identifiers: {id: id}}, {from: \"source('r', 'y')\", identifiers: {id: id}, at: ts}]\nsegments:\n" +
				"  - {name: a, entity: e, where: {did: x, within: 3d}}\n  - {name: b, entity: e, where: {did: x, then: {did: y}}}\n" +
				"  - {name: c, entity: e, where: {did: y, and_not_since: {did: x, within: 3d}}}\n  - {name: d, entity: e, where: {not: {did: y, then: {did: x}}}}\n  - {name: f, entity: e, where: {did: x}}\n",
			want: []string{
				"p.yaml:7:50: input x has no at:, and this needs to know when (add at: with the column that says when to input x)",
				"p.yaml:8:48: input x has no at:", "p.yaml:9:74: input x has no at:", "p.yaml:10:60: input x has no at:",
			},
		},
		"traits that need each other": {
			yaml: oneEntity + "    traits:\n      - {name: a, sql: b + 1}\n      - {name: b, quintile: c}\n      - {name: c, sql: \"{{ 'a' }} * 2 -- b\"}\n      - {name: d, sql: \"'d' || length(c)\"}\n      - {name: length, sql: length(id)}\n",
			want: []string{"p.yaml:7:24: traits need each other: a → b → c → a (one of them must do without the other)"},
		},
		"windows of traits without a time": {
			yaml: oneEntity + "    traits:\n      - {name: a, from: x, value: count(*), within: 30 days}\n      - {name: b, pick: max, from: [y.v, x.v], max_age: 3d}\n" +
				"      - {name: c, pick: most_recent, from: [x.v]}\n      - {name: d, pick: most_recent, from: [x.v, y.v]}\n      - {name: f, pick: max, from: [x.v]}\n      - {name: g, quintile: aa}\n",
			want: []string{
				"p.yaml:7:53: input x has no at:, and this needs to know when (add at: with the column that says when to input x)",
				"p.yaml:8:57: input x has no at:", "p.yaml:9:25: pick: most_recent needs to know when, and input x has no at:",
				`p.yaml:12:29: entity "e" has no trait or identifier "aa" (did you mean a?)`,
			},
		},
		"relations": {
			yaml: "entities:\n  - name: e\n    identifiers: [{name: id}, {name: firm_id}]\n    relations:\n      - {name: firm, entity: firm, on: {firm_id: idd}}\n      - {name: x, entity: firms, on: {firm_id: id}}\n      - {name: y, entity: firm, on: {frm_id: id}}\n" +
				"    traits: [{name: a, sql: \"coalesce(firm.sise, x.z, y.size)\"}]\n  - name: firm\n    identifiers: [{name: id}]\n    traits: [{name: size, sql: \"1\"}]\n" +
				"segments:\n  - {name: s, entity: e, where: {any: [{trait: firm.sise, gt: 1}, {trait: firm.size, gt: 1}, {trait: frm.size, gt: 1}]}}\n  - {name: t, entity: firm, where: {trait: e.id, eq: 1}}\n",
			want: []string{
				`p.yaml:5:50: entity "firm" has no identifier "idd" (did you mean id?)`, `p.yaml:6:27: there is no entity "firms" (did you mean firm?)`,
				`p.yaml:7:46: entity "e" has no trait or identifier "frm_id" (did you mean firm_id?)`,
				`p.yaml:8:29: entity "firm" has no trait or identifier "sise" (did you mean size?)`,
				`p.yaml:13:48: entity "firm" has no trait or identifier "sise"`, `p.yaml:13:102: entity "e" has no relation "frm" (did you mean firm?)`,
				`p.yaml:14:44: entity "firm" has no relation "e" (add to it: relations: [{name: e, entity: ENTITY, on: {OWN_COLUMN: ITS_IDENTIFIER}}])`,
			},
		},
		"entities in a circle": {
			yaml: "entities:\n  - name: e\n    identifiers: [{name: id}]\n    relations: [{name: firm, entity: firm, on: {id: id}}]\n    traits: [{name: size, sql: firm.size}]\n" +
				"  - name: firm\n    identifiers: [{name: id}]\n    inputs: [{name: people, from: ref('m'), identifiers: {id: id}}]\n    traits: [{name: size, from: people, value: count(*)}]\n" +
				"models:\n  - {name: m, sql: \"select * from {{ profiles('e') }}\"}\n",
			want: []string{"p.yaml:2:5: these read each other in a circle: entity e → model m → entity firm → entity e"},
		},
		"entities that need each other's profiles as a whole": {
			yaml: "entities:\n  - name: e\n    identifiers: [{name: id}]\n    relations: [{name: firm, entity: firm, on: {id: id}}]\n    traits: [{name: size, sql: firm.size}]\n" +
				"    inputs: [{name: firms, from: profiles('firm'), identifiers: {id: id}}]\n" +
				"  - name: firm\n    identifiers: [{name: id}]\n    inputs: [{name: people, from: profiles('e'), identifiers: {id: id}}]\n    traits: [{name: size, from: people, value: count(*)}]\n",
			want: []string{"these read each other in a circle: e → firm → e"},
		},
		"never sent, through relations": {
			yaml: "sources: [{name: r, tables: [{name: x, columns: {n: {never_send: true}}}, {name: y}]}]\nentities:\n" +
				"  - name: e\n    identifiers: [{name: id}]\n    relations: [{name: firm, entity: firm, on: {id: id}}]\n    inputs: [{name: x, from: \"source('r', 'x')\", identifiers: {id: id}}]\n" +
				"    traits: [{name: n, pick: max, from: [x.n]}, {name: fifth, quintile: n}, {name: rating, sql: firm.rating}, {name: half, sql: rating / 2}, {name: size, sql: firm.size}]\n" +
				"  - name: firm\n    identifiers: [{name: id}]\n    inputs: [{name: people, from: profiles('e'), identifiers: {id: id}}]\n" +
				"    traits: [{name: rating, from: people, value: sum(n)}, {name: size, from: people, value: count(*)}]\n" +
				"destinations: [{name: hook, type: hook}]\nsyncs:\n" +
				"  - {name: a, entity: e, destination: hook, object: a, mode: upsert, key: {id: id}, fields: {f: fifth, h: half, s: size}}\n" +
				"  - {name: b, entity: firm, destination: hook, object: b, mode: upsert, key: {id: id}, fields: {r: rating, s: size}}\n",
			want: []string{`field "f" of sync "a" would send r.x.n`, `field "h" of sync "a" would send r.x.n`, `field "r" of sync "b" would send r.x.n`},
		},
		"an entity that reads itself": {
			yaml: "entities:\n  - name: e\n    identifiers: [{name: id}, {name: friend}]\n    relations: [{name: friend_, entity: e, on: {friend: id}}]\n    traits: [{name: a, sql: friend_.id}]\n",
			want: []string{`entity "e" reads its own profiles while they are made (a relation to itself may be used in conditions`},
		},
		"sent": {
			yaml: withSync("segment: vips\nwhere: {all: [{sent: ss}, {sent: m}, {sent: other}, {sent: s, within: 91d}, {sent: s, within: 90d}]}\ndestination: hook\nobject: any\nmode: upsert\nkey: {id: profile_id}") +
				"  - {name: m, model: customers, destination: hook, object: y, mode: upsert, key: {id: id}}\n" +
				"  - {name: other, entity: e2, destination: hook, object: z, mode: upsert, key: {id: profile_id}}\n",
			files: []string{"e.yaml", secondEntity},
			want: []string{
				`there is no sync "ss"`, `sync "m" delivers rows of a model, and nobody knows whose they are (name a sync of a segment or an entity)`,
				`sync "other" delivers profiles of entity "e2", not of "customer"`, "p.yaml:24:75: what was sent is forgotten before that (retention: in dray.yaml says how long it is kept)",
			},
		},
		"variable in a condition": {
			yaml: strings.Replace(shop, "var('n')", "var('m')", 1),
			want: []string{`there is no variable "m"`},
		},
		"reserved name": {
			yaml: "models:\n  - {name: snapshot_x, sql: select 1}\n  - {name: lock_y, table: \"source('a', 'b')\"}\nsources: [{name: a, tables: [{name: b}]}]\n",
			want: []string{`p.yaml:2:12: a model cannot be named "snapshot_x": names that begin with snapshot_ are kept for Dray's own tables (choose another name)`},
		},
		"relationships": {
			yaml: "models:\n  - {name: a, sql: select 1 as x, tests: {relationships: {x: b.id}}}\n  - {name: c, sql: select 1 as x, tests: {relationships: {x: a}}}\n",
			want: []string{`there is no model "b"`, `a relationship is written x: model.column, not "a"`},
		},
		"sql test": {
			yaml: "models:\n  - {name: a, sql: select 1, tests: {sql: [\"select * from {{ ref('zzzz') }}\"]}}\n",
			want: []string{`there is no model "zzzz"`},
		},
		"destination": {
			yaml: "destinations:\n  - {name: a, type: crn}\n  - {name: b, type: crm, token: abc, region: eux, batch: many, wait: soon, headers: [a], dry: 1, tokn: x}\n  - {name: c, type: crm}\n",
			want: []string{
				`p.yaml:2:21: there is no destination type "crn"`,
				`p.yaml:3:33: destination "b" (crm): token is a secret and may not stand in the file (write token: "${TOKEN}" and set the variable)`,
				`p.yaml:3:46: destination "b" (crm): region must be one of eu, us (did you mean eu?)`,
				`p.yaml:3:58: destination "b" (crm): batch must be a whole number`, `wait must be a duration`, `headers must be a map of texts`, `dry must be true or false`,
				`destination "b" (crm): there is no option "tokn" (did you mean token?)`, `p.yaml:4:5: destination "c" (crm): token is missing (the access token)`,
			},
		},
		"sync of nothing": {
			yaml: withSync("segment: vps\ndestination: cmr\nobject: contacts\nmode: upsert\nkey: {email: email}"),
			want: []string{`there is no segment "vps" (did you mean vips?)`, `there is no destination "cmr" (did you mean crm?)`},
		},
		"sync of a model by the wrong kind": {
			yaml: withSync("model: vips\ndestination: crm\nobject: contacts\nmode: upsert\nkey: {email: email}"),
			want: []string{`there is no model "vips" ("vips" is a segment)`},
		},
		"object": {
			yaml: withSync("segment: vips\ndestination: crm\nobject: contact\nmode: upsert\nkey: {email: email}"),
			want: []string{`crm has no object "contact" (did you mean contacts?)`},
		},
		"mapping": {
			yaml: withSync("segment: vips\ndestination: crm\nobject: contacts\nmode: insert\noptions: {list: x}\nkey: {mail: email}\nfields: {fistname: ltv, created_at: ltv, lifecyclestage: ltvv}"),
			want: []string{
				"crm contacts cannot be written in mode insert (it takes upsert, mirror, update)", `crm contacts cannot be found by "mail" (did you mean email?)`,
				`crm contacts has no field "fistname" (did you mean firstname?)`, `field "created_at" of crm contacts is read-only`,
				`options of sync "s": there is no option "list"`, `profiles of "customer" have no column "ltvv" (did you mean ltv?)`,
			},
		},
		"object's options": {
			yaml: withSync("segment: vips\ndestination: crm\nobject: members\nmode: mirror\noptions: {create: maybe}\nkey: {email: email}"),
			want: []string{`options of sync "s": list is missing (the list)`, `options of sync "s": create must be true or false`},
		},
		"mirror says nothing of removes": {
			yaml: withSync("segment: vips\ndestination: crm\nobject: contacts\nmode: mirror\nkey: {email: email}"),
			want: []string{`sync "s" mirrors crm contacts and must say what becomes of rows that left (add on_remove: delete | clear | set | archive)`},
		},
		"remove": {
			yaml: withSync("segment: vips\ndestination: crm\nobject: members\noptions: {list: a}\nmode: mirror\nkey: {email: email}\non_remove: clear"),
			want: []string{"crm members cannot do on_remove: clear (it can delete, ignore)"},
		},
		"action": {
			yaml: withSync("segment: vips\ndestination: crm\nobject: contacts\nmode: mirror\nkey: {email: email}\non_remove: {action: archve}"),
			want: []string{"crm contacts cannot do on_remove: archve"},
		},
		"via": {
			yaml: withSync("segment: vips\ndestination: crm\nobject: members\noptions: {list: a}\nmode: mirror\nkey: {email: email}\nvia: other") + "  - {name: other, entity: customer, destination: hook, object: x, mode: upsert, key: {id: profile_id}, via: gone}\n",
			want: []string{`via must name a sync to the same destination: "other" delivers to "hook", this one to "crm"`, `there is no sync "gone"`},
		},
		"field conflict": {
			yaml: withSync("segment: vips\ndestination: crm\nobject: contacts\nmode: upsert\nkey: {email: email}\nfields: {firstname: ltv}") +
				"  - {name: o, entity: customer, destination: crm, object: contacts, mode: upsert, key: {email: email}, fields: {firstname: email}}\n",
			want: []string{`syncs "s" and "o" both map field "firstname" of crm contacts (say which one yields: owner: [s] in "o")`},
		},
		"owner": {
			yaml: withSync("segment: vips\ndestination: crm\nobject: contacts\nmode: upsert\nkey: {email: email}\nowner: [nobody]"),
			want: []string{`there is no sync "nobody"`},
		},
		"no primary key": {
			yaml: withSync("model: orders\ndestination: hook\nobject: x\nmode: upsert\nkey: {id: id}"),
			want: []string{`model "orders" has no primary_key, so its rows cannot be told apart (add primary_key: to the model)`},
		},
		"schedule": {
			yaml: withSync("segment: vips\ndestination: hook\nobject: x\nmode: upsert\nkey: {id: email}\nschedule: every day\ntimezone: Europe/Copenhagn"),
			want: []string{`the schedule "every day" does not parse`, `there is no time zone "Europe/Copenhagn"`},
		},
		"segments of a model's field": {
			yaml: withSync("model: customers\ndestination: hook\nobject: x\nmode: upsert\nkey: {id: id}\nfields: {in: {segments: [vips, vipps]}}"),
			want: []string{`field "in" lists segments, but the rows of a model are no profiles`, `there is no segment "vipps" (did you mean vips?)`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := graph.Resolve(load(t, c.yaml, c.files...), specs)
			var list diag.List
			list.Add(err)
			for _, want := range c.want {
				if !slices.ContainsFunc(list, func(e *diag.Error) bool { return strings.Contains(e.Error(), want) && e.Pos.Line > 0 }) {
					t.Errorf("no error with a place says\n%s\nbut\n%v", want, err)
				}
			}
			if len(list) != len(c.want) {
				t.Errorf("%d errors, want %d:\n%v", len(list), len(c.want), err)
			}
		})
	}
}

// Two entities may read each other where one does so through a relation: its profiles come last, after what the other reads of them.
func TestEntitiesOfEachOther(t *testing.T) {
	t.Parallel()
	g, err := graph.Resolve(load(t, "sources: [{name: r, tables: [{name: x, columns: {n: {never_send: true}}}]}]\nentities:\n  - name: e\n    identifiers: [{name: id}]\n    relations: [{name: firm, entity: firm, on: {id: id}}]\n"+
		"    inputs: [{name: x, from: \"source('r', 'x')\", identifiers: {id: id}}]\n    traits: [{name: of_firm, sql: firm.size}, {name: twice, sql: of_firm * 2}, {name: n, pick: max, from: [x.n]}, {name: fifth, quintile: twice}]\n"+
		"  - name: firm\n    identifiers: [{name: id}]\n    inputs: [{name: people, from: profiles('e'), identifiers: {id: id}}]\n    traits: [{name: size, from: people, value: sum(n)}]\n"+
		"segments:\n  - {name: s, entity: e, where: {trait: twice, gt: 1}}\n  - {name: t, entity: firm, where: {did: people}}\n"), specs)
	if err != nil {
		t.Fatal(err)
	}
	e, firm := g.Node(graph.Entity, "e"), g.Node(graph.Entity, "firm")
	if !slices.Equal(e.Parents, []graph.ID{"entity.firm", "source.r.x"}) || !slices.Equal(firm.Parents, []graph.ID{"source.r.x"}) || !slices.Equal(firm.OwnOf, []graph.ID{"entity.e"}) {
		t.Errorf("parents of e %v, of firm %v, which reads ahead of %v", e.Parents, firm.Parents, firm.OwnOf)
	}
	if of := g.Node(graph.Segment, "t").Parents; !slices.Equal(of, []graph.ID{"entity.e", "entity.firm"}) {
		t.Errorf("what counts people of firms reads %v", of)
	}
	own := g.Own(e.Entity)
	if len(own.Traits) != 1 || own.Traits[0].Name != "n" || len(e.Entity.Traits) != 4 {
		t.Errorf("its own traits are %v", own.Traits)
	}
}

func TestGoodProject(t *testing.T) {
	t.Parallel()
	g, err := graph.Resolve(load(t, withSync("segment: vips\nwhere: {in: vip_visitors}\ndestination: hook\nobject: any\nmode: mirror\nkey: {id: profile_id}\nfields: {a: {sql: \"ltv + {{ var('n') }}\"}, since: entered_at}\non_remove: {action: whatever}")), specs)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[graph.ID]string{
		"model.orders":         "[model.customers source.shop.orders]",
		"entity.customer":      "[model.orders source.shop.events]",
		"segment.vip_visitors": "[entity.customer segment.vips]",
		"sync.s":               "[entity.customer segment.vip_visitors segment.vips]",
		"destination.hook":     "[sync.s]",
	} {
		if got := names(g.Nodes[id].Parents); got != want {
			t.Errorf("%s reads %s, want %s", id, got, want)
		}
	}
	if got := names(g.Ancestors("segment.vips")); got != "[model.customers source.shop.events source.shop.orders model.orders entity.customer segment.vips]" &&
		got != "[source.shop.events source.shop.orders model.customers model.orders entity.customer segment.vips]" {
		t.Errorf("got %s", got)
	}
}

func names(ids []graph.ID) string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(id)
	}
	return "[" + strings.Join(out, " ") + "]"
}

func TestConfigTypes(t *testing.T) {
	t.Parallel()
	p := load(t, "destinations:\n  - {name: a, type: crm, token: \"${TOKEN}\", batch: 7, wait: 5m, headers: {a: b}, dry: true, base_url: http://x, settle: 1s}\n")
	got, problems := graph.DestinationConfig(p.Destinations[0], crm())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	wait, _ := got.Duration("wait")
	if got.String("token") != "secret" || got.Int("batch") != 7 || wait != 5*time.Minute || got.Map("headers")["a"] != "b" || !got.Bool("dry") {
		t.Errorf("got %v", got)
	}
	p.Destinations[0].Options = map[string]any{"token": "x"}
	if got, _ = graph.DestinationConfig(p.Destinations[0], crm()); got.Int("batch") != 10 {
		t.Errorf("no default: %v", got)
	}
}

func TestSelect(t *testing.T) {
	t.Parallel()
	g, err := graph.Resolve(load(t, withSync("segment: vips\ndestination: hook\nobject: any\nmode: upsert\nkey: {id: profile_id}\ntags: [nightly]")), specs)
	if err != nil {
		t.Fatal(err)
	}
	sync := []graph.Kind{graph.Sync}
	for name, c := range map[string]struct {
		include, exclude []string
		kinds            []graph.Kind
		want             string
	}{
		"name":           {include: []string{"vips"}, want: "segment.vips"},
		"names":          {include: []string{"vips s"}, want: "segment.vips sync.s"},
		"all of a kind":  {kinds: sync, want: "sync.s"},
		"kind":           {include: []string{"segment:vips"}, want: "segment.vips"},
		"id":             {include: []string{"model.orders"}, want: "model.orders"},
		"tag":            {include: []string{"tag:core"}, want: "model.customers segment.vips"},
		"glob":           {include: []string{"vip*"}, want: "segment.vips segment.vip_visitors"},
		"both":           {include: []string{"tag:core,vip*"}, want: "segment.vips"},
		"source":         {include: []string{"source:shop"}, want: "source.shop.events source.shop.orders"},
		"source table":   {include: []string{"shop.orders"}, want: "source.shop.orders"},
		"up":             {include: []string{"+orders"}, want: "model.customers source.shop.orders model.orders"},
		"one up":         {include: []string{"1+vips"}, want: "entity.customer segment.vips"},
		"down":           {include: []string{"vips+"}, want: "segment.vips segment.vip_visitors sync.s destination.hook"},
		"one down":       {include: []string{"vips+1"}, want: "segment.vips segment.vip_visitors sync.s"},
		"down to a kind": {include: []string{"customers+"}, kinds: sync, want: "sync.s"},
		"exclude":        {include: []string{"vip*"}, exclude: []string{"vip_visitors"}, want: "segment.vips"},
		"exclude only":   {exclude: []string{"tag:nightly"}, kinds: sync, want: ""},
		"twice":          {include: []string{"vips", "tag:vip"}, want: "segment.vips"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes, err := g.Select(c.include, c.exclude, c.kinds...)
			if err != nil {
				t.Fatal(err)
			}
			var got, want []string
			for _, n := range nodes {
				got = append(got, string(n.ID))
			}
			want = strings.Fields(c.want)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	for selector, want := range map[string]string{
		"vipss": `there is no sync "vipss"`, "vips": `there is no sync "vips" ("vips" is a segment; vips+ means what reads it)`, "tag:nightl": `nothing is tagged "nightl" (did you mean nightly?)`,
		"synk:s": "there is no selector synk: (did you mean sync?)", "x*": `no sync matches "x*"`, "sync:t": `there is no sync "t" (there are s)`, "+": `"+" is not a selector`,
		"+nothing": `there is no name "nothing"`,
	} {
		if _, err := g.Select([]string{selector}, nil, graph.Sync); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", selector, err, want)
		}
	}
}

// Whatever refers to whatever: parents come first, ancestors are closed, and a circle is always found.
func TestOrderLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const letters = "abcdefg"
		n := rapid.IntRange(1, len(letters)).Draw(t, "models")
		edges := map[string][]string{}
		p := &config.Project{Schema: "dray"}
		for i := range n {
			name := letters[i : i+1]
			var sql strings.Builder
			sql.WriteString("select 1")
			for _, j := range rapid.SliceOfNDistinct(rapid.IntRange(0, n-1), 0, min(2, n), rapid.ID[int]).Draw(t, "reads") {
				edges[name] = append(edges[name], letters[j:j+1])
				sql.WriteString(" {{ ref('" + letters[j:j+1] + "') }}")
			}
			p.Models = append(p.Models, &config.Model{Name: name, SQL: sql.String()})
		}
		g, err := graph.Resolve(p, nil)
		if circular(edges) {
			if err == nil {
				t.Fatalf("no circle found in %v", edges)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		at := map[string]int{}
		for i, node := range g.Order() {
			at[node.Name] = i
		}
		for name, reads := range edges {
			for _, r := range reads {
				if at[r] >= at[name] {
					t.Fatalf("%s comes after %s in %v", r, name, at)
				}
			}
		}
		for _, node := range g.Order() {
			ancestors := g.Ancestors(node.ID)
			selected, err := g.Select([]string{"+" + node.Name}, nil)
			if err != nil || len(selected) != len(ancestors) {
				t.Fatalf("+%s selects %d, has %d ancestors, %v", node.Name, len(selected), len(ancestors), err)
			}
			for _, id := range ancestors {
				for _, parent := range g.Nodes[id].Parents {
					if !slices.Contains(ancestors, parent) {
						t.Fatalf("%s is an ancestor of %s, its parent %s is not", id, node.ID, parent)
					}
				}
				if !slices.Contains(g.Descendants(id), node.ID) {
					t.Fatalf("%s is an ancestor of %s and not the other way", id, node.ID)
				}
			}
		}
	})
}

// circular removes models that read none that is left, until none can be.
func circular(edges map[string][]string) bool {
	left := map[string]bool{}
	for name := range edges {
		left[name] = true
	}
	for {
		before := len(left)
		for name := range left {
			if !slices.ContainsFunc(edges[name], func(r string) bool { return left[r] }) {
				delete(left, name)
			}
		}
		if len(left) == before {
			return before > 0
		}
	}
}
