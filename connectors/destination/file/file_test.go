package file_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pq "github.com/parquet-go/parquet-go"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/destination/file"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

type finisher interface {
	destination.Destination
	destination.Finisher
}

func open(t *testing.T, dir string, cfg destination.Config) finisher {
	t.Helper()
	d, err := file.Connector{}.Open(t.Context(), cfg, destination.Env{Dir: dir, Project: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d.(finisher)
}

func at() time.Time { return time.Date(2026, 2, 3, 4, 5, 6, 789_000_000, time.UTC) }

// batch has every kind, a nested name, and a field that is named as the key.
func batch(run string) *destination.Batch {
	return &destination.Batch{
		Run: destination.Run{ID: run, Sync: "people_out"}, Object: "people",
		Schema: &destination.Schema{
			Key: []destination.Column{{Name: "email"}},
			Fields: []destination.Column{
				{Name: "email"},
				{Name: "address.city", Path: []string{"address", "city"}},
				{Name: "n", Kind: warehouse.Int},
				{Name: "f", Kind: warehouse.Float},
				{Name: "amount", Kind: warehouse.Decimal},
				{Name: "vip", Kind: warehouse.Bool},
				{Name: "day", Kind: warehouse.Date},
				{Name: "seen", Kind: warehouse.Timestamp},
				{Name: "tags", Kind: warehouse.JSON},
			},
		},
		Changes: []destination.Change{
			{
				Operation: destination.OpAdd, Key: []any{"a@x.dk"}, DedupeID: "d1",
				Fields: []any{"A, \"x\"\ny", "Århus", int64(7), 1.5, "12.50", true, at(), at(), `["a","b"]`},
			},
			{Operation: destination.OpUpdate, Key: []any{"b@x.dk"}, DedupeID: "d2", Fields: []any{"", nil, nil, nil, nil, nil, nil, nil, nil}},
			{Operation: destination.OpRemove, Key: []any{"c@x.dk"}, DedupeID: "d3"},
		},
	}
}

func deliver(t *testing.T, d finisher, b *destination.Batch) {
	t.Helper()
	outcomes, err := d.Write(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range outcomes {
		if o.Class != destination.Delivered {
			t.Fatalf("row %d is %s (%s)", i, o.Class, o.Message)
		}
	}
	if err := d.Finish(t.Context(), b.Run); err != nil {
		t.Fatal(err)
	}
}

// names lists all files below dir, with their sizes left out.
func names(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			out = append(out, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestText(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{
		"jsonl": `{"operation":"add","key":{"email":"a@x.dk"},"fields":{"email":"A, \"x\"\ny","address":{"city":"Århus"},"n":7,"f":1.5,"amount":12.50,"vip":true,"day":"2026-02-03","seen":"2026-02-03T04:05:06.789Z","tags":["a","b"]},"dedupe_id":"d1"}
{"operation":"update","key":{"email":"b@x.dk"},"fields":{"email":"","address":{"city":null},"n":null,"f":null,"amount":null,"vip":null,"day":null,"seen":null,"tags":null},"dedupe_id":"d2"}
{"operation":"remove","key":{"email":"c@x.dk"},"fields":{},"dedupe_id":"d3"}
`,
		"csv": `operation,email,fields.email,address.city,n,f,amount,vip,day,seen,tags,dedupe_id
add,a@x.dk,"A, ""x""
y",Århus,7,1.5,12.50,true,2026-02-03,2026-02-03T04:05:06.789Z,"[""a"",""b""]",d1
update,b@x.dk,"",,,,,,,,,d2
remove,c@x.dk,,,,,,,,,,d3
`,
	} {
		dir := t.TempDir()
		deliver(t, open(t, dir, destination.Config{"path": "out", "format": format}), batch("run1"))
		got, err := os.ReadFile(filepath.Join(dir, "out", "people_out", "run1."+format))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", format, diff)
		}
		if all := names(t, dir); len(all) != 1 {
			t.Errorf("%s: beside it are %v", format, all)
		}
	}
}

func TestParquet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	deliver(t, open(t, dir, destination.Config{"path": dir, "format": "parquet"}), batch("run1"))
	p := openParquet(t, filepath.Join(dir, "people_out", "run1.parquet"))
	var columns []string
	for _, c := range p.Root().Columns() {
		columns = append(columns, c.Name()+" "+c.Type().String())
	}
	want := []string{
		"operation STRING", "email STRING", "fields.email STRING", "address.city STRING", "n INT(64,true)", "f DOUBLE", "amount STRING",
		"vip BOOLEAN", "day DATE", "seen TIMESTAMP(isAdjustedToUTC=true,unit=MICROS)", "tags JSON", "dedupe_id STRING",
	}
	if diff := cmp.Diff(want, columns); diff != "" {
		t.Errorf("columns: want -, got +:\n%s", diff)
	}
	rows := make([]pq.Row, 3)
	reader := pq.NewReader(p)
	if n, _ := reader.ReadRows(rows); n != 3 {
		t.Fatalf("%d rows", n)
	}
	day := at().Truncate(24*time.Hour).Unix() / 86400
	if got, want := fmt.Sprint(rows[0]), fmt.Sprintf("[add a@x.dk A, \"x\"\ny Århus 7 1.5 12.50 true %d %d [\"a\",\"b\"] d1]", day, at().UnixMicro()); got != want {
		t.Errorf("row 0 is %s, want %s", got, want)
	}
	if !rows[2][3].IsNull() || rows[1][2].IsNull() {
		t.Errorf("NULL and the empty text are not told apart: %v, %v", rows[1], rows[2])
	}
}

// A file is there whole or not at all, and only after Finish.
func TestNothingBeforeFinish(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := open(t, dir, destination.Config{"path": "out"})
	b := batch("run1")
	if _, err := d.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if all := names(t, dir); len(all) != 1 || !strings.HasPrefix(filepath.Base(all[0]), ".") {
		t.Errorf("before the run ended there are %v", all)
	}
	if err := d.Abort(t.Context(), b.Run); err != nil {
		t.Fatal(err)
	}
	if all := names(t, dir); len(all) != 0 {
		t.Errorf("after Abort there are %v", all)
	}
	if err := d.Finish(t.Context(), b.Run); err != nil || len(names(t, dir)) != 0 {
		t.Errorf("a run that wrote nothing left %v, %v", names(t, dir), err)
	}
	if _, err := d.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil || len(names(t, dir)) != 0 {
		t.Errorf("after Close there are %v, %v", names(t, dir), err)
	}
}

// What a killed run left goes with the sync's next run; what it delivered stays.
func TestAfterAKilledRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := destination.Config{"path": "out"}
	deliver(t, open(t, dir, cfg), batch("run1"))
	killed := open(t, dir, cfg)
	if _, err := killed.Write(t.Context(), batch("run2")); err != nil {
		t.Fatal(err)
	}
	deliver(t, open(t, dir, cfg), batch("run3"))
	want := []string{"out/people_out/run1.jsonl", "out/people_out/run3.jsonl"}
	if diff := cmp.Diff(want, names(t, dir)); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestAnExistingFileStays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 3 {
		deliver(t, open(t, dir, destination.Config{"path": "out", "format": "csv"}), batch("run1"))
	}
	want := []string{"out/people_out/run1-2.csv", "out/people_out/run1-3.csv", "out/people_out/run1.csv"}
	if diff := cmp.Diff(want, names(t, dir)); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestARowThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"jsonl", "csv", "parquet"} {
		dir := t.TempDir()
		d := open(t, dir, destination.Config{"path": "out", "format": format})
		b := batch("run1")
		b.Changes[0].Fields[3], b.Changes[1].Fields[6] = math.Inf(1), time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)
		outcomes, err := d.Write(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		var classes []destination.Class
		for _, o := range outcomes {
			classes = append(classes, o.Class)
		}
		want := []destination.Class{destination.Rejected, destination.Rejected, destination.Delivered}
		if format == "parquet" { // has a place for both
			want = []destination.Class{destination.Delivered, destination.Delivered, destination.Delivered}
		}
		if diff := cmp.Diff(want, classes); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", format, diff)
		}
	}
}

