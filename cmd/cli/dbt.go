package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/dbt"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/run"
)

func (a *app) dbtCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "dbt",
		Short:   "Work with the dbt project that dbt: names",
		Long:    "The dbt project whose manifest dray.yaml names under dbt: what of it ref() and source() find, and what its docs are told of the syncs.",
		GroupID: groupProject,
		Args:    unknownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.dbtModelsCommand(), a.dbtExposuresCommand())
	return cmd
}

// withDBT prepares the project and holds that there is a dbt project beside it.
func (a *app) withDBT() (*run.Prepared, *dbt.Manifest, error) {
	p, err := a.prepare()
	if err != nil {
		return nil, nil, err
	}
	if p.Graph.DBT == nil {
		return nil, nil, diag.At(diag.Pos{File: config.ProjectFile}, "dbt.none", "the project names no dbt project").
			WithHint("dbt: {manifest: ../shop_dbt/target/manifest.json}")
	}
	return p, p.Graph.DBT, nil
}

func (a *app) dbtModelsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "models [NAME…]",
		Short:   "List what ref() and source() find in the dbt project",
		Long:    "Lists the models, seeds, snapshots and source tables of the dbt project, with the relation that each stands for. With names, also their columns, as dbt describes them.",
		Example: "  dray dbt models\n  dray dbt models customers raw.orders",
		RunE: func(_ *cobra.Command, args []string) error {
			_, m, err := a.withDBT()
			if err != nil {
				return err
			}
			relations, err := dbtRelations(m, args)
			if err != nil {
				return err
			}
			documents := make([]dbtDocument, len(relations))
			for i, r := range relations {
				documents[i] = documentDBT(m, r)
			}
			a.show(documents, func(s screen) { drawDBT(s, documents, len(args) > 0) })
			return nil
		},
	}
	a.projectFlags(cmd)
	return cmd
}

// dbtRelations are those of the names; all without names.
func dbtRelations(m *dbt.Manifest, names []string) ([]*dbt.Relation, error) {
	all := m.Relations()
	if len(names) == 0 {
		return all, nil
	}
	var out []*dbt.Relation
	for _, name := range names {
		before := len(out)
		for _, r := range all {
			if r.Full() == name || r.Name == name && r.Source == "" || r.UniqueID == name {
				out = append(out, r)
			}
		}
		if len(out) == before {
			err := diag.Errorf(diag.Invalid, "dbt.unknown", "dbt has no model or source %q", name)
			if near := config.Suggest(name, append(m.Models(), m.Sources()...)); near != "" {
				err.Hint = "did you mean " + near + "?"
			}
			return nil, err
		}
	}
	return out, nil
}

type dbtDocument struct {
	Name         string       `json:"name"`
	Kind         string       `json:"kind"`
	Package      string       `json:"package"`
	Materialized string       `json:"materialized,omitempty"`
	Call         string       `json:"call"`
	Relation     string       `json:"relation"`
	PrimaryKey   []string     `json:"primary_key"`
	Tests        int          `json:"tests"`
	Description  string       `json:"description"`
	Columns      []dbt.Column `json:"columns"`
}

func documentDBT(m *dbt.Manifest, r *dbt.Relation) dbtDocument {
	d := dbtDocument{
		Name: r.Full(), Kind: r.Kind, Package: r.Package, Materialized: r.Materialized, Call: r.Call(m.Project), Relation: r.SQL,
		PrimaryKey: append([]string{}, r.PrimaryKey...), Tests: len(r.Tests), Description: r.Description, Columns: append([]dbt.Column{}, r.Columns...),
	}
	if d.Relation == "" && r.Materialized != "ephemeral" {
		d.Relation = strings.Join([]string{r.Database, r.Schema, r.Identifier}, ".")
	}
	return d
}

