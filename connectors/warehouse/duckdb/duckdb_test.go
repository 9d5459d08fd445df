package duckdb

import (
	"errors"
	"strings"
	"testing"

	"github.com/dray-dev/dray/connectors/warehouse"
)

func openTest(t *testing.T) *Warehouse {
	t.Helper()
	w, err := Open(t.Context(), map[string]any{"path": "t.duckdb"}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func TestLoadAndQuery(t *testing.T) {
	t.Parallel()
	w := openTest(t)
	if _, err := w.Exec(t.Context(), "CREATE TABLE x (a BIGINT, b VARCHAR, c DECIMAL(9,2))"); err != nil {
		t.Fatal(err)
	}
	left := [][]any{{int64(1), "one"}, {int64(2), nil}}
	n, err := w.Load(t.Context(), warehouse.Table{Name: "x"}, []string{"a", "b"}, func() ([]any, error) {
		if len(left) == 0 {
			return nil, nil
		}
		row := left[0]
		left = left[1:]
		return row, nil
	})
	if err != nil || n != 2 {
		t.Fatalf("loaded %d rows, %v", n, err)
	}
	rows, err := w.Query(t.Context(), "SELECT a, b, a * 1.50::DECIMAL(9,2) AS d, [a] AS l FROM x ORDER BY a")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got [][]any
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, append([]any(nil), v...))
	}
	if len(got) != 2 || got[0][0] != int64(1) || got[0][1] != "one" || got[0][2] != "1.5" || got[0][3] != "[1]" || got[1][1] != nil {
		t.Fatalf("got %v", got)
	}
}

func TestSecondOpenIsLocked(t *testing.T) {
	t.Parallel()
	// DuckDB lets one process open a file twice, so this needs a second process: see TestHeldByAnotherProcess. Here: the error's shape.
	err := openError("/x/shop.duckdb", errors.New(`IO Error: Could not set lock on file "/x/shop.duckdb": Conflicting lock is held in /usr/bin/dray (PID 4711). See also`))
	if !errors.Is(err, warehouse.ErrLocked) || !strings.Contains(err.Error(), "dray, process 4711") {
		t.Fatalf("got %v", err)
	}
}

func TestErrorsHoldNoValues(t *testing.T) {
	t.Parallel()
	w := openTest(t)
	for _, q := range []string{
		"SELECT CAST('ann@example.com' AS INTEGER)",
		"SELECT CAST(x AS INTEGER) FROM (VALUES ('ann@example.com')) t(x)",
		"SELECT strptime('ann@example.com', '%Y')",
	} {
		_, err := w.Exec(t.Context(), q)
		if err == nil || strings.Contains(err.Error(), "ann@") {
			t.Errorf("%s: %v", q, err)
		}
	}
	_, err := w.Exec(t.Context(), "SELECT 1,\n nope FROM (SELECT 1 AS nape)")
	var qe *warehouse.QueryError
	if !errors.As(err, &qe) || qe.Line != 2 || !strings.Contains(qe.Msg, "nope") {
		t.Errorf("got %#v", err)
	}
}
