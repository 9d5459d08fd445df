package run_test

import "testing"

// The type of a key changes: of a composite one nothing is sent; where keys that were sent do not fit, the sync stops.
func TestTypeOfTheKey(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := fielded(t, r, "{name: name}", "mode: mirror\nkey: {id: id, mail: email}\non_remove: delete")
	p.exec("INSERT INTO raw.people SELECT i, 'e' || i, 'n', i FROM range(20) t(i)")
	p.must(0)
	p.exec("ALTER TABLE raw.people ALTER id TYPE VARCHAR")
	if rep := p.must(0); rep.Requests != 0 || rep.Unchanged != 20 {
		t.Fatalf("a composite key: %s", canonical(rep))
	}
	p.exec("INSERT INTO raw.people VALUES ('x', 'e', 'n', 1)")
	p.must(0)
	p.exec("DELETE FROM raw.people WHERE id = 'x'", "ALTER TABLE raw.people ALTER id TYPE BIGINT USING CAST(CASE WHEN id <> 'x' THEN id END AS BIGINT)")
	if rep := p.must(4); rep.Requests != 0 {
		t.Fatalf("a key that does not fit: %s", canonical(rep))
	}
	p.exec("ALTER TABLE raw.people ALTER id TYPE VARCHAR")
	if rep := p.must(0); rep.Delivered.Remove != 1 || rep.Unchanged != 20 {
		t.Fatalf("corrected: %s", canonical(rep))
	}
}

// An older warehouse is put back: what was sent since is not known, so everything is uncertain, and insert mode stops.
func TestRestoredWarehouse(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"mirror\non_remove: delete", "insert"} {
		r := newReceiver(t)
		p := hookProject(t, r, "key: {id: id}\nmode: "+mode)
		p.exec("INSERT INTO raw.people SELECT i, 'e', 'n', i FROM range(20) t(i)")
		p.must(0)
		restore := p.backup()
		p.exec("INSERT INTO raw.people VALUES (20, 'e', 'n', 20)", "UPDATE raw.people SET n = 0 WHERE id = 3")
		p.must(0)
		restore()
		p.exec("INSERT INTO raw.people VALUES (21, 'e', 'n', 21)")
		r.state()
		if mode == "insert" {
			if rep := p.must(4); rep.Requests != 0 {
				t.Fatalf("insert: %s", canonical(rep))
			}
			continue
		}
		rep := p.must(0)
		if _, _, changes := r.state(); changes != 21 || rep.Delivered.Update != 20 || rep.Delivered.Add != 1 {
			t.Fatalf("%d changes: %s", changes, canonical(rep))
		}
		if rep := p.must(0); rep.Requests != 0 {
			t.Fatalf("quiet: %s", canonical(rep))
		}
	}
}
