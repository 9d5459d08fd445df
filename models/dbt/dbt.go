// Package dbt reads what dbt leaves in a project's target folder: manifest.json, which names the relations that ref() and source()
// mean there, run_results.json and sources.json, which tell what passed and how old it is. It also writes exposures, by which dbt's
// own docs show the syncs.
//
// graph asks it for what a Dray project does not define itself; sync/run asks it before anything is sent. The files are dbt's
// documented artifacts (docs.getdbt.com/reference/artifacts); of a manifest only what Dray uses is kept.
package dbt

import (
	"bufio"
	"crypto/md5" //nolint:gosec // dbt's project_id is one; nothing is secured by it
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dray-dev/dray/internal/diag"
)

// Manifest is what a dbt project has, by the names that its SQL uses. It is read once and not changed.
type Manifest struct {
	Path      string    // of manifest.json
	Project   string    // the dbt project's name; "" where an old manifest does not tell
	Adapter   string    // duckdb, postgres, bigquery, snowflake or another
	Version   string    // of dbt
	Generated time.Time // when dbt wrote it

	models   map[string][]*Relation // by name; versions and packages side by side
	sources  map[string][]*Relation // by source.table
	disabled map[string]string      // name or source.table → what it is
	byID     map[string]*Relation
	parents  map[string][]string // unique id → what it depends on
}

// Relation is a model, seed, snapshot or source table of dbt.
type Relation struct {
	UniqueID     string
	Kind         string // model, seed, snapshot, source
	Package      string
	Name         string
	Source       string // of a source table; its Name is the table's
	Version      string // of a model that has several
	Latest       bool   // it is what ref() without a version means
	Materialized string

	// SQL is the relation as dbt writes it, with dbt's quoting; "" where the manifest does not say.
	SQL                          string
	Database, Schema, Identifier string

	Description string
	Columns     []Column // those that are described, by name
	PrimaryKey  []string // as constraints or tests say; nil = they do not
	Tests       []Test
	Tags        []string
}

// Column is a described column.
type Column struct {
	Name        string `json:"name"`
	Type        string `json:"type,omitempty"`
	Description string `json:"description,omitempty"`
	NeverSend   bool   `json:"never_send,omitempty"` // meta: {never_send: true}
}

// Test is a test of dbt's.
type Test struct{ UniqueID, Name string }

// schemas are the versions of the manifest's schema whose parts used here are the same: dbt 1.5 to 1.11, and Fusion, which writes 20 for 12.
func schemas() []int { return []int{9, 10, 11, 12, 20} }

// file is a manifest as dbt writes it, without what is not used.
type file struct {
	Metadata metadata          `json:"metadata"`
	Nodes    map[string]node   `json:"nodes"`
	Sources  map[string]node   `json:"sources"`
	Disabled map[string][]node `json:"disabled"`
}

type metadata struct {
	Schema    string    `json:"dbt_schema_version"`
	Version   string    `json:"dbt_version"`
	Generated time.Time `json:"generated_at"`
	Project   string    `json:"project_name"`
	ProjectID string    `json:"project_id"`
	Adapter   string    `json:"adapter_type"`
}

type node struct {
	UniqueID     string            `json:"unique_id"`
	ResourceType string            `json:"resource_type"`
	Package      string            `json:"package_name"`
	Name         string            `json:"name"`
	SourceName   string            `json:"source_name"`
	Identifier   string            `json:"identifier"`
	Alias        string            `json:"alias"`
	Database     string            `json:"database"`
	Schema       string            `json:"schema"`
	RelationName string            `json:"relation_name"`
	Description  string            `json:"description"`
	Version      any               `json:"version"`
	Latest       any               `json:"latest_version"`
	Columns      map[string]column `json:"columns"`
	Constraints  []constraint      `json:"constraints"`
	PrimaryKey   []string          `json:"primary_key"`
	Tags         []string          `json:"tags"`
	Config       struct {
		Materialized string `json:"materialized"`
		Enabled      *bool  `json:"enabled"`
	} `json:"config"`
	DependsOn struct {
		Nodes []string `json:"nodes"`
	} `json:"depends_on"`

	// Of tests.
	AttachedNode string `json:"attached_node"`
	ColumnName   string `json:"column_name"`
	Metadata     *struct {
		Name   string         `json:"name"`
		Kwargs map[string]any `json:"kwargs"`
	} `json:"test_metadata"`
}

