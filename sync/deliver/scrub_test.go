package deliver

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/encode"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/sync/plan"
)

func ada() *destination.Change {
	return &destination.Change{
		Key: []any{"Ada.Lovelace@Example.com"}, OldKey: []any{"a.byron@example.org"},
		Fields: []any{
			"Zoë Smith-Jones", int64(1234567), 98765.5, "1000000.10", true, nil, "NO", int64(7), time.Date(1815, 12, 10, 8, 30, 0, 0, time.UTC),
			`{"street": "Nowhere Lane 4", "tags": ["gold-club"], "age": 36}`, "+45 12 34 56 78", "Ærø",
		},
	}
}

// adaAsJSON is ada as a destination that takes JSON is given her.
func adaAsJSON(t *testing.T) *destination.Change {
	t.Helper()
	c := ada()
	schema := &destination.Schema{Key: []destination.Column{{Name: "email"}, {Name: "before"}}}
	for i, v := range c.Fields {
		kind := warehouse.Text
		switch {
		case i == 3:
			kind = warehouse.Decimal
		case i == 9:
			kind = warehouse.JSON
		default:
			if _, ok := v.(time.Time); ok {
				kind = warehouse.Timestamp
			}
		}
		schema.Fields = append(schema.Fields, destination.Column{Name: fmt.Sprint("field_", i), Kind: kind})
	}
	e, err := encode.New(schema)
	if err != nil {
		t.Fatal(err)
	}
	row, err := e.Change(nil, &destination.Change{Key: append(c.Key, c.OldKey...), Fields: c.Fields})
	if err != nil {
		t.Fatal(err)
	}
	row = row[bytes.Index(row, []byte(`"key"`)):bytes.LastIndex(row, []byte(`,"dedupe_id"`))]
	return &destination.Change{JSON: row}
}

// I6: whatever spelling a vendor repeats a value in, it is not shown.
func TestScrub(t *testing.T) {
	t.Parallel()
	for _, message := range []string{
		"ada.lovelace@example.com is taken", "ADA.LOVELACE@EXAMPLE.COM is taken", "id=ada.lovelace%40example.com is taken",
		`{"email":"ada.lovelace@example.com"}`, `{"email":"ada.lovelace\u0040example.com"}`, "was A.Byron@example.org", "ada.lovelace is no name",
		"LOVELACE is no name", "no Zoë Smith-Jones", "no ZOË SMITH-JONES here", "no zo%C3%AB smith", `no Zo\u00eb`, "no Zo&euml;",
		"1234567 is too large", "1,234,567 is too large", "1.234.567 is too large", "98765.5!", "98,765.50!", "9.87655e4!", "1000000.1", "1,000,000.10.",
		`"NO" is no country`, "born 1815-12-10T08:30:00Z", "born 10/12/1815", "born 1815-12-10T08:30:00.000Z", "born 1815-12-10 08:30:00.000 +01:00", "born 1815-12-10", "in Nowhere  Lane 4", "NOWHERE LANE", "tag GOLD-CLUB",
		"call +45 12345678", "call 12345678", "from Ærø", "from \u00c6R\u00d8",
	} {
		got := scrub(message, ada(), nil)
		if asJSON := scrub(message, adaAsJSON(t), nil); asJSON != got {
			t.Errorf("%q became %q, and %q of a row given as JSON", message, got, asJSON)
		}
		if !strings.Contains(got, "***") {
			t.Errorf("%q became %q", message, got)
		}
		for _, secret := range []string{
			"lovelace", "byron", "zoë", "smith", "1234567", "1,234", "98765", "98,765", "1000000", "nowhere", "gold", "12345678", "ærø", "1815", "no\"", "9.87", "08:30", "01:00",
		} {
			if strings.Contains(strings.ToLower(got), secret) {
				t.Errorf("%q became %q, which shows %q", message, got, secret)
			}
		}
	}
}

// What is no one's data stays readable.
func TestScrubKeepsTheVendorsWords(t *testing.T) {
	t.Parallel()
	c := &destination.Change{Key: []any{"a@b.io"}, Fields: []any{"not set", int64(7), "en", "gold", true}}
	for message, want := range map[string]string{
		"property plan does not exist (error 7)":     "property plan does not exist (error 7)",
		"an entity was marked as goldene":            "an entity was marked as goldene",
		"value true is not valid":                    "value true is not valid",
		"at most 65,536 characters":                  "at most 65,536 characters",
		"a\n b\t c":                                  "a b c",
		"100% of 50%: see https://x.io/a%zz":         "100% of 50%: see https://x.io/a%zz",
		strings.Repeat("word ", 100) + "a@b.io tail": strings.TrimSpace(strings.Repeat("word ", 60)) + " …",
		"": "",
	} {
		if got := scrub(message, c, nil); got != want && got != strings.Replace(want, " …", "…", 1) {
			t.Errorf("%q became %q, want %q", message, got, want)
		}
	}
}

// A message about one row may name another one of the batch.
func TestScrubOfTheWholeBatch(t *testing.T) {
	t.Parallel()
	b := &batch{page: &page{Page: &plan.Page{}}}
	for i := range 10_000 {
		b.page.Changes = append(b.page.Changes, destination.Change{Key: []any{fmt.Sprintf("c-%05d", i)}, Fields: []any{fmt.Sprintf("Person Number%d", i), int64(40_000 + i)}})
		b.rows = append(b.rows, i)
	}
	first := &b.page.Changes[0]
	started := time.Now()
	for range 1000 {
		got := scrub("collides with C-09999, person NUMBER17 (49123)", first, b)
		if want := "collides with ***, *** (***)"; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("1,000 messages took %s", took)
	}
}

func TestScrubCode(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"http_422": "http_422", "VALIDATION_ERROR": "VALIDATION_ERROR", "17": "17", "com.example/bad-thing": "com.example/bad-thing",
		"no ada.lovelace@example.com": "no ***", "ada.lovelace@example.com": "***", "taken by Lovelace": "taken by ***", "E 12345678": "E ***",
	} {
		if got := scrubCode(code, ada(), nil); got != want {
			t.Errorf("%q became %q, want %q", code, got, want)
		}
	}
}
