package encode_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/encode"
	"github.com/dray-dev/dray/connectors/warehouse"
)

func TestChange(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 2, 3, 4, 5, 6, 7_000_000, time.FixedZone("CET", 3600))
	schema := &destination.Schema{
		Key: []destination.Column{{Name: "email"}},
		Fields: []destination.Column{
			{Name: "address.city", Path: []string{"address", "city"}},
			{Name: "n", Kind: warehouse.Int},
			{Name: "address.zip", Path: []string{"address", "zip"}},
			{Name: `a\.b`, Path: []string{"a.b"}, Kind: warehouse.Decimal},
			{Name: "f", Kind: warehouse.Float},
			{Name: "ok", Kind: warehouse.Bool},
			{Name: "day", Kind: warehouse.Date},
			{Name: "at", Kind: warehouse.Timestamp},
			{Name: "j", Kind: warehouse.JSON},
		},
	}
	full := []any{"Århus", int64(-7), nil, "12.50", 1e21, true, at, at, "{\"x\":\n[1]}"}
	tests := []struct {
		name   string
		change destination.Change
		want   string
	}{
		{
			"every kind, in the order of the first of each nest",
			destination.Change{Operation: destination.OpAdd, Key: []any{"a@x.dk"}, Fields: full, DedupeID: "d1"},
			`{"operation":"add","key":{"email":"a@x.dk"},"fields":{"address":{"city":"Århus","zip":null},"n":-7,"a.b":12.50,"f":1e+21,` +
				`"ok":true,"day":"2026-02-03","at":"2026-02-03T03:05:06.007Z","j":{"x":[1]}},"dedupe_id":"d1"}`,
		},
		{
			"an update has all fields, whatever changed",
			destination.Change{
				Operation: destination.OpUpdate, Key: []any{"b"}, Send: make([]bool, 9),
				Fields: []any{nil, nil, nil, nil, nil, nil, nil, nil, nil},
			},
			`{"operation":"update","key":{"email":"b"},"fields":{"address":{"city":null,"zip":null},"n":null,"a.b":null,"f":null,"ok":null,` +
				`"day":null,"at":null,"j":null},"dedupe_id":""}`,
		},
		{
			"a remove without fields",
			destination.Change{Operation: destination.OpRemove, Key: []any{"b"}},
			`{"operation":"remove","key":{"email":"b"},"fields":{},"dedupe_id":""}`,
		},
		{
			"a remove that sets some",
			destination.Change{
				Operation: destination.OpRemove, Key: []any{"b"}, Fields: full,
				Send: []bool{false, true, true, false, false, false, false, false, false},
			},
			`{"operation":"remove","key":{"email":"b"},"fields":{"address":{"zip":null},"n":-7},"dedupe_id":""}`,
		},
	}
	e, err := encode.New(schema)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := e.Change([]byte("["), &test.change)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff("["+test.want, string(got)); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// key: [{mail: …}, {nick: …}] is the first that is not NULL, and the others are not there.
func TestOneOfSeveralKeys(t *testing.T) {
	t.Parallel()
	e, err := encode.New(&destination.Schema{Key: []destination.Column{{Name: "mail"}, {Name: "nick"}}})
	if err != nil {
		t.Fatal(err)
	}
	for want, key := range map[string][]any{`{"mail":"a"}`: {"a", nil}, `{"nick":"b"}`: {nil, "b"}, `{"mail":"a","nick":"b"}`: {"a", "b"}} {
		got, err := e.Change(nil, &destination.Change{Operation: destination.OpRemove, Key: key})
		if err != nil || string(got) != `{"operation":"remove","key":`+want+`,"fields":{},"dedupe_id":""}` {
			t.Errorf("%v: %s, %v", key, got, err)
		}
	}
}

