package plan

import (
	"testing"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse/duckdb"
	"github.com/dray-dev/dray/internal/golden"
	"github.com/dray-dev/dray/models/compile"
)

// TestStatements holds the planning statement of each kind of sync as a file, so that a change of it is read as SQL; the engine
// has prepared it before it is compared.
func TestStatements(t *testing.T) {
	t.Parallel()
	w, err := duckdb.Open(t.Context(), nil, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, q := range []string{"CREATE SCHEMA dray", "CREATE TABLE people (id BIGINT, email VARCHAR, name VARCHAR, score DOUBLE, tags VARCHAR[], happened TIMESTAMP)"} {
		if _, err := w.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	field := func(name string, f compile.Field) compile.Field {
		f.Name, f.Column, f.Trigger = name, compile.FieldColumn(name), !f.Trigger
		if f.Expr == "" {
			f.Expr = `"` + name + `"`
		}
		return f
	}
	key := func(column string) [][]compile.KeyColumn {
		return [][]compile.KeyColumn{{{Name: column, Expr: `"` + column + `"`}}}
	}
	cases := []struct {
		name string
		sync compile.Sync
		o    Options
	}{
		{"mirror_integer_key", compile.Sync{
			Mode: destination.Mirror, Config: &config.Sync{}, OnRemove: config.OnRemove{Act: "delete"}, Keys: key("id"),
			Fields: []compile.Field{field("name", compile.Field{}), field("tags", compile.Field{})},
		}, Options{}},
		{
			"upsert_text_key_with_retries",
			compile.Sync{
				Mode: destination.Upsert, Config: &config.Sync{NullKey: "skip"}, Keys: key("email"),
				Fields: []compile.Field{field("name", compile.Field{Omit: true}), field("score", compile.Field{Tolerance: 0.5}), field("hash", compile.Field{Expr: "name", Write: "on_add"})},
			},
			Options{HasRetry: true},
		},
		{"mirror_several_keys_keep_first", compile.Sync{
			Mode: destination.Mirror, Config: &config.Sync{OnDuplicateKey: &config.OnDuplicate{Act: "keep_first", OrderBy: "score desc"}},
			OnRemove: config.OnRemove{Act: "clear"}, Keys: append(key("email"), key("id")...), Fields: []compile.Field{field("name", compile.Field{})},
		}, Options{}},
		{
			"insert_with_owed",
			compile.Sync{
				Mode: destination.Insert, EventID: []string{"id"}, Remember: 24 * time.Hour, Config: &config.Sync{Event: &config.Event{At: "happened", MaxAge: config.Duration{Duration: time.Hour}}, OnExpired: "drop"},
				Keys: key("email"), Fields: []compile.Field{field("name", compile.Field{})},
			},
			Options{Pending: []string{"primary_key", "dest_key", "key_1", "name", "key_hash", "since", "uncertain_until"}},
		},
	}
	for _, c := range cases {
		c.sync.Name, c.sync.Input, c.sync.PrimaryKey = "people", "SELECT * FROM people", []string{"id"}
		names := compile.Names{Schema: "dray"}
		l, err := Describe(t.Context(), w, w.Dialect(), &c.sync, names, names.Plan("people"))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		c.o.Now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		c.o.AsOf = c.o.Now
		for _, q := range []string{
			w.Dialect().CreateTableAs(names.Snapshot("people"), l.emptySnapshot()),
			"CREATE OR REPLACE TABLE dray.retry_people (key_hash BIGINT, row_hash BIGINT, operation VARCHAR, reason VARCHAR, attempts BIGINT, first_at TIMESTAMP, next_attempt_at TIMESTAMP, parked BOOLEAN)",
			"DROP TABLE IF EXISTS dray.pending_people",
		} {
			if _, err := w.Exec(t.Context(), q); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		if _, err := l.PreparePending(t.Context(), w, Standing{}, nil); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		c.o.Standing = Standing{Exists: true, Columns: l.Fields, PrimaryKey: l.PrimaryKey, DestKey: l.DestKey, Keys: l.Keys, HashVersion: l.HashVersion()}
		query := l.diffSQL(c.o)
		if _, err := w.Columns(t.Context(), query); err != nil {
			t.Errorf("%s: the engine refuses it: %v", c.name, err)
		}
		golden.Check(t, "testdata/"+c.name+".duckdb.sql", []byte(query+"\n"))
	}
}
