package conformance

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// What rules compare texts by is the same on every engine, for texts without accents. The cases of Soundex are the National Archives' and
// what is often got wrong (h and w between equal digits, the first letter's own digit); those of Jaro and Winkler are from Winkler's
// papers, and one that is alike by less than 0.7, whose beginning does not count.
func TestSimilarity(t *testing.T) {
	t.Parallel()
	w := Open(t)
	d := w.Dialect()
	one := func(expr string) string {
		t.Helper()
		return strings.Trim(Read(t, w, "SELECT "+expr+" AS v FROM (SELECT 1 AS one) AS q")[0][0], `"`)
	}
	for name, want := range map[string]string{
		"Robert": "R163", "Rupert": "R163", "Ashcraft": "A261", "Ashcroft": "A261", "Tymczak": "T522", "Pfister": "P236", "Honeyman": "H555",
		"Washington": "W252", "Lee": "L000", "Gutierrez": "G362", "Jackson": "J250", "VanDeusen": "V532", "O'Brien": "O165", "Sørensen": "S652",
		"Hughes": "H220", "Lloyd": "L300", "42": "NULL", "": "NULL",
	} {
		got := strings.Trim(Read(t, w, "SELECT "+d.Soundex("n")+" AS v FROM (SELECT "+d.NormalizeName(d.Text(name))+" AS n) AS q")[0][0], `"`)
		if got != want {
			t.Errorf("soundex of %s is %s, want %s", name, got, want)
		}
	}
	for _, c := range []struct {
		a, b  string
		edits string
		alike float64
	}{
		{"martha", "marhta", "2", 0.9611},
		{"dwayne", "duane", "2", 0.84},
		{"dixon", "dicksonx", "4", 0.8133},
		{"jones", "johnson", "4", 0.8324},
		{"abcvwxyz", "cabvwxyz", "2", 0.9583},
		{"smith", "smith", "0", 1},
		{"smith", "brown", "5", 0},
		{"abcdxxxx", "abcdyyyy", "4", 0.6667},
		{"a", "b", "1", 0},
		{"smith", "smiths", "1", 0.9667},
	} {
		a, b := d.Text(c.a), d.Text(c.b)
		if expr, _ := d.EditDistance(a, b); one(expr) != c.edits {
			t.Errorf("from %s to %s: %s edits, want %s", c.a, c.b, one(expr), c.edits)
		}
		expr, wayOut := d.JaroWinkler(a, b)
		if expr == "" {
			if wayOut == "" {
				t.Error("there is no Jaro–Winkler, and no way out")
			}
			continue
		}
		bound := 0.0001
		if d.Name() == "snowflake" {
			bound = 0.01 // whole percent
		}
		if got, err := strconv.ParseFloat(one(expr), 64); err != nil || math.Abs(got-c.alike) > bound {
			t.Errorf("%s and %s are alike by %v, want %v", c.a, c.b, got, c.alike)
		}
	}
	null := d.Cast("NULL", warehouse.Text)
	if expr, _ := d.EditDistance(d.Text("a"), null); one(expr) != "NULL" {
		t.Errorf("from something to NULL there are %s edits", one(expr))
	}
	for days, dates := range map[string][2]string{"1": {"2024-02-28", "2024-02-29"}, "-366": {"2025-01-01", "2024-01-01"}, "0": {"2024-01-01", "2024-01-01"}, "3652058": {"0001-01-01", "9999-12-31"}} {
		got := one(d.Days(d.Cast(d.Text(dates[0]), warehouse.Date), d.Cast(d.Text(dates[1]), warehouse.Date)))
		if got != days {
			t.Errorf("from %s to %s there are %s days, want %s", dates[0], dates[1], got, days)
		}
	}
}
