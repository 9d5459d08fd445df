package profile

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/dray-dev/dray/config"
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
