package profile

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

func TestFind(t *testing.T) {
	t.Parallel()
	w := shop(t)
	ids, spec := specs(&config.Trait{Name: "spent", From: config.Strings{"orders"}, Value: "sum(amount)"})
	build(t, w, ids, spec)
	for _, asked := range []string{"1", "user_id:1", " Ann@X.dk", "email:ann@work.dk"} {
		found, err := Find(context.Background(), w, spec, asked)
		if err != nil {
			t.Fatalf("%q: %v", asked, err)
		}
		found.ProfileID = "-"
		got, err := json.Marshal(found)
		if err != nil {
			t.Fatal(err)
		}
		want := `{"entity":"person","profile_id":"-","identifiers":[` +
			`{"identifier":"user_id","value":"1","first_seen_at":"2025-01-02T00:00:00Z","sources":["orders"]},` +
			`{"identifier":"email","value":"ann@x.dk","first_seen_at":"2025-01-02T00:00:00Z","sources":["orders","letters"]},` +
			`{"identifier":"email","value":"ann@work.dk","first_seen_at":"2025-12-30T00:00:00Z","sources":["orders"]}],` +
			`"traits":{"spent":35.5},` +
			`"edges":[{"from":"user_id:1","to":"email:ann@x.dk","source":"orders","at":"2025-01-02T00:00:00Z"},` +
			`{"from":"user_id:1","to":"email:ann@work.dk","source":"orders","at":"2025-12-30T00:00:00Z"}]}`
		if string(got) != want {
			t.Errorf("%q:\n got %s\nwant %s", asked, got, want)
		}
	}
}

func TestFindNobody(t *testing.T) {
	t.Parallel()
	w := shop(t)
	ids, spec := specs()
	_, err := Find(context.Background(), w, spec, "1")
	wantCode(t, err, "profile.not_built")
	build(t, w, ids, spec)
	_, err = Find(context.Background(), w, spec, "nobody@x.dk")
	wantCode(t, err, "profile.not_found")
	if strings.Contains(err.Error(), "nobody@x.dk") {
		t.Errorf("the error shows the value: %v", err)
	}
	_, err = Find(context.Background(), w, spec, "user_id:ann@x.dk")
	wantCode(t, err, "profile.not_found")
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var e *diag.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got %v, want code %s", err, code)
	}
}

// What JSON has no number for is a text; a relation leads to a profile, or nowhere.
func TestFindRelationsAndInfinity(t *testing.T) {
	t.Parallel()
	w := open(t)
	relation(t, w, "firm_ids", identityColumns, [][]any{member("code", "a", "f1")})
	relation(t, w, "firms", []string{"profile_id VARCHAR"}, [][]any{{"f1"}})
	spec := people(t, w, []string{"a VARCHAR", "b VARCHAR", "x DOUBLE PRECISION"}, [][]any{{"a", "b", "Infinity"}}, latest("a"), latest("b"), latest("x"))
	firm := &config.Entity{Name: "firm", Identifiers: []*config.Identifier{{Name: "code"}}}
	for _, r := range []*config.Relation{{Name: "one", On: map[string]string{"a": "code"}}, {Name: "none", On: map[string]string{"b": "code"}}} {
		spec.Relations = append(spec.Relations, Related{Relation: r, Other: firm, Identity: warehouse.Table{Name: "firm_ids"}, Profiles: warehouse.Table{Name: "firms"}})
	}
	spec.Relations = append(spec.Relations, Related{Relation: &config.Relation{Name: "later"}, Other: firm, Profiles: warehouse.Table{Name: "not_built"}})
	if _, err := Build(context.Background(), w, spec); err != nil {
		t.Fatal(err)
	}
	found, err := Find(context.Background(), w, spec, "1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(found)
	if err != nil {
		t.Fatal(err)
	}
	want := `"traits":{"a":"a","b":"b","x":"+Inf"},"relations":[{"name":"one","entity":"firm","profile_id":"f1"},{"name":"none","entity":"firm","profile_id":null}]`
	if !strings.Contains(string(got), want) {
		t.Errorf("got %s, want %s", got, want)
	}
}
