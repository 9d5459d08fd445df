package run

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/sync/report"
)

// keyColumn is one column of a file of keys: what it is compared with, and how.
type keyColumn struct {
	expr        string // over the sync's rows
	insensitive bool
	at          int // in the file
}

// loadKeys loads a file of keys into t (one a line, primary keys; or CSV whose header names the primary or the destination key)
// and returns the condition over the sync's rows that they stand in it, and how many of them do. That none does is an error.
func (s *Session) loadKeys(ctx context.Context, c *compile.Sync, path string, t warehouse.Table) (condition string, found report.Keys, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", found, &diag.Error{Code: "backfill.keys", Msg: "--keys", Err: err}
	}
	defer f.Close()
	in := bufio.NewReader(f)
	if mark, err := in.Peek(3); err == nil && string(mark) == "\ufeff" {
		_, _ = in.Discard(3)
	}
	head, err := in.Peek(in.Size())
	if len(head) == 0 {
		return "", found, diag.Errorf(diag.Invalid, "backfill.keys", "the file of --keys is empty").WithHint("one primary key a line, or CSV with a header")
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return "", found, &diag.Error{Code: "backfill.keys", Msg: "--keys", Err: err}
	}
	line, _, _ := strings.Cut(string(head), "\n")
	d := s.Warehouse.Dialect()
	columns := keyColumns(d, c, line)
	next := keyLines(in)
	if columns != nil {
		next = keyRecords(in, columns)
	} else {
		if len(c.PrimaryKey) != 1 {
			return "", found, diag.Errorf(diag.Invalid, "backfill.keys", "the primary key of %s has several columns (%s), and the file of --keys has no header that names them",
				c.Name, strings.Join(c.PrimaryKey, ", ")).WithHint("give it as CSV whose header names all of them, or the destination key")
		}
		columns = []keyColumn{{expr: d.Quote(c.PrimaryKey[0])}}
	}
	names, empty := make([]string, len(columns)), make([]string, len(columns))
	wanted, given := make([]string, len(columns)), make([]string, len(columns))
	for i, k := range columns {
		names[i] = fmt.Sprintf("k%d", i+1)
		empty[i] = "CAST(NULL AS " + d.Type(warehouse.Text) + ") AS " + names[i]
		wanted[i], given[i] = d.Cast(k.expr, warehouse.Text), names[i]
		if k.insensitive {
			given[i] = d.NormalizeText(names[i])
		}
	}
	if _, err := s.Warehouse.Exec(ctx, d.CreateSchema(t.Schema)); err != nil {
		return "", found, err
	}
	if _, err := s.Warehouse.Exec(ctx, d.CreateTableAs(t, "SELECT "+strings.Join(empty, ", ")+" LIMIT 0")); err != nil {
		return "", found, err
	}
	if _, err := s.Warehouse.Load(ctx, t, names, next); err != nil {
		return "", found, fmt.Errorf("loading --keys: %w", err)
	}
	if found, err = s.findKeys(ctx, c, asOne(d, wanted), "SELECT DISTINCT "+asOne(d, given)+" AS k FROM "+d.Table(t)); err != nil {
		return "", found, err
	}
	return asOne(d, wanted) + " IN (SELECT " + asOne(d, given) + " FROM " + d.Table(t) + ")", found, nil
}

// findKeys counts which of the keys that were given are in what the sync reads.
func (s *Session) findKeys(ctx context.Context, c *compile.Sync, wanted, given string) (found report.Keys, err error) {
	if err := c.Bind(ctx, s.Warehouse); err != nil {
		return found, err
	}
	query := "SELECT COUNT(*) FROM (" + given + ") AS g WHERE g.k IS NOT NULL"
	if found.Given, err = warehouse.Number(ctx, s.Warehouse, query); err == nil {
		found.Found, err = warehouse.Number(ctx, s.Warehouse, query+" AND g.k IN (SELECT "+wanted+" FROM ("+c.Input+") src)")
	}
	switch {
	case err != nil:
		return found, fmt.Errorf("looking for --keys: %w", err)
	case found.Found == 0:
		return found, diag.Errorf(diag.Invalid, "backfill.keys", "0 of %d keys are in the model; nothing was sent", found.Given).
			WithHint("the file has one primary key (%s) a line, or is CSV whose header names it or the destination key", strings.Join(c.PrimaryKey, ", "))
	}
	return found, nil
}

// asOne is several values as one.
func asOne(d warehouse.Dialect, exprs []string) string {
	if len(exprs) == 1 {
		return exprs[0]
	}
	return d.JSONArray(exprs...)
}

// keyColumns finds in a header the whole primary key or a whole destination key; nil where the line is no such header.
func keyColumns(d warehouse.Dialect, c *compile.Sync, line string) []keyColumn {
	header, err := csv.NewReader(strings.NewReader(line)).Read()
	if err != nil {
		return nil
	}
	for i := range header {
		header[i] = strings.TrimSpace(header[i])
	}
	primary := make([]compile.KeyColumn, len(c.PrimaryKey))
	for i, name := range c.PrimaryKey {
		primary[i] = compile.KeyColumn{Name: name, Expr: d.Quote(name)}
	}
	for _, key := range append([][]compile.KeyColumn{primary}, c.Keys...) {
		var out []keyColumn
		for _, k := range key {
			if at := slices.Index(header, k.Name); at >= 0 {
				out = append(out, keyColumn{expr: k.Expr, insensitive: k.Insensitive, at: at})
			}
		}
		if len(out) == len(key) && len(out) > 0 {
			return out
		}
	}
	return nil
}

// keyLines reads one key a line.
func keyLines(in *bufio.Reader) func() ([]any, error) {
	lines := bufio.NewScanner(in)
	return func() ([]any, error) {
		for lines.Scan() {
			line := strings.TrimSpace(lines.Text())
			if n := len(line); n > 1 && line[0] == '"' && line[n-1] == '"' {
				line = strings.ReplaceAll(line[1:n-1], `""`, `"`)
			}
			if line != "" {
				return []any{line}, nil
			}
		}
		return nil, lines.Err()
	}
}

// keyRecords reads CSV behind its header.
func keyRecords(in *bufio.Reader, columns []keyColumn) func() ([]any, error) {
	reader := csv.NewReader(in)
	reader.FieldsPerRecord, reader.TrimLeadingSpace = -1, true
	first := true
	return func() ([]any, error) {
		record, err := reader.Read()
		if first && err == nil {
			first = false
			record, err = reader.Read()
		}
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, &diag.Error{Code: "backfill.keys", Msg: "--keys is not CSV", Err: err}
		}
		out := make([]any, len(columns))
		for i, k := range columns {
			if k.at < len(record) {
				out[i] = strings.TrimSpace(record[k.at])
			}
		}
		return out, nil
	}
}
