package graph

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/dbt"
	"github.com/dray-dev/dray/models/jinja"
)

// readDBT reads the manifest that `dbt:` names.
func (r *resolver) readDBT() {
	c := r.g.Project.DBT
	if c == nil || c.Manifest == "" { // config has reported that it is missing
		return
	}
	path := filepath.FromSlash(c.Manifest)
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.g.Project.Dir, path)
	}
	m, err := dbt.Read(path, c.Manifest)
	if err != nil {
		r.fail(placed(err, c.At("manifest")))
		return
	}
	r.g.DBT = m
	if limit := c.MaxAge.Duration; limit > 0 {
		if age := time.Since(m.Generated); age > limit {
			r.fail(diag.At(c.At("max_age"), "dbt.old", "the dbt manifest is of %s, older than max_age: %s", m.Generated.UTC().Format("2006-01-02 15:04 UTC"), c.MaxAge).
				WithHint("dbt parse writes it anew"))
		}
	}
	engines := []string{"duckdb", "postgres", "bigquery", "snowflake"}
	if w := r.g.Project.Warehouse; w != nil && w.Type != m.Adapter && slices.Contains(engines, m.Adapter) && slices.Contains(engines, w.Type) {
		r.fail(diag.At(c.At("manifest"), "dbt.adapter", "the dbt manifest is of a project on %s, and the warehouse is %s", m.Adapter, w.Type).
			WithHint("let a target name the manifest that dbt wrote for its own target: dbt: {manifest: …}"))
	}
}

// placed is an error of dbt's package at a place.
func placed(err error, pos diag.Pos) *diag.Error {
	var e *diag.Error
	if !errors.As(err, &e) {
		return diag.At(pos, "dbt.manifest", "%s", err)
	}
	out := *e
	out.Pos = pos
	return &out
}

// lookDBT finds a relation in the dbt project; nil without an error: it is not there.
func (r *resolver) lookDBT(rel jinja.Relation) (*dbt.Relation, *diag.Error) {
	if r.g.DBT == nil {
		return nil, nil
	}
	var found *dbt.Relation
	var err error
	switch rel.Kind {
	case "ref":
		found, err = r.g.DBT.Ref(rel.Package, rel.Name, rel.Version)
	case "source":
		found, err = r.g.DBT.Source(rel.Name, rel.Table)
	}
	if err != nil {
		return nil, placed(err, diag.Pos{})
	}
	return found, nil
}

// findDBT is the node of a relation in the dbt project, made the first time; "" without an error: it is not there. An own thing of
// the same name comes before dbt's, as in dbt a project's own model comes before those of its packages; then dbt's is found by
// ref('package', 'name'), and its node is called so.
func (r *resolver) findDBT(rel jinja.Relation) (ID, *diag.Error) {
	found, err := r.lookDBT(rel)
	if found == nil {
		return "", err
	}
	n := r.dbtNode(found)
	there := r.g.Nodes[n.ID]
	if r.g.DBT.Shadowed(found) || there != nil && (there.DBT == nil || there.DBT.UniqueID != found.UniqueID) {
		n.Name = found.Package + "." + n.Name
		n.ID = MakeID(n.Kind, n.Name)
	}
	r.add(n)
	return n.ID, nil
}

// dbtNode is a dbt relation as a model or a source of this project that is read as it is.
func (r *resolver) dbtNode(found *dbt.Relation) *Node {
	pos := r.g.Project.DBT.At("manifest")
	n := &Node{Kind: Model, Name: found.Full(), Pos: pos, Tags: found.Tags, DBT: found}
	columns := map[string]config.ColumnIs{}
	for _, c := range found.Columns {
		if c.NeverSend {
			columns[c.Name] = config.ColumnIs{Node: config.Node{Pos: pos}, NeverSend: true}
		}
	}
	if found.Kind == "source" {
		n.Kind = Source
		n.Source = &config.Source{Node: config.Node{Pos: pos}, Name: found.Source, Database: found.Database, Schema: found.Schema}
		n.SourceTable = &config.SourceTable{Node: config.Node{Pos: pos}, Name: found.Identifier, Columns: columns}
	} else {
		n.Model = &config.Model{
			Node: config.Node{Pos: pos}, Name: n.Name, PrimaryKey: found.PrimaryKey, Description: found.Description, Columns: columns,
			Table: found.Call(""),
		}
	}
	n.ID = MakeID(n.Kind, n.Name)
	return n
}

// dbtNames are the names of a kind that the dbt project adds.
func (r *resolver) dbtNames(k Kind) []string {
	switch {
	case r.g.DBT == nil:
		return nil
	case k == Model:
		return r.g.DBT.Models()
	case k == Source:
		return r.g.DBT.Sources()
	}
	return nil
}

// missingPackage reports a ref() with a package or a version that only a dbt project could have.
func (r *resolver) missingPackage(rel jinja.Relation) *diag.Error {
	err := &diag.Error{Code: "model.unknown", Dangling: true, Msg: fmt.Sprintf("there is no model %s", strings.TrimPrefix(rel.String(), "ref"))}
	if r.g.DBT == nil {
		return err.WithHint("packages and versions are of dbt's models: dbt: {manifest: ../shop_dbt/target/manifest.json}")
	}
	if near := config.Suggest(rel.Name, r.g.DBT.Models()); near != "" {
		return err.WithHint("did you mean %s?", near)
	}
	return err
}

// DBTOf is what of dbt's a sync is made of, or requires, in Order; not what the syncs before it are made of.
func (g *Graph) DBTOf(sync *Node) []*dbt.Relation {
	var built []ID
	for _, id := range sync.Parents {
		if g.Nodes[id].Kind != Sync {
			built = append(built, id)
		}
	}
	var out []*dbt.Relation
	for _, id := range g.Ancestors(built...) {
		if r := g.Nodes[id].DBT; r != nil {
			out = append(out, r)
		}
	}
	return out
}
