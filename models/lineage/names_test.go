package lineage

import (
	"slices"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sql       string
		backslash bool
		want      string
	}{
		{"a + B", false, "a b"},
		{"length(name) -- of it", false, "name"},
		{"date(seen)", false, "seen"},
		{"'a''b' || \"C d\" /* e */", false, "c d"},
		{`'it\'s' || x`, true, "x"},
		{"cast(x as date)", false, "x as"},
		{"account.mrr > mrr", false, "account mrr"},
		{"a + a", false, "a"},
	} {
		if got := strings.Join(Names(c.sql, c.backslash), " "); got != c.want {
			t.Errorf("%s: got %q, want %q", c.sql, got, c.want)
		}
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	of := func(name string) bool { return name == "account" || name == "firm" }
	by := func(m Member) string { return "<" + m.Of + " " + m.Name + ">" }
	for _, c := range []struct{ sql, want string }{
		{"account.mrr", "<account mrr>"},
		{"coalesce(Account.\"MRR\", 0) + firm . size", "coalesce(<account mrr>, 0) + <firm size>"},
		{"'account.mrr' -- account.mrr\n|| account.mrr", "'account.mrr' -- account.mrr\n|| <account mrr>"},
		{"x.account.mrr + account", "x.account.mrr + account"},
		{"account.f(1)", "account.f(1)"},
		{"æ || account.æ || 'ø'", "æ || <account æ> || 'ø'"},
	} {
		if got := Replace(c.sql, false, of, by); got != c.want {
			t.Errorf("%s: got %s, want %s", c.sql, got, c.want)
		}
	}
	want := []Member{{"account", "mrr"}, {"firm", "size"}}
	if got := Members("account.mrr + account.MRR + firm.size", false, of); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
