package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/dray-dev/dray/internal/diag"
)

// ProjectFile stands at the root of every project.
const ProjectFile = "dray.yaml"

// ignoreFile names what below a project is not Dray's, in the manner of .gitignore.
const ignoreFile = ".drayignore"

// files are the paths of a project's files, relative to it with forward slashes, in the order of a walk; dray.yaml first.
type files struct{ yaml, models, macros []string }

// findFiles walks the project. It returns nil, and a problem, where there is none.
func findFiles(dir string, problems *diag.List) *files {
	tree := os.DirFS(dir)
	if info, err := fs.Stat(tree, ProjectFile); err != nil || info.IsDir() {
		*problems = append(*problems, noProject(dir))
		return nil
	}
	ignored, err := readIgnore(tree)
	if err != nil {
		problems.Add(unreadable(ignoreFile, err))
	}
	found := &files{yaml: []string{ProjectFile}}
	walk := func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			problems.Add(unreadable(name, err))
			return fs.SkipDir
		}
		if name == "." {
			return nil
		}
		if hidden := strings.HasPrefix(d.Name(), "."); hidden || d.Name() == "target" && d.IsDir() || ignored.match(name, d.IsDir()) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		found.add(tree, name, d)
		return nil
	}
	if err := fs.WalkDir(tree, ".", walk); err != nil {
		problems.Add(unreadable(".", err))
	}
	return found
}

func (f *files) add(tree fs.FS, name string, d fs.DirEntry) {
	if d.Type()&fs.ModeSymlink != 0 {
		if info, err := fs.Stat(tree, name); err != nil || !info.Mode().IsRegular() {
			return
		}
	} else if !d.Type().IsRegular() {
		return
	}
	switch path.Ext(name) {
	case ".yaml", ".yml":
		if name != ProjectFile {
			f.yaml = append(f.yaml, name)
		}
	case ".sql":
		if strings.HasPrefix(name, "models/") {
			f.models = append(f.models, name)
		} else if path.Dir(name) == "macros" {
			f.macros = append(f.macros, name)
		}
	}
}

func noProject(dir string) *diag.Error {
	e := diag.Errorf(diag.Invalid, "config.no_project", "there is no %s in %s", ProjectFile, dir)
	if _, err := os.Stat(filepath.Join(dir, "dray.yml")); err == nil {
		return e.WithHint("rename dray.yml to %s", ProjectFile)
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return diag.Errorf(diag.Invalid, "config.no_project", "there is no folder %s", dir).WithHint("dray init makes a project")
	}
	return e.WithHint("dray init makes a project; --project names its folder")
}

func unreadable(name string, err error) *diag.Error {
	var why *fs.PathError
	if errors.As(err, &why) {
		err = why.Err
	}
	return diag.At(diag.Pos{File: name}, "config.unreadable", "cannot be read: %s", err)
}

// ignore is what .drayignore names; the last pattern that fits decides.
type ignore []ignorePattern

type ignorePattern struct {
	expr       *regexp.Regexp
	keep       bool // begins with !
	folderOnly bool // ends with /
}

func readIgnore(tree fs.FS) (ignore, error) {
	text, err := fs.ReadFile(tree, ignoreFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out ignore
	for _, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		var p ignorePattern
		line, p.keep = strings.CutPrefix(line, "!")
		line, p.folderOnly = strings.CutSuffix(line, "/")
		p.expr = globExpr(line)
		out = append(out, p)
	}
	return out, err
}

// globExpr translates a pattern as .gitignore has them: * and ? stay within a folder, ** does not; a pattern with a slash in it
// counts from the root, others fit at any depth.
func globExpr(pattern string) *regexp.Regexp {
	expr := "^(?:.*/)?"
	if strings.Contains(pattern, "/") {
		expr = "^"
		pattern = strings.TrimPrefix(pattern, "/")
	}
	for pattern != "" {
		switch {
		case strings.HasPrefix(pattern, "**/"):
			expr, pattern = expr+"(?:.*/)?", pattern[3:]
		case strings.HasPrefix(pattern, "**"):
			expr, pattern = expr+".*", pattern[2:]
		case pattern[0] == '*':
			expr, pattern = expr+"[^/]*", pattern[1:]
		case pattern[0] == '?':
			expr, pattern = expr+"[^/]", pattern[1:]
		default:
			_, size := utf8.DecodeRuneInString(pattern)
			expr, pattern = expr+regexp.QuoteMeta(strings.ToValidUTF8(pattern[:size], "�")), pattern[size:]
		}
	}
	return regexp.MustCompile(expr + "$")
}