type column struct {
	Name        string         `json:"name"`
	Description string         `json:"description"`
	DataType    string         `json:"data_type"`
	Meta        map[string]any `json:"meta"`
	Config      struct {
		Meta map[string]any `json:"meta"`
	} `json:"config"`
	Constraints []constraint `json:"constraints"`
}

type constraint struct {
	Type    string   `json:"type"`
	Columns []string `json:"columns"`
}

// Read reads a manifest. Errors are *diag.Error without a place: the caller knows where the path was written. shown is the path as
// its user knows it.
func Read(name, shown string) (*Manifest, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, diag.Errorf(diag.Invalid, "dbt.manifest", "there is no dbt manifest %s", shown).
			WithHint("dbt writes it: run dbt parse, or any command that reads the project")
	}
	if err != nil {
		return nil, diag.Errorf(diag.Invalid, "dbt.manifest", "the dbt manifest %s cannot be read: %s", shown, cause(err))
	}
	defer func() { _ = f.Close() }()
	var in file
	if err := json.NewDecoder(bufio.NewReaderSize(f, 1<<20)).Decode(&in); err != nil {
		return nil, diag.Errorf(diag.Invalid, "dbt.manifest", "the dbt manifest %s cannot be read: %s", shown, brief(err)).
			WithHint("dbt parse writes it anew")
	}
	version, err := schemaVersion(in.Metadata.Schema, "manifest")
	if err != nil || !slices.Contains(schemas(), version) {
		return nil, diag.Errorf(diag.Invalid, "dbt.manifest_version", "%s %s", shown, otherVersion(in.Metadata, version, err)).
			WithHint("this Dray reads manifests v9 to v12, which dbt 1.5 and later write")
	}
	m := &Manifest{
		Path: name, Project: in.Metadata.Project, Adapter: in.Metadata.Adapter, Version: in.Metadata.Version, Generated: in.Metadata.Generated,
		models: map[string][]*Relation{}, sources: map[string][]*Relation{}, disabled: map[string]string{},
		byID: map[string]*Relation{}, parents: map[string][]string{},
	}
	m.add(in)
	return m, nil
}

func otherVersion(m metadata, version int, err error) string {
	switch {
	case err != nil:
		return "is no dbt manifest"
	case m.Version != "":
		return fmt.Sprintf("is a dbt manifest v%d, as dbt %s writes it", version, m.Version)
	}
	return fmt.Sprintf("is a dbt manifest v%d", version)
}

// schemaVersion is N of https://schemas.getdbt.com/dbt/manifest/vN.json.
func schemaVersion(url, kind string) (int, error) {
	dir, last := path.Split(url)
	number, ok := strings.CutPrefix(strings.TrimSuffix(last, ".json"), "v")
	if !ok || path.Base(dir) != kind {
		return 0, errors.New("not a " + kind)
	}
	return strconv.Atoi(number)
}

func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// brief says what is wrong with a JSON text, without its text.
func brief(err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("it is not JSON at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Sprintf("%s is not as dbt writes it", kind.Field)
	}
	return "it ends before its end"
}

func (m *Manifest) add(in file) {
	for id, n := range in.Nodes {
		m.parents[id] = n.DependsOn.Nodes
		switch n.ResourceType {
		case "model", "seed", "snapshot":
			m.keep(m.models, n.Name, n.relation(id))
		}
	}
	for id, n := range in.Sources {
		m.keep(m.sources, n.SourceName+"."+n.Name, n.relation(id))
	}
	for _, nodes := range in.Disabled {
		for _, n := range nodes {
			switch n.ResourceType {
			case "model", "seed", "snapshot":
				m.disabled[n.Name] = n.ResourceType
			case "source":
				m.disabled[n.SourceName+"."+n.Name] = "source"
			}
		}
	}
	m.addTests(in)
	for _, all := range []map[string][]*Relation{m.models, m.sources} {
		for _, relations := range all {
			slices.SortFunc(relations, func(a, b *Relation) int { return strings.Compare(a.UniqueID, b.UniqueID) })
		}
	}
	if m.Project == "" {
		m.Project = in.project()
	}
}

func (m *Manifest) keep(in map[string][]*Relation, name string, r *Relation) {
	in[name] = append(in[name], r)
	m.byID[r.UniqueID] = r
}

