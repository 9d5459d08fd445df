package cli

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/connectors/sandbox"
	"github.com/dray-dev/dray/connectors/standin"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/graph"
)

// The names in a rehearsal's project.
const (
	rehearsalRows = "payload_rows" // source and model
	rehearsalOut  = "out"          // where a destination that writes files writes
	rehearsalHost = "stand-in.invalid"
)

// writeProject writes the rehearsal's project: the sync, its destination and what the sync's defaults are, as the user's files
// have them, but with the case's rows for a model and the stand-in for the vendor's host. Everything else of the user's project
// stays out: no warehouse, no other sync, no guard that would stop a handful of rows.
func (r *rehearsal) writeProject() error {
	sync, err := r.raw(r.node.Sync.Pos, "syncs", r.node.Name)
	if err != nil {
		return err
	}
	dest := r.project.Graph.Node(graph.Destination, r.node.Sync.Destination)
	to, err := r.raw(dest.Destination.Pos, "destinations", dest.Name)
	if err != nil {
		return err
	}
	if err := r.standFor(to); err != nil {
		return err
	}
	r.takeRows(sync)
	file := map[string]any{
		"name": r.project.Project.Name, "version": r.project.Project.Version,
		"warehouse":    map[string]any{"type": "duckdb", "path": "payload.duckdb", "threads": 1}, // one thread: rows keep their order
		"vars":         r.project.Project.Vars,
		"destinations": []any{to},
		"syncs":        []any{sync},
	}
	if d := r.project.Project.Defaults; d != nil {
		if root, err := parseYAML(r.path(d.Pos.File)); err == nil {
			if defaults := valueOf(root, "defaults"); defaults != nil {
				file["defaults"] = defaults
			}
		}
	}
	if err := r.copyMacros(); err != nil {
		return err
	}
	text, err := yaml.Marshal(file)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.dir, "dray.yaml"), text, 0o600)
}

// standFor points a destination to its stand-in, or to a folder of the rehearsal. Both start empty.
func (r *rehearsal) standFor(to *yaml.Node) error {
	typ := valueOf(to, "type")
	if typ == nil {
		return nil // loading says so
	}
	for _, e := range registry.Destinations() {
		spec := e.Connector.Spec()
		if spec.Type != typ.Value {
			continue
		}
		if e.StandIn == nil {
			return nil // it gets no rows
		}
		if in := e.StandIn(); in.Handler() != nil {
			r.standIn = in
			r.entries = []sandbox.Entry{{Type: spec.Type, Title: spec.Title, New: func() standin.StandIn { return in }}}
			setValue(to, "base_url", "http://"+rehearsalHost+"/"+spec.Type)
			return nil
		}
		return r.writesFiles(to, spec)
	}
	return nil
}

func (r *rehearsal) writesFiles(to *yaml.Node, spec destination.Spec) error {
	if !slices.ContainsFunc(spec.Config, func(o destination.Option) bool { return o.Name == "path" }) {
		return diag.Errorf(diag.Invalid, "test.destination", "destinations of type %s cannot be tested without a network yet", spec.Type)
	}
	r.format = "jsonl"
	if format := valueOf(to, "format"); format != nil {
		r.format = format.Value
	}
	if r.format == "parquet" {
		return diag.Errorf(diag.Invalid, "test.format", "a payload test compares text, and %s writes parquet", r.node.Sync.Destination)
	}
	setValue(to, "path", rehearsalOut)
	return nil
}

// takeRows makes the sync read the case's rows. They are the rows of the sync: its condition was met, its schedule has come.
func (r *rehearsal) takeRows(sync *yaml.Node) {
	for _, key := range []string{
		"segment", "entity", "model", "where", "via", "guard", "schedule", "timezone", "tags", "owner", "enabled",
	} {
		dropValue(sync, key)
	}
	setValue(sync, "model", rehearsalRows)
	setValue(sync, "guard", map[string]any{"max_removes": "100%", "max_changes": "100%", "allow_empty": true})
	fields := valueOf(sync, "fields")
	if fields == nil || fields.Kind != yaml.MappingNode {
		return
	}
	for i := 1; i < len(fields.Content); i += 2 {
		if segments := valueOf(fields.Content[i], "segments"); segments != nil {
			fields.Content[i] = segmentFlags(segments)
		}
	}
}

// segmentFlags reads a field of segments from one column a segment, true for those the row's profile is in.
func segmentFlags(segments *yaml.Node) *yaml.Node {
	var flags []string
	for _, s := range segments.Content {
		flags = append(flags, fmt.Sprintf("CASE WHEN \"%s\" THEN '%[1]s' END", s.Value))
	}
	sql := "list_sort(list_filter(CAST([" + strings.Join(flags, ", ") + "] AS VARCHAR[]), x -> x IS NOT NULL))"
	return encodeYAML(map[string]any{"sql": sql})
}

