package cli

import (
	"strings"
	"testing"
)

// TestDifferenceNamesThePlace: whoever reads it must find the field without comparing the files by eye.
func TestDifferenceNamesThePlace(t *testing.T) {
	t.Parallel()
	doc := func(requests ...string) []byte {
		out, _, err := canonical([]byte("[" + strings.Join(requests, ",") + "]"))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	one := `{"method":"POST","path":"/a","body":{"changes":[{"key":{"id":1},"fields":{"n":1.50,"tags":["x","y"]}},{"key":{"id":2},"fields":{"n":2}}]}}`
	for _, tt := range []struct {
		name      string
		want, got []byte
		said      string
	}{
		{"a digit", doc(one), doc(strings.Replace(one, "1.50", "1.5", 1)), `line 12, at request 1.body.changes[0].fields.n: expected "n": 1.50, sent "n": 1.5`},
		{"an item of a list", doc(one), doc(strings.Replace(one, `"y"`, `"z"`, 1)), `at request 1.body.changes[0].fields.tags[1]: expected "y", sent "z"`},
		{"the second row", doc(one), doc(strings.Replace(one, `"n":2`, `"n":null`, 1)), `at request 1.body.changes[1].fields.n: expected "n": 2, sent "n": null`},
		{"another path", doc(one, one), doc(one, strings.Replace(one, "/a", "/b", 1)), `at request 2.path: expected "path": "/a", sent "path": "/b"`},
		{"one request less", doc(one, one), doc(one), `after request 1: expected 2 requests, sent 1`},
		{"one more", doc(), doc(one), `after request 0: expected 0 requests, sent 1`},
	} {
		if got := difference(tt.want, tt.got, true); !strings.Contains(got, tt.said) {
			t.Errorf("%s: %q, want %q in it", tt.name, got, tt.said)
		}
		if got := difference(tt.want, tt.got, false); strings.Contains(got, "expected \"") {
			t.Errorf("%s: values are shown without being asked for: %q", tt.name, got)
		}
	}
}
