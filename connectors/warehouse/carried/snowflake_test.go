package carried

import (
	"errors"
	"strings"
	"testing"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// one is the first value of a query that is carried.
func one(t *testing.T, w *Warehouse, query string) any {
	t.Helper()
	rows, err := w.Query(t.Context(), query)
	if err != nil {
		t.Errorf("%s: %v", query, err)
		return nil
	}
	defer rows.Close()
	rows.Next()
	v, err := rows.Values()
	if err != nil || len(v) != 1 {
		t.Errorf("%s: got %v (%v)", query, v, err)
		return nil
	}
	return v[0]
}

// Each rule by which a carried statement differs from what the transpiler makes of it: without the rule the answer is another.
func TestRulesOfSnowflake(t *testing.T) {
	t.Parallel()
	w := open(t, Snowflake())
	for _, c := range []struct {
		rule, query string
		want        any
	}{
		{"function", "SELECT IFF(REGEXP_LIKE('abc', 'b'), 'part', 'none')", "none"},
		{"function", "SELECT IFF(REGEXP_LIKE('ABC', 'a.c', 'i'), 'whole', 'none')", "whole"},
		{"function", "SELECT IFF(REGEXP_INSTR('abc', 'b') > 0, 'part', 'none')", "part"},
		{"function", "SELECT COALESCE(REGEXP_SUBSTR('abc', 'x'), 'none')", "none"},
		{"function", "SELECT CAST(MOD((12 + 10) + 3, 7) AS VARCHAR)", "4"},
		{"function", "SELECT LPAD(LOWER(TRIM(TO_CHAR(255, 'XXXXXXXXXXXXXXXX'))), 16, '0')", "00000000000000ff"},
		{"function", "SELECT TO_VARCHAR(TRY_TO_DATE('31.01.1999', 'DD.MM.YYYY'), 'YYYY-MM-DD')", "1999-01-31"},
		{"function", "SELECT TO_JSON(ARRAY_CONSTRUCT(COALESCE(TO_VARIANT(1), PARSE_JSON('null')), COALESCE(TO_VARIANT(CAST(NULL AS VARCHAR)), PARSE_JSON('null'))))", "[1,null]"},
		{"function", "SELECT TO_VARCHAR(CAST(DATEADD(second, -86400, CAST('2026-01-02' AS TIMESTAMP_NTZ(6))) AS DATE), 'YYYY-MM-DD')", "2026-01-01"},
		{"function", "SELECT CAST(CONVERT_TIMEZONE('Europe/Copenhagen', 'UTC', CAST('2026-07-01 12:00:00' AS TIMESTAMP_NTZ(6))) AS VARCHAR)", "2026-07-01 10:00:00"},
		{"function", "SELECT BITAND(-1, 255)", int64(255)},
		{"number", "SELECT CAST('0.123456789' AS NUMBER(38,9))", "0.123456789"},
		{"number", "SELECT CAST('9223372036854775807' AS NUMBER(19,0))", int64(9223372036854775807)},
		{"string_agg", "SELECT string_agg(DISTINCT v, ',') FROM (SELECT 'a' AS v UNION ALL SELECT 'a') AS t", "a"},
		{"escapes", `SELECT 'it''s a\\b\n'`, "it's a\\b\n"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if got := one(t, w, c.query); got != c.want {
				t.Errorf("%s: got %#v, want %#v", c.query, got, c.want)
			}
		})
	}
}

// What a rewritten table is made of may be the table as it was; a name in upper case alone is one in lower case.
func TestOverwriteOfSnowflake(t *testing.T) {
	t.Parallel()
	w := open(t, Snowflake())
	for _, sql := range []string{
		`CREATE TABLE IF NOT EXISTS "T" ("N" NUMBER(19,0), "firstName" VARCHAR, "DOC" VARIANT)`,
		`INSERT INTO "T" ("N") SELECT 1 UNION ALL SELECT 2`,
		`INSERT OVERWRITE INTO "T" SELECT "N" + 10, 'x', "DOC" FROM "T" WHERE "N" > 1`,
	} {
		if _, err := w.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if got := one(t, w, `SELECT LISTAGG(CAST("N" AS VARCHAR), ',') FROM "T"`); got != "12" {
		t.Errorf("got %v", got)
	}
	if got := one(t, w, `SELECT table_name FROM information_schema.tables WHERE table_schema = 'MAIN' AND table_name = 'T'`); got != "T" {
		t.Errorf("the catalogue has %v", got)
	}
	columns, err := w.Columns(t.Context(), `SELECT * FROM "T"`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range columns {
		got = append(got, c.Name+" "+c.Type)
	}
	if s, want := strings.Join(got, ", "), "n NUMBER(19,0), firstName VARCHAR, doc VARIANT"; s != want {
		t.Errorf("got %s, want %s", s, want)
	}
}

// What First picks is NULL where the first row has NULL, which an array would leave out, and of the type that it was.
func TestFirstOfSnowflake(t *testing.T) {
	t.Parallel()
	w := open(t, Snowflake())
	d := w.Dialect()
	rows := "(SELECT 1 AS o, CAST(NULL AS NUMBER(10,2)) AS v, TRUE AS x UNION ALL SELECT 2, 1.50, TRUE UNION ALL SELECT 0, 9.00, FALSE) AS t"
	for orderBy, want := range map[string]any{d.Order("o", false, false): nil, d.Order("o", true, false): "1.5"} {
		query := "SELECT " + d.First("v", "NUMBER(10,2)", orderBy, "x") + " AS v FROM " + rows
		if got := one(t, w, query); got != want {
			t.Errorf("by %s: got %v, want %v", orderBy, got, want)
		}
	}
}

// Hashes tell apart what is easily mixed up.
func TestHashOfSnowflake(t *testing.T) {
	t.Parallel()
	w := open(t, Snowflake())
	d := w.Dialect()
	seen := map[any]string{}
	for _, values := range [][]string{{"NULL", "''"}, {"''", "NULL"}, {"'a'", "'bc'"}, {"'ab'", "'c'"}, {"'abc'", "''"}, {"1", "2"}, {"2", "1"}} {
		h := one(t, w, "SELECT "+d.Hash(values...))
		if n, ok := h.(int64); !ok || n < 0 {
			t.Errorf("the hash of %v is %v", values, h)
		}
		if seen[h] != "" {
			t.Errorf("%v and %s have one hash", values, seen[h])
		}
		seen[h] = strings.Join(values, ", ")
	}
}

// A transaction of Snowflake makes no tables: it would be committed before each.
func TestTransactionsOfSnowflake(t *testing.T) {
	t.Parallel()
	w := open(t, Snowflake())
	create, insert := `CREATE TABLE IF NOT EXISTS "T" ("N" NUMBER(19,0))`, `INSERT INTO "T" ("N") VALUES (1)`
	var refused *warehouse.QueryError
	if err := w.Atomic(t.Context(), create, insert); !errors.As(err, &refused) {
		t.Errorf("a table was made in a transaction: %v", err)
	}
	if err := w.Atomic(t.Context(), create, `CREATE TABLE IF NOT EXISTS "U" ("N" NUMBER(19,0))`); err != nil {
		t.Error(err)
	}
	if err := w.Atomic(t.Context(), insert, `DELETE FROM "U"`); err != nil {
		t.Error(err)
	}
}
