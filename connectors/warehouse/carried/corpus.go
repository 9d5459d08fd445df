package carried

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// Corpus keeps every distinct statement that was run, with the tables it names as they were at that moment, for an analyzer. A nil
// Corpus keeps nothing. Safe for concurrent use.
type Corpus struct {
	mu     sync.Mutex
	seen   map[string]bool
	file   *os.File
	failed bool
}

// Entry is one line of a corpus.
type Entry struct {
	Dialect string       `json:"dialect"`
	SQL     string       `json:"sql"`
	Tables  []TableEntry `json:"tables"`
}

// TableEntry is one table or view.
type TableEntry struct {
	Schema  string      `json:"schema"`
	Name    string      `json:"name"`
	Columns [][2]string `json:"columns"` // name, type
}

// NewCorpus writes into a new file of a folder.
func NewCorpus(dir string) (*Corpus, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, filepath.Base(os.Args[0])+"-*.jsonl")
	if err != nil {
		return nil, err
	}
	return &Corpus{seen: map[string]bool{}, file: f}, nil
}

func nothing(err error) error { return err }

// note takes down a statement that is about to run, unless one of the same shape is kept already. What it returns keeps it if
// there was no error, which it passes on: what the engine refuses is not Dray's to answer for.
func (c *Corpus) note(ctx context.Context, w *Warehouse, sql string) func(error) error {
	if c == nil {
		return nothing
	}
	shape := Shape(sql)
	c.mu.Lock()
	known := c.seen[shape]
	c.mu.Unlock()
	if known {
		return nothing
	}
	tables, noted := w.tables(ctx, sql) // as they are before
	return func(err error) error {
		if err == nil {
			c.keep(shape, Entry{Dialect: w.Dialect().Name(), SQL: sql, Tables: tables}, noted)
		}
		return err
	}
}

func (c *Corpus) keep(shape string, e Entry, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen[shape] || c.failed {
		return
	}
	c.seen[shape] = true
	var line []byte
	if err == nil {
		line, err = json.Marshal(e)
	}
	if err == nil {
		_, err = c.file.Write(append(line, '\n'))
	}
	if err != nil {
		c.failed = true
		_, _ = c.file.WriteString("!" + err.Error() + "\n") // whoever reads the corpus fails
	}
}

// Shape is a statement without its literals.
func Shape(sql string) string {
	var b strings.Builder
	for _, t := range (lexer{names: "`", texts: `'"`, backslash: true}).split(sql) {
		switch {
		case t.kind == text:
			b.WriteString("'…'")
		case t.kind == space:
			b.WriteByte(' ')
		case t.kind == other && t.s[0] >= '0' && t.s[0] <= '9':
			b.WriteByte('0')
		default:
			b.WriteString(t.s)
		}
	}
	return b.String()
}

// tables are those whose names stand in a statement.
func (w *Warehouse) tables(ctx context.Context, sql string) ([]TableEntry, error) {
	r, err := w.inner.Query(ctx, "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = current_database() AND NOT internal AND contains("+
		warehouse.Dialect(w.inner.Dialect()).Text(sql)+", table_name) ORDER BY schema_name, table_name, column_index")
	if err != nil {
		return nil, err
	}
	defer r.Close()
	out := []TableEntry{}
	for r.Next() {
		v, err := r.Values()
		if err != nil {
			return nil, err
		}
		s := [4]string{}
		for i := range s {
			s[i], _ = v[i].(string)
		}
		if n := len(out); n == 0 || out[n-1].Schema != s[0] || out[n-1].Name != s[1] {
			out = append(out, TableEntry{Schema: s[0], Name: s[1]})
		}
		last := &out[len(out)-1]
		last.Columns = append(last.Columns, [2]string{s[2], w.carrier.Type(s[3])})
	}
	return out, r.Err()
}

// CorpusDir is the folder of the variable, "" = no corpus is kept.
func CorpusDir() string { return os.Getenv("DRAY_SQL_CORPUS") }