func drawDBT(s screen, documents []dbtDocument, columns bool) {
	if !columns {
		var rows [][]string
		for _, d := range documents {
			rows = append(rows, []string{d.Call, d.Relation, strings.Join(d.PrimaryKey, ", "), d.Description})
		}
		s.table([]column{left("name"), left("relation"), left("primary key"), prose("description")}, rows)
		return
	}
	for i, d := range documents {
		if i > 0 {
			s.line("")
		}
		s.line("%s  %s", s.bold(d.Call), d.Relation)
		if d.Description != "" {
			s.paragraph("  ", d.Description)
		}
		var rows [][]string
		for _, c := range d.Columns {
			rows = append(rows, []string{c.Name, c.Type, c.Description})
		}
		if len(rows) > 0 {
			s.table([]column{left("column"), left("type"), prose("description")}, rows)
		}
	}
}

func (a *app) dbtExposuresCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "exposures [SYNC…]",
		Short: "Write the exposures by which dbt's docs show the syncs",
		Long: `Writes a YAML file for the models folder of the dbt project: one exposure for each sync that is made of anything of dbt's, with
what it depends on. dbt's docs and lineage then show where its models are delivered, and "dbt build --select +exposure:…" builds what
a sync needs.`,
		Example:           "  dray dbt exposures --output ../shop_dbt/models/dray_exposures.yml\n  dray dbt exposures tag:crm",
		ValidArgsFunction: a.completeNames(graph.Sync),
		RunE: func(_ *cobra.Command, args []string) error {
			if output == "json" || output == "text" { // as everywhere
				a.flags.output, output = output, ""
			}
			p, m, err := a.withDBT()
			if err != nil {
				return err
			}
			exposures, err := a.exposures(p, append(args, a.flags.selects...))
			if err != nil {
				return err
			}
			if a.json() {
				a.printJSON(exposureDocuments(m, exposures))
				return nil
			}
			return a.writeExposures(m, exposures, output)
		},
	}
	a.selectFlags(cmd)
	cmd.Flags().StringVar(&output, "output", "", "write to a `FILE` instead of stdout; json for one document on stdout")
	return cmd
}

func (a *app) writeExposures(m *dbt.Manifest, exposures []dbt.Exposure, file string) error {
	header := []string{"Written by `dray dbt exposures`: do not edit, write it anew when the syncs change."}
	if file == "" {
		return m.WriteExposures(a.out.w, header, exposures)
	}
	var text strings.Builder
	if err := m.WriteExposures(&text, header, exposures); err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil { //nolint:gosec // a file of the dbt project, as readable as its others
		return diag.Errorf(diag.Invalid, "cli.out", "cannot write %s", file).WithHint("%s", err)
	}
	a.say("wrote %s: %s", file, plural(int64(len(exposures)), "exposure"))
	return nil
}

// exposures are of the syncs that are made of anything of dbt's.
func (a *app) exposures(p *run.Prepared, names []string) ([]dbt.Exposure, error) {
	nodes, err := p.Graph.Select(names, a.flags.excludes)
	if err != nil {
		return nil, err
	}
	out := []dbt.Exposure{}
	for _, n := range nodes {
		if n.Kind != graph.Sync {
			continue
		}
		e := dbt.Exposure{
			Name: p.Project.Name + "_" + n.Name, Label: n.Name, URL: p.Project.DBT.URL, Owner: n.Sync.Team, DependsOn: p.Graph.DBTOf(n),
			Description: strings.TrimSpace(n.Sync.Description + "\n\n" + about(p.Graph)(n.Name)),
		}
		if e.Owner == "" {
			e.Owner = p.Project.DBT.Owner
		}
		if e.Owner == "" {
			e.Owner = p.Project.Name
		}
		if n.Sync.Schedule != "" {
			e.Description += fmt.Sprintf(", on schedule %q", n.Sync.Schedule)
		}
		if len(e.DependsOn) > 0 {
			out = append(out, e)
		}
	}
	return out, nil
}

type exposureDocument struct {
	Name      string   `json:"name"`
	Sync      string   `json:"sync"`
	Owner     string   `json:"owner"`
	DependsOn []string `json:"depends_on"`
}

func exposureDocuments(m *dbt.Manifest, exposures []dbt.Exposure) []exposureDocument {
	out := []exposureDocument{}
	for _, e := range exposures {
		d := exposureDocument{Name: e.Name, Sync: e.Label, Owner: e.Owner}
		for _, r := range e.DependsOn {
			d.DependsOn = append(d.DependsOn, r.Call(m.Project))
		}
		out = append(out, d)
	}
	return out
}