// write makes a file's rows the model of the rehearsal.
func (r *rehearsal) write(file string) error {
	text, err := os.ReadFile(r.path(file))
	if err != nil {
		return diag.Errorf(diag.Invalid, "test.rows", "cannot read %s: %s", file, err)
	}
	format := filepath.Ext(file)
	key, err := r.primaryKey(format, text)
	if err != nil {
		return &diag.Error{Kind: diag.Invalid, Code: "test.rows", Msg: "cannot be read", Err: err}
	}
	model := map[string]any{"name": rehearsalRows, "primary_key": key, "materialized": "table"}
	doc := map[string]any{"models": []any{model}}
	if format == ".sql" {
		model["sql"] = string(text)
	} else {
		model["sql"] = "select * from {{ source('" + rehearsalRows + "', 'rows') }}"
		doc["sources"] = []any{map[string]any{"name": rehearsalRows, "files": map[string]any{"rows": "rows" + format}}}
		if err := os.WriteFile(filepath.Join(r.dir, "rows"+format), text, 0o600); err != nil {
			return err
		}
	}
	out, err := yaml.Marshal(doc)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.dir, "rows.yaml"), out, 0o600)
}

// primaryKey is the source's own key where the rows have it; otherwise the destination's. It is not sent either way.
func (r *rehearsal) primaryKey(format string, text []byte) ([]string, error) {
	key := []string{"profile_id"}
	if r.node.Sync.Model != "" {
		key = nil
		for _, id := range r.node.Parents {
			if n := r.project.Graph.Nodes[id]; n.Kind == graph.Model && strings.Contains(r.node.Sync.Model, n.Name) {
				key = n.Model.PrimaryKey
			}
		}
	}
	columns, err := columnsOf(format, text)
	if err != nil {
		return nil, err
	}
	has := func(name string) bool {
		return format == ".sql" || slices.ContainsFunc(columns, func(c string) bool { return strings.EqualFold(c, name) })
	}
	if len(key) > 0 && !slices.ContainsFunc(key, func(name string) bool { return !has(name) }) && (format != ".sql" || r.node.Sync.Model != "") {
		return key, nil
	}
	key = nil
	for _, c := range r.node.Sync.Key[0].Columns {
		key = append(key, c.Column)
	}
	return key, nil
}

// columnsOf are the names in a CSV's header, or in the first line of JSON.
func columnsOf(format string, text []byte) ([]string, error) {
	switch format {
	case ".csv":
		lines, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(text), "\ufeff"))).ReadAll()
		if err != nil {
			return nil, err // also where a line has another number of values than the header
		}
		if len(lines) == 0 {
			return nil, errors.New("it is empty: the first line of a CSV file is its header")
		}
		return lines[0], nil
	case ".jsonl":
		var first map[string]json.RawMessage
		err := json.NewDecoder(strings.NewReader(string(text))).Decode(&first)
		if errors.Is(err, io.EOF) {
			return nil, errors.New("it is empty")
		}
		var columns []string
		for name := range first {
			columns = append(columns, name)
		}
		return columns, err
	default:
		return nil, nil
	}
}

// copyMacros: a field's SQL, and rows in SQL, may use the project's.
func (r *rehearsal) copyMacros() error {
	for _, m := range r.project.Project.Macros {
		target := filepath.Join(r.dir, filepath.FromSlash(m.Path))
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(target, []byte(m.Text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// path finds a file of the user's project.
func (r *rehearsal) path(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(r.project.Project.Dir, filepath.FromSlash(file))
}

// raw is an item of a list as it is written, with its references unresolved: no credential gets into the rehearsal's files.
func (r *rehearsal) raw(pos diag.Pos, list, name string) (*yaml.Node, error) {
	root, err := parseYAML(r.path(pos.File))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if items := valueOf(root, list); items != nil {
		for _, item := range items.Content {
			if n := valueOf(item, "name"); n != nil && n.Value == name {
				return item, nil
			}
		}
	}
	return nil, diag.At(pos, "test.not_found", "cannot find %s under %s: in the file", name, list)
}

// parseYAML is a file's root with all aliases replaced by what they stand for.
func parseYAML(path string) (*yaml.Node, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	return withoutAliases(doc.Content[0]), nil
}

func withoutAliases(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	copied := *n
	copied.Anchor, copied.Content = "", make([]*yaml.Node, len(n.Content))
	for i, c := range n.Content {
		copied.Content[i] = withoutAliases(c)
	}
	return &copied
}

// valueOf is a key's value in a map; nil where there is none.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func dropValue(n *yaml.Node, key string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = slices.Delete(n.Content, i, i+2)
			return
		}
	}
}

func setValue(n *yaml.Node, key string, value any) {
	dropValue(n, key)
	n.Content = append(n.Content, encodeYAML(key), encodeYAML(value))
}

func encodeYAML(v any) *yaml.Node {
	var n yaml.Node
	_ = n.Encode(v) // of text and maps of it: cannot fail
	return &n
}