func TestFoldersThatCannotBeWrittenTo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "taken"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, dir, destination.Config{"path": "taken"})
	if _, err := d.Check(t.Context()); !stops(err, "file_unwritable") {
		t.Errorf("a check of a file in the folder's place: %v", err)
	}
	if _, err := d.Write(t.Context(), batch("run1")); !stops(err, "file_unwritable") {
		t.Errorf("a write to a file in the folder's place: %v", err)
	}
	if os.Geteuid() == 0 {
		t.Log("as root every folder is writable: permissions are not tested")
		return
	}
	if err := os.Mkdir(filepath.Join(dir, "closed"), 0o500); err != nil {
		t.Fatal(err)
	}
	d = open(t, dir, destination.Config{"path": "closed/out"})
	if _, err := d.Check(t.Context()); !stops(err, "file_unwritable") {
		t.Errorf("a check of a closed folder: %v", err)
	}
}

func stops(err error, code string) bool {
	var e *destination.Error
	return errors.As(err, &e) && e.Class == destination.Stop && e.Code == code && e.Hint != ""
}

func TestCheckChangesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := open(t, dir, destination.Config{"path": "a/b/"})
	account, err := d.Check(t.Context())
	if err != nil || account.ID != "file:a/b" {
		t.Errorf("account %q, %v", account.ID, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("the check left %v", entries)
	}
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	for _, cfg := range []destination.Config{{}, {"path": "x", "format": "xml"}} {
		_, err := file.Connector{}.Open(t.Context(), cfg, destination.Env{})
		var e *diag.Error
		if !errors.As(err, &e) || e.Kind != diag.Invalid || e.Hint == "" {
			t.Errorf("%v: %v", cfg, err)
		}
	}
}

