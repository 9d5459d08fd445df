package sqlcheck

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every statement that the suites ran in BigQuery's SQL passes the analyzer.
func TestCorpus(t *testing.T) {
	dir := os.Getenv("DRAY_SQL_CORPUS")
	if dir == "" {
		t.Skip("DRAY_SQL_CORPUS names no folder: make test-sql")
	}
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	entries := read(t, dir)
	if len(entries) < 100 {
		t.Fatalf("only %d statements in %s", len(entries), dir)
	}
	refused := map[string]int{}
	for _, e := range entries {
		if err := a.Check(e); err != nil {
			if refused[err.Error()]++; refused[err.Error()] == 1 {
				t.Errorf("%v\n%s", err, shape(e.SQL))
			}
		}
	}
	n := 0
	for _, r := range refused {
		n += r
	}
	t.Logf("%d statements analysed, %d refused", len(entries), n)
}

// The analyzer resolves names and types: it is no mere parser.
func TestAnalyzerRefuses(t *testing.T) {
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	tables := []Table{{Schema: "d", Name: "t", Columns: [][2]string{{"a", "INT64"}, {"tags", "ARRAY<STRING>"}, {"j", "JSON"}, {"n", "NUMERIC(10, 2)"}}}}
	for sql, want := range map[string]string{
		"SELECT a, n FROM `d`.`t`":                               "",
		"SELECT table_name FROM `d`.INFORMATION_SCHEMA.TABLES":   "",
		"SELECT b FROM `d`.`t`":                                  "Unrecognized name",
		"SELECT a FROM `d`.`u`":                                  "not found",
		"SELECT a || 'x' FROM `d`.`t`":                           "No matching signature",
		"SELECT CAST(a AS VARCHAR) FROM `d`.`t`":                 "Type not found",
		"SELECT a FROM `d`.`t` WHERE tags = tags":                "ARRAY",
		"SELECT FIRST(a ORDER BY a) FROM `d`.`t`":                "FIRST",
		"SELECT count(*) FILTER (WHERE a > 1) FROM `d`.`t`":      "Syntax error",
		"SELECT a % 2 FROM `d`.`t`":                              "Syntax error",
		"DELETE FROM `d`.`t`":                                    "WHERE",
		"SELECT 1 AS x WHERE FALSE":                              "WHERE",
		"WITH n AS MATERIALIZED (SELECT 1 AS x) SELECT x FROM n": "Syntax error",
		"SELECT j FROM `d`.`t` GROUP BY j":                       "JSON",
	} {
		err := a.Check(Entry{SQL: sql, Tables: tables})
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", sql, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want an error with %q", sql, err, want)
		}
	}
}

func read(t *testing.T, dir string) []Entry {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var out []Entry
	seen := map[string]bool{}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 64<<20)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "!") {
				t.Fatalf("%s was not written to its end: %s", name, lines.Text())
			}
			var e Entry
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
			if e.Dialect == "bigquery" && !seen[lines.Text()] {
				seen[lines.Text()] = true
				out = append(out, e)
			}
		}
		if err := lines.Err(); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	return out
}

var literal = regexp.MustCompile(`'(?:[^'\\]|\\.)*'`)

// shape is a statement without its texts.
func shape(sql string) string { return literal.ReplaceAllString(sql, "'…'") }
