package identity

import (
	"encoding/csv"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/warehouse"
)

// TestPeopleByEmail holds the partition of real-looking people, by equal normalised email, against a union-find of its own.
func TestPeopleByEmail(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"testdata/fake_80.csv", "../../../shared/data/people/fake_1000.csv"} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			records := readPeople(t, path)
			w := open(t)
			loadCSV(t, w, "people", path)
			spec := specOf(&config.Entity{Name: "customer", Identifiers: []*config.Identifier{
				{Name: "record"}, {Name: "email", Normalize: &config.Normalize{Kind: "email"}},
			}}, &config.Input{Name: "people", Identifiers: map[string]string{"record": "unique_id", "email": "email"}})
			build(t, w, spec)
			got := query(t, w, "SELECT string_agg(value, ' ' ORDER BY value) FROM identity_customer WHERE identifier = 'record' GROUP BY profile_id")
			want := partition(records)
			if !slices.Equal(got, want) {
				t.Errorf("%d groups, want %d", len(got), len(want))
			}
		})
	}
}

func readPeople(t *testing.T, path string) [][2]string {
	t.Helper()
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s is not there: put splink_datasets' fake_1000.csv in its place to run this", filepath.Base(path))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out [][2]string
	for _, row := range rows[1:] {
		out = append(out, [2]string{row[0], row[5]})
	}
	return out
}

// partition groups record ids by lower-cased, trimmed email; the ones without a usable email are alone.
func partition(records [][2]string) []string {
	first := map[string]int{}
	group := make([]int, len(records))
	for i, r := range records {
		group[i] = i
		email := strings.ToLower(strings.TrimSpace(r[1]))
		local, host, ok := strings.Cut(email, "@")
		if !ok || local == "" || !strings.Contains(host, ".") || strings.HasSuffix(host, ".") || strings.ContainsAny(email, " \t") {
			continue
		}
		if j, ok := first[email]; ok {
			group[i] = j
		} else {
			first[email] = i
		}
	}
	members := map[int][]string{}
	for i, r := range records {
		members[group[i]] = append(members[group[i]], r[0])
	}
	var out []string
	for _, m := range members {
		slices.Sort(m)
		out = append(out, strings.Join(m, " "))
	}
	slices.Sort(out)
	return out
}

// loadCSV makes a table of a file: every column a text, NULL where it is empty.
func loadCSV(t *testing.T, w warehouse.Warehouse, table, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	header, err := r.Read()
	if err != nil {
		t.Fatal(err)
	}
	columns := make([]string, len(header))
	for i, name := range header {
		columns[i] = w.Dialect().Quote(name) + " VARCHAR"
	}
	exec(t, w, "CREATE TABLE "+table+" ("+strings.Join(columns, ", ")+")")
	_, err = w.Load(t.Context(), warehouse.Table{Name: table}, header, func() ([]any, error) {
		record, err := r.Read()
		if err == io.EOF {
			return nil, nil
		}
		values := make([]any, len(record))
		for i, v := range record {
			if v != "" {
				values[i] = v
			}
		}
		return values, err
	})
	if err != nil {
		t.Fatal(err)
	}
}
