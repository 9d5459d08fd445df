package compile_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/destination/webhook"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/duckdb"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/internal/golden"
	"github.com/dray-dev/dray/models/build"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/models/graph"
)

func specs(typ string) (destination.Spec, bool) {
	return webhook.Connector{}.Spec(), typ == "webhook"
}

func prepare(t *testing.T, name string) (*graph.Graph, warehouse.Warehouse, compile.Options) {
	t.Helper()
	p, err := config.Load("testdata/"+name, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g, err := graph.Resolve(p, specs)
	if err != nil {
		t.Fatal(err)
	}
	w, err := duckdb.Open(t.Context(), map[string]any{"path": "test.duckdb"}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return g, w, build.Hooks(t.Context(), w, compile.Options{AsOf: p.Clock(time.Now()), Specs: specs})
}

// TestGolden compiles a project as its first build, a later one, and a plan see it; DuckDB then runs what was compiled.
func TestGolden(t *testing.T) {
	t.Parallel()
	g, w, o := prepare(t, "shop")
	built := func(warehouse.Table) (bool, error) { return true, nil }
	scratch := o
	scratch.Scratch, scratch.Built = true, built
	later := o
	later.Built = built
	for file, o := range map[string]compile.Options{"duckdb.sql": o, "duckdb_incremental.sql": later, "duckdb_scratch.sql": scratch} {
		p, err := compile.Compile(g, w.Dialect(), o)
		if err != nil {
			t.Fatal(err)
		}
		golden.Check(t, "testdata/shop/"+file, []byte(strings.ReplaceAll(describe(p), g.Project.Dir, "$DIR")))
	}

	for range 2 { // the second is incremental
		p, err := compile.Compile(g, w.Dialect(), o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := build.Run(t.Context(), build.Deps{Warehouse: w}, p, []graph.ID{"model.events_daily", "model.by_store"}); err != nil {
			t.Fatal(err)
		}
		rows, err := w.Query(t.Context(), p.Syncs["stores_to_hook"].Input)
		if err != nil {
			t.Fatal(err)
		}
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
	}
}

// describe prints all that a program holds.
func describe(p *compile.Program) string {
	var out strings.Builder
	for _, n := range p.Nodes {
		if n.Kind == graph.Destination {
			continue
		}
		fmt.Fprintf(&out, "-- %s: %s\n", n.ID, strings.TrimSpace(n.Materialized+" "+p.From(n.ID)))
		if n.Query != "" {
			fmt.Fprintf(&out, "%s;\n", n.Query)
		}
		for _, t := range n.Tests {
			fmt.Fprintf(&out, "-- test %s, after %v\n%s;\n", t.Name, t.Reads, t.Query)
		}
		if s := p.Syncs[n.Name]; n.Kind == graph.Sync {
			fmt.Fprintf(&out, "%s;\n", s.Input)
			for i, key := range s.Keys {
				for _, c := range key {
					fmt.Fprintf(&out, "-- key %d %s: %s\n", i+1, c.Name, c.Expr)
				}
			}
			for _, f := range s.Fields {
				fmt.Fprintf(&out, "-- field %s: %s\n", f.Name, f.Expr)
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}

func TestUnknownFileFormat(t *testing.T) {
	t.Parallel()
	g, w, o := prepare(t, "shop")
	g.Node(graph.Source, "shop.orders").SourceFile.Path = "data/orders.xlsx"
	_, err := compile.Compile(g, w.Dialect(), o)
	if err == nil || !strings.HasPrefix(err.Error(), "dray.yaml:11:15: file orders of source shop cannot be read: DuckDB reads .csv") {
		t.Errorf("got %v", err)
	}
}

func TestOneQuery(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, want string }{
		"semicolon":                {"select 1;", "select 1"},
		"semicolon and comment":    {"select 1 ; -- done; really\n", "select 1   -- done; really"},
		"inside":                   {"select ';', \";\", 'it''s;' /* ; /* ; */ */, $$;$$, $x$;$$;$x$ -- ;", "select ';', \";\", 'it''s;' /* ; /* ; */ */, $$;$$, $x$;$$;$x$ -- ;"},
		"two queries":              {"select 1;\n-- and\nselect 2", "line 3"},
		"several semicolons":       {"select 1;;", "select 1"},
		"a dollar in a name":       {"select a$b$ from t;", "select a$b$ from t"},
		"an unclosed text is kept": {"select 'a;", "select 'a;"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &config.Project{Schema: "dray", Models: []*config.Model{{Name: "m", SQL: c.sql, SQLPos: diag.Pos{File: "m.sql", Line: 1, Col: 1}}}}
			g, err := graph.Resolve(p, nil)
			if err != nil {
				t.Fatal(err)
			}
			prog, err := compile.Compile(g, duckdb.Dialect{}, compile.Options{})
			if line, ok := strings.CutPrefix(c.want, "line "); ok {
				if err == nil || !strings.HasPrefix(err.Error(), "m.sql:"+line+": model m must be one query") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := prog.Nodes[0].Query; got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}