// Decimals are numbers where the warehouse tells their scale; values of on_remove: {set: …} become what the column is.
func TestParquetDecimals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := &destination.Batch{
		Run: destination.Run{ID: "run1", Sync: "s"}, Object: "o",
		Schema: &destination.Schema{
			Key: []destination.Column{{Name: "id", Kind: warehouse.Int, Type: "BIGINT"}},
			Fields: []destination.Column{
				{Name: "money", Kind: warehouse.Decimal, Type: "DECIMAL(10,2)"},
				{Name: "wide", Kind: warehouse.Decimal, Type: "DECIMAL(38,3)"},
				{Name: "unsigned", Kind: warehouse.Decimal, Type: "UBIGINT"},
				{Name: "huge", Kind: warehouse.Decimal, Type: "HUGEINT"},
				{Name: "f", Kind: warehouse.Float, Type: "DOUBLE"},
				{Name: "day", Kind: warehouse.Date, Type: "DATE"},
			},
		},
		Changes: []destination.Change{
			{Operation: destination.OpAdd, Key: []any{int64(1)}, Fields: []any{"10.50", "12345678901234567890123456789012345.123", "18446744073709551615", "170141183460469231731687303715884105727", 1.5, nil}},
			{Operation: destination.OpAdd, Key: []any{int64(2)}, Fields: []any{"-0.01", "-1.000", "0", "-1", nil, at()}},
			{Operation: destination.OpRemove, Remove: "set", Key: []any{int64(3)}, Fields: []any{int64(5), 2.5, nil, int64(7), int64(2), "2026-01-02"}, Send: []bool{true, true, true, true, true, true}},
			{Operation: destination.OpAdd, Key: []any{int64(4)}, Fields: []any{"1.005", nil, nil, nil, nil, nil}},
		},
	}
	d := open(t, dir, destination.Config{"path": dir, "format": "parquet"})
	outcomes, err := d.Write(t.Context(), b)
	if err != nil || outcomes[2].Class != destination.Delivered || outcomes[3].Class != destination.Rejected {
		t.Fatalf("%v, %v", outcomes, err)
	}
	if err := d.Finish(t.Context(), b.Run); err != nil {
		t.Fatal(err)
	}
	p := openParquet(t, filepath.Join(dir, "s", "run1.parquet"))
	var columns []string
	for _, c := range p.Root().Columns() {
		columns = append(columns, c.Type().String())
	}
	want := []string{"STRING", "INT(64,true)", "DECIMAL(10,2)", "DECIMAL(38,3)", "DECIMAL(20,0)", "STRING", "DOUBLE", "DATE", "STRING"}
	if diff := cmp.Diff(want, columns); diff != "" {
		t.Errorf("columns: want -, got +:\n%s", diff)
	}
	rows := make([]pq.Row, 4)
	n, _ := pq.NewReader(p).ReadRows(rows)
	var got []string
	for _, row := range rows[:n] {
		got = append(got, fmt.Sprint(unscaled(row[2]), " ", unscaled(row[3]), " ", unscaled(row[4]), " ", row[5], " ", row[6], " ", row[7]))
	}
	day := at().Truncate(24*time.Hour).Unix() / 86400
	wantRows := []string{
		"1050 12345678901234567890123456789012345123 18446744073709551615 170141183460469231731687303715884105727 1.5 <null>",
		fmt.Sprintf("-1 -1000 0 -1 <null> %d", day), "500 2500 NULL 7 2 20455",
	}
	if diff := cmp.Diff(wantRows, got); diff != "" {
		t.Errorf("rows: want -, got +:\n%s", diff)
	}
}

// unscaled reads a decimal as Parquet defines it.
func unscaled(v pq.Value) string {
	if v.IsNull() {
		return "NULL"
	}
	n := new(big.Int).SetBytes(v.ByteArray())
	if v.ByteArray()[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(v.ByteArray()))))
	}
	return n.String()
}

func openParquet(t *testing.T, path string) *pq.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	p, err := pq.OpenFile(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return p
}