// project is the name whose hash is the manifest's project_id: before v10 nothing else tells.
func (f file) project() string {
	for _, n := range f.Nodes {
		sum := md5.Sum([]byte(n.Package)) //nolint:gosec // see the import
		if hex.EncodeToString(sum[:]) == f.Metadata.ProjectID {
			return n.Package
		}
	}
	return ""
}

func (n node) relation(id string) *Relation {
	r := &Relation{
		UniqueID: id, Kind: n.ResourceType, Package: n.Package, Name: n.Name, Source: n.SourceName, Version: versionText(n.Version),
		Materialized: n.Config.Materialized, SQL: n.RelationName, Database: n.Database, Schema: n.Schema, Identifier: n.Alias,
		Description: strings.TrimSpace(n.Description), Tags: n.Tags,
	}
	r.Latest = r.Version == "" || r.Version == versionText(n.Latest)
	if r.Identifier == "" {
		r.Identifier = n.Identifier
	}
	if r.Identifier == "" {
		r.Identifier = n.Name
	}
	for name, c := range n.Columns {
		if c.Name == "" {
			c.Name = name
		}
		r.Columns = append(r.Columns, Column{
			Name: c.Name, Type: c.DataType, Description: strings.TrimSpace(c.Description),
			NeverSend: c.Meta["never_send"] == true || c.Config.Meta["never_send"] == true,
		})
	}
	slices.SortFunc(r.Columns, func(a, b Column) int { return strings.Compare(a.Name, b.Name) })
	r.PrimaryKey = n.declaredKey()
	return r
}

// versionText is a model's version: numbers and texts alike.
func versionText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

// declaredKey is the key that constraints declare; else what dbt itself found out (primary_key, from dbt 1.8 on).
func (n node) declaredKey() []string {
	for _, c := range n.Constraints {
		if c.Type == "primary_key" && len(c.Columns) > 0 {
			return c.Columns
		}
	}
	var columns []string
	for name, c := range n.Columns {
		if slices.ContainsFunc(c.Constraints, func(c constraint) bool { return c.Type == "primary_key" }) {
			columns = append(columns, name)
		}
	}
	if len(columns) == 1 { // several would be a composite key only if dbt said so
		return columns
	}
	if len(n.PrimaryKey) > 0 {
		return n.PrimaryKey
	}
	return nil
}

// addTests gives each relation its tests, and the key that they prove: a column that is unique and not NULL, or a unique combination.
func (m *Manifest) addTests(in file) {
	unique, notNull, combined := map[string][]string{}, map[string][]string{}, map[string][]string{}
	for id, n := range in.Nodes {
		if n.ResourceType != "test" {
			continue
		}
		of := n.DependsOn.Nodes
		if n.AttachedNode != "" {
			of = []string{n.AttachedNode}
		}
		for _, tested := range of {
			if r := m.byID[tested]; r != nil {
				r.Tests = append(r.Tests, Test{UniqueID: id, Name: n.Name})
			}
		}
		if n.Metadata == nil || len(of) != 1 {
			continue
		}
		switch n.Metadata.Name {
		case "unique":
			unique[of[0]] = append(unique[of[0]], n.column())
		case "not_null":
			notNull[of[0]] = append(notNull[of[0]], n.column())
		case "unique_combination_of_columns":
			columns, _ := n.Metadata.Kwargs["combination_of_columns"].([]any)
			var names []string
			for _, c := range columns {
				names = append(names, fmt.Sprint(c))
			}
			if before := combined[of[0]]; len(before) == 0 || len(names) < len(before) {
				combined[of[0]] = names
			}
		}
	}
	for id, r := range m.byID {
		slices.SortFunc(r.Tests, func(a, b Test) int { return strings.Compare(a.UniqueID, b.UniqueID) })
		if r.PrimaryKey != nil {
			continue
		}
		slices.Sort(unique[id])
		for _, c := range unique[id] {
			if c != "" && slices.Contains(notNull[id], c) {
				r.PrimaryKey = []string{c}
				break
			}
		}
		if r.PrimaryKey == nil && len(combined[id]) > 0 {
			r.PrimaryKey = combined[id]
		}
	}
}

func (n node) column() string {
	if n.ColumnName != "" {
		return n.ColumnName
	}
	c, _ := n.Metadata.Kwargs["column_name"].(string)
	return c
}
