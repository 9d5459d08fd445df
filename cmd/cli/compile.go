package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/run"
)

func (a *app) compileCommand() *cobra.Command {
	var full bool
	cmd := &cobra.Command{
		Use:   "compile [NAME…]",
		Short: "Print the SQL that would run",
		Long: `Prints the SQL of models with Jinja rendered and names resolved, of their tests, and of the rows
that each sync compares. Without names: of everything.`,
		Example:           "  dray compile orders_clean\n  dray compile --output json",
		GroupID:           groupProject,
		ValidArgsFunction: a.completeNames(graph.Model, graph.Entity, graph.Segment, graph.Sync),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(s *run.Session) error {
				words := append(args, a.flags.selects...)
				nodes, err := s.Graph.Select(words, a.flags.excludes, graph.Model, graph.Entity, graph.Segment, graph.Sync)
				if err != nil {
					return err
				}
				p, err := s.Program(cmd.Context(), false, full)
				if err != nil {
					return err
				}
				docs := make([]compiled, len(nodes))
				for i, n := range nodes {
					docs[i] = compiledNode(p, n)
				}
				var document any = docs
				if len(docs) == 1 && len(words) == 1 && !isSelector(words[0]) {
					document = docs[0]
				}
				a.show(document, func(out screen) { drawCompiled(out, docs) })
				return nil
			})
		},
	}
	fullRefreshFlag(cmd, &full)
	a.selectFlags(cmd)
	return cmd
}

// compiled is one node's SQL.
type compiled struct {
	ID           graph.ID       `json:"id"`
	Kind         graph.Kind     `json:"kind"`
	Name         string         `json:"name"`
	Materialized string         `json:"materialized,omitempty"`
	Relation     string         `json:"relation,omitempty"`
	SQL          string         `json:"sql"`
	Tests        []compiledTest `json:"tests,omitempty"`
}

type compiledTest struct {
	Name string `json:"name"`
	SQL  string `json:"sql"`
}

func compiledNode(p *compile.Program, n *graph.Node) compiled {
	doc := compiled{ID: n.ID, Kind: n.Kind, Name: n.Name}
	if s := p.Syncs[n.Name]; n.Kind == graph.Sync && s != nil {
		doc.SQL = s.Input
		return doc
	}
	node := p.Node(n.ID)
	if node == nil {
		return doc
	}
	doc.Materialized, doc.SQL = node.Materialized, node.Query
	if node.Relation.Name != "" {
		doc.Relation = p.Dialect.Table(node.Relation)
	}
	for _, t := range node.Tests {
		doc.Tests = append(doc.Tests, compiledTest{t.Name, t.Query})
	}
	return doc
}

func drawCompiled(s screen, docs []compiled) {
	for i, doc := range docs {
		if i > 0 {
			s.line("")
		}
		s.line("%s", s.dim("-- "+strings.TrimSpace(string(doc.Kind)+" "+doc.Name+" "+doc.Relation+" "+doc.Materialized)))
		if doc.SQL != "" {
			s.line("%s;", strings.TrimRight(doc.SQL, "; \n"))
		}
		for _, t := range doc.Tests {
			s.line("%s", s.dim("-- test "+t.Name))
			s.line("%s;", strings.TrimRight(t.SQL, "; \n"))
		}
	}
}
