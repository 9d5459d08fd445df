package conformance_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/bigquery"
	"github.com/dray-dev/dray/connectors/warehouse/duckdb"
	"github.com/dray-dev/dray/connectors/warehouse/postgres"
	"github.com/dray-dev/dray/connectors/warehouse/snowflake"
)

// No name is longer than its engine takes, and two that are too long, of the same beginning, stay two. The limits are PostgreSQL's
// NAMEDATALEN less one, BigQuery's 300 characters a column and 1,024 bytes a table, and Snowflake's 255 characters.
func TestLongNames(t *testing.T) {
	t.Parallel()
	column := func(d warehouse.Dialect, id string) string { return d.Quote(id) }
	table := func(d warehouse.Dialect, id string) string { return d.Table(warehouse.Table{Name: id}) }
	for _, tt := range []struct {
		name  string
		d     warehouse.Dialect
		quote func(warehouse.Dialect, string) string
		size  func(string) int
		limit int // 0 = none
	}{
		{"duckdb", duckdb.Dialect{}, column, warehouse.Bytes, 0},
		{"postgres", postgres.Dialect{}, column, warehouse.Bytes, 63},
		{"postgres table", postgres.Dialect{}, table, warehouse.Bytes, 63},
		{"bigquery column", bigquery.Dialect{}, column, utf8.RuneCountInString, 300},
		{"bigquery table", bigquery.Dialect{}, table, warehouse.Bytes, 1024},
		{"snowflake", snowflake.Dialect{}, column, utf8.RuneCountInString, 255},
		{"snowflake table", snowflake.Dialect{}, table, utf8.RuneCountInString, 255},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bare := func(id string) string {
				q := tt.quote(tt.d, id)
				return q[1 : len(q)-1]
			}
			for _, letter := range []string{"n", "N", "ø", "日", "😀", "né"} { // of one to four bytes
				limit := tt.limit
				if limit == 0 {
					limit = 5000
				}
				fits := strings.Repeat(letter, limit/tt.size(letter))
				if got := bare(fits); !strings.EqualFold(got, fits) {
					t.Errorf("a name of %d is changed: %s", tt.size(fits), got)
				}
				long := strings.Repeat(fits, 2)
				seen := map[string]string{}
				for _, id := range []string{long, long + "1", long + "2", long + "11", fits + "1" + fits, fits + letter} {
					got := bare(id)
					if other, ok := seen[strings.ToLower(got)]; ok {
						t.Errorf("%s and %s are both %s", id, other, got)
					}
					seen[strings.ToLower(got)] = id
					switch {
					case !utf8.ValidString(got):
						t.Errorf("half a letter: %q", got)
					case tt.limit == 0 && got != id:
						t.Errorf("%s has no limit, and %s became %s", tt.name, id, got)
					case tt.limit > 0 && tt.size(got) > tt.limit:
						t.Errorf("%s has %d, of at most %d", got, tt.size(got), tt.limit)
					case tt.limit > 0 && bare(got) != got:
						t.Errorf("%s is shortened again, to %s", got, bare(got))
					case got != bare(id):
						t.Errorf("%s changes between calls", id)
					}
					if tt.name != "bigquery table" { // what the engine gives back is known under that name
						kept := tt.d.Kept(id)
						if bare(kept) != got || tt.d.Kept(kept) != kept {
							t.Errorf("%s is kept as %s, which is %s", id, kept, bare(kept))
						}
					}
				}
			}
		})
	}
}
