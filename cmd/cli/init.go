package cli

import (
	"embed"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dray-dev/dray/internal/diag"
)

// starter is the project that `dray init` writes. Files whose names a Go tree cannot hold as they are end in ".starter".
//
//go:embed all:starter
var starter embed.FS

// starterName stands in the starter's files where the project's name belongs.
const starterName = "starter_project"

var notInName = regexp.MustCompile(`[^a-z0-9_]+`)

func (a *app) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init [DIR]",
		Short: "Write a small project that runs at once on DuckDB",
		Long: `Writes a project into DIR (by default the current one), which must be empty or not there yet: two weeks of an
invented shop's orders and web visits as CSV files, a model, an entity with its identity and traits, a segment, and two
syncs to files. Nothing else is needed to run it.`,
		Example: "  dray init shop && cd shop && dray run",
		GroupID: groupProject,
		Args:    usage(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := a.flags.project
			if len(args) == 1 {
				dir = filepath.Join(dir, args[0])
				if filepath.IsAbs(args[0]) {
					dir = args[0]
				}
			}
			return a.initProject(dir)
		},
	}
}

func (a *app) initProject(dir string) error {
	if err := mustBeEmpty(dir); err != nil {
		return err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return diag.Errorf(diag.Invalid, "init.dir", "cannot find %s: %s", dir, err)
	}
	name := projectName(filepath.Base(abs))
	files, err := writeStarter(dir, name)
	if err != nil {
		return err
	}
	a.show(map[string]any{"project": name, "dir": abs, "files": files}, func(s screen) {
		s.line("wrote %s into %s", plural(int64(len(files)), "file"), dir)
		for _, f := range files {
			s.line("  %s", f)
		}
		s.line("")
		s.line("next:")
		if dir != "." {
			s.line("  %s", s.bold("cd "+dir))
		}
		s.line("  %s  what would be sent, and why", s.bold("dray plan"))
		s.line("  %s   send it; run it again and nothing is left to send", s.bold("dray run"))
	})
	return nil
}

// mustBeEmpty keeps init from touching what is there. A fresh Git repository counts as empty.
func mustBeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return diag.Errorf(diag.Invalid, "init.dir", "%s is not a directory that can be read", dir)
	}
	for _, e := range entries {
		if e.Name() != ".git" {
			return diag.Errorf(diag.Invalid, "init.not_empty", "%s is not empty: it holds %s", dir, e.Name()).
				WithHint("name a new directory: dray init shop")
		}
	}
	return nil
}

// projectName makes a name that the language allows out of a folder's.
func projectName(folder string) string {
	name := strings.Trim(notInName.ReplaceAllString(strings.ToLower(folder), "_"), "_")
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		return strings.TrimRight("project_"+name, "_")
	}
	return name
}

// writeStarter writes the files and returns their paths in dir, sorted.
func writeStarter(dir, name string) ([]string, error) {
	var files []string
	err := fs.WalkDir(starter, "starter", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := starter.ReadFile(path)
		if err != nil {
			return err
		}
		file := strings.TrimPrefix(path, "starter/")
		target := filepath.Join(dir, filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		files = append(files, file)
		return os.WriteFile(target, []byte(strings.ReplaceAll(string(content), starterName, name)), 0o644)
	})
	if err != nil {
		return nil, diag.Errorf(diag.Failed, "init.write", "cannot write the project: %s", err)
	}
	return files, nil
}
