package run_test

import (
	"context"
	"testing"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/sync/run"
)

// weak is a warehouse whose hashes of keys collide under the first salt.
type weak struct{ warehouse.Warehouse }

func (w weak) Dialect() warehouse.Dialect { return weakDialect{w.Warehouse.Dialect()} }

type weakDialect struct{ warehouse.Dialect }

func (d weakDialect) Hash(exprs ...string) string {
	h := d.Dialect.Hash(exprs...)
	if len(exprs) == 2 && exprs[0] == "0" {
		return "mod(" + h + ", 7)"
	}
	return h
}

// Two keys with one hash must not be taken for each other: the plan is made again with another salt, which the snapshot keeps.
func TestKeysWhoseHashesCollide(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"mode: mirror\non_remove: delete", "mode: insert"} {
		r := newReceiver(t)
		p := hookProject(t, r, mode+"\nkey: {email: email}\nguard: {max_removes: 100%}")
		p.exec("INSERT INTO raw.people SELECT i, 'u' || i || '@example.com', 'n', i FROM range(40) t(i)",
			"ALTER TABLE raw.people ALTER id TYPE VARCHAR")
		deps := p.deps()
		deps.OpenWarehouse = func(ctx context.Context, typ string, o map[string]any, dir string) (warehouse.Warehouse, error) {
			w, err := openWarehouse(ctx, typ, o, dir)
			return weak{w}, err
		}
		one := func(add, update, remove int64) {
			t.Helper()
			s, err := run.Open(t.Context(), deps, p.options())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			reports, err := s.Run(t.Context(), nil, run.RunOptions{})
			if err != nil || reports[0].Delivered.Add != add || reports[0].Delivered.Update != update || reports[0].Delivered.Remove != remove {
				t.Fatalf("%s: %v %s", mode, err, canonical(reports))
			}
		}
		one(40, 0, 0)
		one(0, 0, 0)
		if mode == "mode: insert" {
			continue
		}
		p.exec("UPDATE raw.people SET n = 100 WHERE id = '3'", "DELETE FROM raw.people WHERE id IN ('4', '5')", "INSERT INTO raw.people VALUES ('50', 'x', 'n', 1)")
		one(1, 1, 2)
		one(0, 0, 0)
		if store, _, _ := r.state(); len(store) != 39 {
			t.Fatalf("the destination holds %d rows", len(store))
		}
	}
}