func TestValuesThatJSONCannotCarry(t *testing.T) {
	t.Parallel()
	e, err := encode.New(&destination.Schema{
		Key: []destination.Column{{Name: "k"}}, Fields: []destination.Column{{Name: "v", Kind: warehouse.Decimal}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{math.NaN(), math.Inf(-1), "NaN", "1.", ".5", "01", "-", "1e", time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC), []byte("x")} {
		got, err := e.Change([]byte("keep"), &destination.Change{Operation: destination.OpAdd, Key: []any{"k"}, Fields: []any{v}})
		if err == nil {
			t.Errorf("%v was written as %s", v, got)
		}
		if string(got) != "keep" {
			t.Errorf("%v: the buffer came back as %q", v, got)
		}
		if err != nil && strings.Contains(err.Error(), "12345") {
			t.Errorf("the error quotes the value: %v", err)
		}
	}
}

func TestConflictingNames(t *testing.T) {
	t.Parallel()
	for _, paths := range [][][]string{{{"a"}, {"a"}}, {{"a"}, {"a", "b"}}, {{"a", "b"}, {"a"}}, {{"a", "b"}, {"a", "b", "c"}}} {
		s := &destination.Schema{}
		for _, p := range paths {
			s.Fields = append(s.Fields, destination.Column{Name: strings.Join(p, "."), Path: p})
		}
		if _, err := encode.New(s); err == nil {
			t.Errorf("%v was accepted", paths)
		}
	}
}

// What is written reads back as encoding/json would have it.
func TestStringsReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		var got string
		if err := json.Unmarshal(encode.String(nil, s), &got); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); len(got) < len(want) || strings.ReplaceAll(got, "\ufffd", "") != strings.ReplaceAll(want, "\ufffd", "") {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func TestFloatsReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.Float64().Draw(t, "f")
		b, err := encode.Value(nil, f, warehouse.Float)
		if err != nil {
			t.Skip("not finite")
		}
		var got float64
		if err := json.Unmarshal(b, &got); err != nil || got != f {
			t.Fatalf("%v was written as %s: %v", f, b, err)
		}
	})
}

// One row of twelve fields, as a CRM sync has them; one operation is one row.
func BenchmarkChange(b *testing.B) {
	kinds := []warehouse.Kind{
		warehouse.Text, warehouse.Text, warehouse.Text, warehouse.Int, warehouse.Int, warehouse.Float, warehouse.Decimal,
		warehouse.Bool, warehouse.Date, warehouse.Timestamp, warehouse.Text, warehouse.Text,
	}
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	values := []any{"Karen", "Blixen", "København", int64(42), int64(1234567), 99.95, "1234.50", true, at, at, "gold", nil}
	s := &destination.Schema{Key: []destination.Column{{Name: "email"}}}
	for i, k := range kinds {
		s.Fields = append(s.Fields, destination.Column{Name: "field_" + string(rune('a'+i)), Kind: k})
	}
	e, err := encode.New(s)
	if err != nil {
		b.Fatal(err)
	}
	c := destination.Change{
		Operation: destination.OpUpdate, Key: []any{"karen.blixen@example.com"}, Fields: values, DedupeID: "0123456789abcdef",
	}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		if dst, err = e.Change(dst[:0], &c); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(dst)))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// Times are written as the layouts of package time write them.
func TestTimeIsALayout(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(-62167219200, 253402300799).Draw(t, "second"), 0)
		unit := rapid.SampledFrom([]int64{1, 10, 1000, 1_000_000, 100_000_000, 1_000_000_000}).Draw(t, "unit")
		at = at.Add(time.Duration(rapid.Int64Range(0, 999_999_999).Draw(t, "fraction") / unit * unit))
		for kind, layout := range map[warehouse.Kind]string{warehouse.Date: time.DateOnly, warehouse.Timestamp: time.RFC3339Nano} {
			got, err := encode.Time([]byte("x"), at.In(time.FixedZone("", 3600)), kind)
			if want := "x" + at.UTC().Format(layout); err != nil || string(got) != want {
				t.Errorf("got %s, %v; want %s", got, err, want)
			}
		}
	})
}