func (g ignore) match(name string, folder bool) bool {
	out := false
	for _, p := range g {
		if (folder || !p.folderOnly) && p.expr.MatchString(name) {
			out = !p.keep
		}
	}
	return out
}

// sqlFiles reads SQL files.
func (l *loader) sqlFiles(paths []string) []SQLFile {
	var out []SQLFile
	for _, name := range paths {
		text, err := os.ReadFile(filepath.Join(l.dir, filepath.FromSlash(name)))
		if err != nil {
			l.problems.Add(unreadable(name, err))
			continue
		}
		if at, bad := badByte(text); bad {
			l.problem(diag.Pos{File: name, Line: at.Line, Col: at.Col}, "config.sql", "the file is not UTF-8 text")
			continue
		}
		out = append(out, SQLFile{Path: name, Text: strings.TrimPrefix(string(text), "\ufeff")})
	}
	return out
}

// attachSQL gives each model its query: inline, from models/<name>.sql, or none where it is a table. A file that no YAML
// mentions is a model too.
func (l *loader) attachSQL(p *Project) {
	byName := l.modelFiles()
	for _, m := range p.Models {
		file, hasFile := byName[m.Name]
		delete(byName, m.Name)
		l.attach(m, file, hasFile)
	}
	for _, file := range l.models {
		name := modelName(file.Path)
		if f, ok := byName[name]; ok && f.Path == file.Path {
			p.Models = append(p.Models, l.fileModel(name, file))
		}
	}
}

func modelName(file string) string { return strings.TrimSuffix(path.Base(file), ".sql") }

func (l *loader) modelFiles() map[string]SQLFile {
	byName := make(map[string]SQLFile, len(l.models))
	for _, f := range l.models {
		name := modelName(f.Path)
		if first, twice := byName[name]; twice {
			l.problem(diag.Pos{File: f.Path}, "config.duplicate_name", "two files hold the model %q; the other is %s", name, first.Path)
			continue
		}
		byName[name] = f
	}
	return byName
}

// fileModel is the model of a file that stands for itself, with the language's defaults.
func (l *loader) fileModel(name string, file SQLFile) *Model {
	m := &Model{}
	at := diag.Pos{File: file.Path, Line: 1, Col: 1}
	named := pair{key: "name", at: at, value: &tree{pos: at, body: at, shape: scalar, tag: "!!str", text: name}}
	l.decoder.structure(&tree{pos: at, shape: mapping, pairs: []pair{named}}, reflect.ValueOf(m).Elem(), "model")
	l.attach(m, file, true)
	return m
}

func (l *loader) attach(m *Model, file SQLFile, hasFile bool) {
	var ways []string
	for _, k := range []string{"sql", "table"} {
		if m.Has(k) {
			ways = append(ways, k+":")
		}
	}
	if hasFile {
		ways = append(ways, file.Path)
	}
	switch {
	case m.Name == "":
	case len(ways) == 0:
		l.problem(m.At("name"), "config.model", "model %s has no query", m.shown("name", m.Name)).
			WithHint("write it to models/%s.sql, or give sql: or table:", m.bare("name", m.Name))
	case len(ways) > 1:
		l.problem(m.At("name"), "config.model", "model %s has both %s and %s", m.shown("name", m.Name), ways[0], ways[1]).WithHint("keep one of them")
	}
	switch {
	case m.Has("sql"):
		m.SQLPos = m.TextAt("sql")
	case hasFile:
		m.SQL = file.Text
		m.SQLPos = diag.Pos{File: file.Path, Line: 1, Col: 1}
	default:
		return
	}
	m.Path, m.SQLLine = m.SQLPos.File, m.SQLPos.Line
	if m.Name != "" && strings.TrimSpace(m.SQL) == "" && !m.spoilt("sql") {
		l.problem(m.SQLPos, "config.model", "the query of model %s is empty", m.shown("name", m.Name))
	}
}

// shown is a value in quotes for messages, unless it came from a reference (I6).
func (n Node) shown(key, value string) string {
	if n.IsReference(key) {
		return "named at " + n.At(key).String()
	}
	return fmt.Sprintf("%q", value)
}

func (n Node) bare(key, value string) string {
	if n.IsReference(key) {
		return "<name>"
	}
	return value
}
