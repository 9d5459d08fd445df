package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/dray-dev/dray/internal/diag"
)

// Options are what a call of Load brings along.
type Options struct {
	Target string            // "" or "default": the settings as they stand
	Vars   map[string]string // replace those of the project; numbers and booleans are recognised
	// Env looks up ${NAME}; nil is the process's environment.
	Env  func(string) (string, bool)
	AsOf string // replaces as_of
}

// Load reads the project below dir: dray.yaml, every other YAML file, models/**/*.sql and macros/*.sql.
//
// All problems are returned together as a diag.List. The project is not nil where all files could at least be parsed: what
// could be read is in it, so that references can be checked too and all problems shown at once; it must not be run.
func Load(dir string, o Options) (*Project, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("finding %s: %w", dir, err)
	}
	l := &loader{dir: dir, options: o}
	if l.options.Env == nil {
		l.options.Env = os.LookupEnv
	}
	project := l.load()
	return project, l.problems.once().Err()
}

// loader carries one Load.
type loader struct {
	dir      string
	options  Options
	problems problems
	models   []SQLFile
	macros   []SQLFile
	decoder  *decoder
}

func (l *loader) load() *Project {
	found := findFiles(l.dir, &l.problems.List)
	if found == nil {
		return nil
	}
	l.decoder = newDecoder(&resolver{dir: l.dir, env: l.options.Env}, &l.problems.List)
	root, ok := l.sections(found.yaml)
	if !ok {
		return nil
	}
	l.models, l.macros = l.sqlFiles(found.models), l.sqlFiles(found.macros)
	root, ok = l.applyTarget(root)
	if !ok {
		return nil
	}
	root = l.applyDefaults(root)
	project := &Project{Dir: l.dir, Macros: l.macros}
	l.decoder.structure(root, reflect.ValueOf(project).Elem(), "project")
	l.finish(project)
	check(project, &l.problems.List)
	return project
}

// sections merges the top level of all files into one tree: lists are joined, maps united.
func (l *loader) sections(files []string) (root *tree, ok bool) {
	root = &tree{pos: diag.Pos{File: ProjectFile, Line: 1, Col: 1}, shape: mapping}
	ok = true
	for _, file := range parseFiles(l.dir, files) {
		l.problems.Add(file.problems.Err())
		ok = ok && file.ok
		for _, d := range file.documents {
			root = l.addDocument(root, d)
		}
	}
	return root, ok
}

// parsed is one file after parsing.
type parsed struct {
	documents []*tree
	problems  diag.List
	ok        bool
}

// parseFiles reads and parses the files, several at once: half of the time that loading takes is spent here.
func parseFiles(dir string, files []string) []parsed {
	out := make([]parsed, len(files))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, file := range files {
		group.Go(func() error {
			text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(file)))
			if err != nil {
				out[i].problems.Add(unreadable(file, err))
				return nil
			}
			out[i].documents, out[i].ok = parseYAML(file, text, &out[i].problems)
			return nil
		})
	}
	_ = group.Wait() // problems are in the list of their file
	return out
}

func (l *loader) addDocument(root, document *tree) *tree {
	if document.shape == null {
		return root
	}
	if document.shape != mapping {
		l.problem(document.pos, "config.type", "a file holds keys like models: or syncs:, not %s", document.words())
		return root
	}
	kind := l.decoder.words.of(reflect.TypeFor[Project]())
	for _, p := range document.pairs {
		k, known := kind.find(p.key)
		switch {
		case !known:
			l.unknownSection(p, kind)
		case k.root && p.at.File != ProjectFile:
			l.problem(p.at, "config.root_only", "%q is only allowed in %s", p.key, ProjectFile)
		default:
			root = l.addSection(root, p)
		}
	}
	return root
}

func (l *loader) unknownSection(p pair, kind words) {
	e := l.problem(p.at, "config.unknown_key", "unknown key %q", p.key)
	switch s := Suggest(p.key, names(kind.keys)); {
	case s != "":
		e.WithHint("did you mean %s?", s)
	case p.at.File != ProjectFile:
		e.WithHint("files that are not Dray's are named in .drayignore")
	default:
		e.WithHint("known: %s", strings.Join(supported(kind.keys), ", "))
	}
}

// addSection joins a key with what earlier files said under it.
func (l *loader) addSection(root *tree, p pair) *tree {
	before, again := root.find(p.key)
	switch {
	case !again || before.value.shape == null:
		return root.with(p)
	case p.value.shape == null:
		return root
	case before.value.shape == sequence && p.value.shape == sequence:
		joined := *before.value
		joined.items = append(joined.items, p.value.items...)
		return root.with(pair{key: p.key, at: before.at, value: &joined})
	case before.value.shape == mapping && p.value.shape == mapping && p.key != "warehouse":
		return root.with(pair{key: p.key, at: before.at, value: l.unite(p.key, before.value, p.value)})
	case before.value.shape != p.value.shape && p.value.shape != scalar:
		l.problem(p.value.pos, "config.type", "%q is %s here and %s at %s", p.key, p.value.words(), before.value.words(), before.value.pos)
	default:
		l.problem(p.at, "config.duplicate_key", "%q is written twice; first at %s", p.key, before.at)
	}
	return root
}

// unite adds the keys of a map that another file began; a key may stand in one of them only.
func (l *loader) unite(section string, a, b *tree) *tree {
	united := a
	for _, p := range b.pairs {
		if before, twice := a.find(p.key); twice {
			l.problem(p.at, "config.duplicate_key", "%q is in %s: twice; first at %s", p.key, section, before.at)
			continue
		}
		united = united.with(p)
	}
	return united
}

func (l *loader) problem(at diag.Pos, code, format string, args ...any) *diag.Error {
	e := diag.At(at, code, format, args...)
	l.problems.List = append(l.problems.List, e)
	return e
}

// problems is a list that says nothing twice: a target's settings are checked on their own and again where they apply.
type problems struct{ diag.List }

func (p *problems) once() diag.List {
	seen := map[string]bool{}
	var out diag.List
	for _, e := range p.List {
		said := e.Error()
		if e.Code == "config.unknown_key" {
			said = e.Code + e.Pos.String() // a key of defaults: is unknown in each sync
		}
		if !seen[said] {
			seen[said] = true
			out = append(out, e)
		}
	}
	return out
}

// finish fills what depends on several places: the call's options, the warehouse, the models' SQL.
func (l *loader) finish(p *Project) {
	p.TargetName = l.target()
	l.variables(p)
	if p.Warehouse == nil {
		p.Warehouse = &Warehouse{Node: Node{Pos: p.Pos}, Type: "duckdb", Options: map[string]any{"path": p.Name + ".duckdb"}}
	} else {
		p.Warehouse.fillOptions()
	}
	if l.options.AsOf != "" {
		p.AsOf = l.options.AsOf
		p.forget("as_of")
	}
	for _, e := range p.Entities {
		for _, in := range e.Inputs {
			if in.Name == "" {
				in.Name = readName(in.From)
			}
		}
	}
	l.attachSQL(p)
}

// target is the selected target's name, "" for the default.
func (l *loader) target() string {
	if l.options.Target == defaultTarget {
		return ""
	}
	return l.options.Target
}

func (l *loader) variables(p *Project) {
	if p.Vars == nil {
		p.Vars = map[string]any{}
	}
	for name, text := range l.options.Vars {
		p.Vars[name] = infer(text)
	}
}
