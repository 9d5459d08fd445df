package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// A plan is read in parts: together they are the table, and each row is in the one that SliceNumber says.
func TestSlices(t *testing.T) {
	t.Parallel()
	w := Open(t)
	d := w.Dialect()
	table := warehouse.Table{Schema: "slices", Name: "plan"}
	const rows = 500
	statements := []string{d.CreateSchema("slices"), d.CreateTableAs(table, "SELECT CAST(NULL AS "+d.Type(warehouse.Int)+") AS key_hash")}
	for i := int64(0); i < rows-1; { // spread over all of a hash's range, with both ends
		var hashes []string
		for ; i < rows-1 && len(hashes) < 50; i++ {
			hashes = append(hashes, fmt.Sprintf("SELECT %d", i*((1<<63-1)/(rows-2))))
		}
		statements = append(statements, "INSERT INTO "+d.Table(table)+" (key_hash) "+strings.Join(hashes, " UNION ALL "))
	}
	for _, q := range statements {
		if _, err := w.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	number := func(q string) int64 {
		t.Helper()
		n, err := warehouse.Number(t.Context(), w, q)
		if err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		return n
	}
	highest := number("SELECT " + d.Highest() + " FROM " + d.Table(table) + " p")
	for _, n := range []int64{1, 2, 7, 60} {
		sum := int64(0)
		for k := range n {
			in := d.Slice("p", k, k+1, n, highest)
			from := "SELECT COUNT(*) FROM " + d.Table(table) + " p WHERE "
			part := number(from + in)
			sum += part
			if same := number(from + in + fmt.Sprintf(" AND %s = %d", d.SliceNumber("p", n, highest), k)); same != part {
				t.Errorf("part %d of %d has %d rows, of which %d say so", k, n, part, same)
			}
		}
		if whole := number("SELECT COUNT(*) FROM " + d.Table(table) + " p WHERE " + d.Slice("p", 0, n, n, highest)); sum != rows || whole != rows {
			t.Errorf("%d parts have %d rows together and %d in one, of %d", n, sum, whole, rows)
		}
	}
}
