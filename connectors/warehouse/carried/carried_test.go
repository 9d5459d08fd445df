package carried

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// open gives an empty warehouse of an engine, carried; without Node it skips the test.
func open(t *testing.T, engine Carrier) *Warehouse {
	t.Helper()
	tr, err := Start()
	if errors.Is(err, ErrMissing) && os.Getenv("DRAY_REQUIRE_CARRIED") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	w, err := Open(t.Context(), engine, tr, nil, ":memory:", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// Each rule by which a carried statement differs from what the transpiler makes of it: without the rule the answer is another.
func TestRulesOfBigQuery(t *testing.T) {
	t.Parallel()
	w := open(t, BigQuery())
	for _, c := range []struct{ rule, query, want string }{
		{"function", "SELECT IF(REGEXP_CONTAINS('abc', 'b'), 'part', 'none')", "part"},
		{"function", "SELECT REGEXP_REPLACE('aXbXc', 'X', '')", "abc"},
		{"function", "SELECT CAST(MOD((12 & 10) + 3, 7) AS STRING)", "4"},
		{"function", "SELECT CAST(DIV(7 + 1, 3) AS STRING)", "2"},
		{"function", "SELECT FORMAT('%016x', 255)", "00000000000000ff"},
		{"function", "SELECT COALESCE(CAST(SAFE.PARSE_DATE('%d.%m.%Y', '31.02.1999') AS STRING), 'none')", "none"},
		{"function", "SELECT TO_JSON_STRING(CAST(NULL AS STRING))", "null"},
		{"function", "SELECT TO_HEX(MD5('a'))", "0cc175b9c0f1b6a831c399e269772661"},
		{"timestamp", "SELECT CAST(CAST('2026-01-01 12:00:00+02' AS TIMESTAMP) = TIMESTAMP '2026-01-01 10:00:00+00' AS STRING)", "true"},
		{"numeric", "SELECT CAST(CAST('0.123456789' AS NUMERIC) AS STRING)", "0.123456789"},
		{"safe_cast", "SELECT TO_JSON_STRING(JSON_ARRAY(SAFE_CAST('x' AS INT64), 1))", "[null,1]"},
		{"offset", "SELECT ARRAY_AGG(STRUCT(v AS v) ORDER BY o DESC LIMIT 1)[SAFE_OFFSET(0)].v FROM (SELECT 'a' AS v, 1 AS o UNION ALL SELECT 'b', 2) AS t", "b"},
		{"null order", "SELECT STRING_AGG(v, ',' ORDER BY o) FROM (SELECT 'a' AS v, 1 AS o UNION ALL SELECT 'b', NULL) AS t", "b,a"},
		{"escapes", `SELECT 'it\'s a\\b\n'`, "it's a\\b\n"},
		{"escapes", `SELECT '\u00e9\U0001F600\101\x42\t\\u00e9\\101\u0027\047'`, "é😀AB\t\\u00e9\\101''"},
		{"escapes", `SELECT r'\u00e9\n'`, `\u00e9\n`},
	} {
		t.Run(c.rule, func(t *testing.T) {
			rows, err := w.Query(t.Context(), c.query)
			if err != nil {
				t.Fatalf("%s: %v", c.query, err)
			}
			defer rows.Close()
			rows.Next()
			v, err := rows.Values()
			if err != nil || len(v) != 1 || v[0] != c.want {
				t.Errorf("%s: got %v, want %q (%v)", c.query, v, c.want, err)
			}
		})
	}
}

// The types of a query are BigQuery's.
func TestTypesOfBigQuery(t *testing.T) {
	t.Parallel()
	w := open(t, BigQuery())
	columns, err := w.Columns(t.Context(), "SELECT SUM(1) AS a, CURRENT_TIMESTAMP() AS b, CAST(1 AS NUMERIC) AS c, STRUCT(1 AS x, ['y'] AS y) AS d, CAST('2026-01-01' AS DATETIME) AS e, NULL AS f")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range columns {
		got = append(got, c.Type)
	}
	if s, want := strings.Join(got, " "), "INT64 TIMESTAMP NUMERIC STRUCT<`x` INT64, `y` ARRAY<STRING>> DATETIME INT64"; s != want {
		t.Errorf("got %s, want %s", s, want)
	}
}

// A transaction of BigQuery makes no permanent tables; statements that only make or drop them run one after the other.
func TestTransactionsOfBigQuery(t *testing.T) {
	t.Parallel()
	w := open(t, BigQuery())
	create, insert := "CREATE TABLE `t` (a INT64)", "INSERT INTO `t` (a) VALUES (1)"
	var refused *warehouse.QueryError
	if err := w.Atomic(t.Context(), create, insert); !errors.As(err, &refused) {
		t.Errorf("a table was made in a transaction: %v", err)
	}
	if err := w.Atomic(t.Context(), create, "CREATE TABLE `u` (a INT64)"); err != nil {
		t.Error(err)
	}
	if err := w.Atomic(t.Context(), insert, "DELETE FROM `u` WHERE TRUE"); err != nil {
		t.Error(err)
	}
}
