package snowflake

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
)

func TestNames(t *testing.T) {
	t.Parallel()
	d := Dialect{}
	for name, want := range map[string]string{
		"email": `"EMAIL"`, "EMAIL": `"EMAIL"`, "firstName": `"firstName"`, "first name": `"first name"`, "order": `"ORDER"`, `a"b`: `"a""b"`, "æ": `"æ"`, "_x1$": `"_X1$"`, "1x": `"1x"`,
	} {
		if got := d.Quote(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	for name, want := range map[string]string{"EMAIL": "email", "firstName": "firstName", "FIRST NAME": "FIRST NAME", "Æ": "Æ"} {
		if got := unfold(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	if got := d.Table(warehouse.Table{Database: "raw", Schema: "Shop", Name: "orders"}); got != `"RAW"."Shop"."ORDERS"` {
		t.Errorf("got %s", got)
	}
	long := strings.Repeat("é", 300)
	a, b := d.Quote(long+"a"), d.Quote(long+"b")
	if a == b || len([]rune(a)) != maxIdentifier+2 {
		t.Errorf("got %s and %s", a, b)
	}
}

func TestLiterals(t *testing.T) {
	t.Parallel()
	d := Dialect{}
	for want, v := range map[string]any{
		`'it''s a \\ b'`: `it's a \ b`, "NULL": nil, "true": true, "-9223372036854775808": int64(math.MinInt64), "CAST('0.1' AS FLOAT)": 0.1, "CAST('-inf' AS FLOAT)": math.Inf(-1),
		"CAST('NaN' AS FLOAT)": math.NaN(), "CAST('2024-02-29 23:00:00.5' AS TIMESTAMP_NTZ(6))": time.Date(2024, 3, 1, 0, 0, 0, 5e8, time.FixedZone("", 3600)),
	} {
		if got := d.Value(v); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	d := Dialect{}
	for typ, want := range map[string]warehouse.Kind{
		"NUMBER(38,0)": warehouse.Decimal, "NUMBER(19,0)": warehouse.Int, "NUMBER(10, 0)": warehouse.Int, "number(5)": warehouse.Int, "NUMBER(10,2)": warehouse.Decimal, "NUMBER": warehouse.Decimal,
		"INTEGER": warehouse.Decimal, "FLOAT": warehouse.Float, "VARCHAR(16)": warehouse.Text, "TIMESTAMP_LTZ(9)": warehouse.Timestamp, "DATE": warehouse.Date, "TIME(9)": warehouse.Text,
		"VARIANT": warehouse.JSON, "OBJECT": warehouse.JSON, "ARRAY": warehouse.JSON, "BOOLEAN": warehouse.Bool, "BINARY": warehouse.Text, "GEOGRAPHY": warehouse.Text,
	} {
		if got := d.KindOf(typ); got != want {
			t.Errorf("%s: got %v, want %v", typ, got, want)
		}
	}
	for k := warehouse.Text; k <= warehouse.JSON; k++ {
		if got := d.KindOf(d.Type(k)); got != k {
			t.Errorf("the type for %v is one of %v", k, got)
		}
	}
}

// TestTables: what is needed during a build only is transient, and nothing that lies in a transaction would end it.
func TestTables(t *testing.T) {
	t.Parallel()
	d := Dialect{}
	table := warehouse.Table{Schema: "dray", Name: "x"}
	for got, want := range map[string]string{
		d.CreateTableAs(d.Work(table), "SELECT 1 AS a"):   `CREATE OR REPLACE TRANSIENT TABLE "DRAY"."DRAY_WORK_X" DATA_RETENTION_TIME_IN_DAYS = 0 AS SELECT 1 AS a`,
		d.CreateTableAs(table, "SELECT 1 AS a -- x", "a"): "CREATE OR REPLACE TABLE \"DRAY\".\"X\" AS SELECT * FROM (SELECT 1 AS a -- x\n) AS q ORDER BY \"A\"",
		d.RenameTable(table, "y"):                         `ALTER TABLE "DRAY"."X" RENAME TO "DRAY"."Y"`,
		d.IntDiv("a + 1", 3):                              "CAST(((a + 1) - MOD(a + 1, 3)) / 3 AS NUMBER(19,0))",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	before, within := d.Swap(table, false, "SELECT 1")
	for _, s := range append(within, d.Empty(table), d.Discard(table)) {
		if definition(s) {
			t.Errorf("%s ends the transaction", s)
		}
	}
	if len(before) != 1 || !definition(before[0]) {
		t.Errorf("made by %v", before)
	}
}

func TestAccents(t *testing.T) {
	t.Parallel()
	if a, p := []rune(accented), []rune(plain); len(a) != len(p) || len(a) < 100 {
		t.Errorf("%d letters become %d", len(a), len(p))
	}
}
