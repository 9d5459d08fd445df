package dbt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Demand is what a sync requires of dbt before anything is sent: that a relation's tests passed, or, with Within, that it is not
// older than that.
type Demand struct {
	Relation *Relation
	Within   time.Duration // 0 = its tests
}

// runResults is run_results.json: what the last dbt command did.
type runResults struct {
	Metadata metadata `json:"metadata"`
	Args     struct {
		Which string `json:"which"`
	} `json:"args"`
	Results []struct {
		UniqueID string `json:"unique_id"`
		Status   string `json:"status"`
	} `json:"results"`
}

// sourceResults is sources.json: what the last `dbt source freshness` found.
type sourceResults struct {
	Metadata metadata `json:"metadata"`
	Results  []struct {
		UniqueID    string    `json:"unique_id"`
		Status      string    `json:"status"`
		MaxLoadedAt time.Time `json:"max_loaded_at"`
	} `json:"results"`
}

// Unmet says, one sentence each, which demands dbt's last results do not meet. The results are read anew at each call: dbt writes
// them after each of its commands. now is the clock of the run.
func (m *Manifest) Unmet(demands []Demand, now time.Time) []string {
	var out []string
	for _, d := range demands {
		if d.Within == 0 {
			out = append(out, m.untested(d.Relation)...)
		} else {
			out = append(out, m.stale(d, now)...)
		}
	}
	return out
}

// untested says what speaks against a relation: a test that did not pass, or was not run, or a build of it that failed.
func (m *Manifest) untested(r *Relation) []string {
	var in runResults
	if reason := m.beside("run_results.json", "run-results", []int{4, 5, 6}, &in, func() metadata { return in.Metadata }); reason != "" {
		return []string{fmt.Sprintf("the tests of dbt's %s must have passed, and %s", r.Full(), reason)}
	}
	status := map[string]string{}
	for _, result := range in.Results {
		status[result.UniqueID] = result.Status
	}
	var out []string
	if s := status[r.UniqueID]; s == "error" || s == "skipped" || s == "fail" || s == "partial success" {
		out = append(out, fmt.Sprintf("dbt's %s was not built: %s", r.Full(), s))
	}
	var notRun []string
	for _, t := range r.Tests {
		switch s := status[t.UniqueID]; s {
		case "pass", "warn":
		case "", "success", "no-op": // commands that only compile report tests as a success
			notRun = append(notRun, t.Name)
		default:
			out = append(out, fmt.Sprintf("dbt's test %s of %s: %s", t.Name, r.Full(), s))
		}
	}
	if len(notRun) > 0 {
		by := "the last dbt command"
		if in.Args.Which != "" {
			by = "dbt " + in.Args.Which + ", its last command,"
		}
		what := fmt.Sprintf("%d tests of dbt's %s", len(notRun), r.Full())
		if len(notRun) == 1 {
			what = "test " + notRun[0] + " of dbt's " + r.Full()
		}
		out = append(out, fmt.Sprintf("%s did not run %s", by, what))
	}
	return out
}

// stale says which of the sources of a relation are older than they may be, or of an unknown age.
func (m *Manifest) stale(d Demand, now time.Time) []string {
	var in sourceResults
	if reason := m.beside("sources.json", "sources", []int{1, 2, 3}, &in, func() metadata { return in.Metadata }); reason != "" {
		return []string{fmt.Sprintf("dbt's %s must be at most %s old, and %s", d.Relation.Full(), span(d.Within), reason)}
	}
	loaded, broken := map[string]time.Time{}, map[string]bool{}
	for _, r := range in.Results {
		loaded[r.UniqueID] = r.MaxLoadedAt
		broken[r.UniqueID] = r.Status == "runtime error"
	}
	var out []string
	known := 0
	for _, s := range m.SourcesOf(d.Relation) {
		at, there := loaded[s.UniqueID]
		switch {
		case broken[s.UniqueID]:
			known++
			out = append(out, fmt.Sprintf("dbt could not tell how fresh source %s is", s.Full()))
		case !there: // dbt says nothing of sources without loaded_at_field
		case at.IsZero():
			known++
			out = append(out, fmt.Sprintf("dbt's source %s has no row that says when it was loaded", s.Full()))
		default:
			known++
			if age := now.Sub(at); age > d.Within {
				out = append(out, fmt.Sprintf("dbt's source %s was last seen with rows %s old, more than %s", s.Full(), span(age), span(d.Within)))
			}
		}
	}
	if known == 0 {
		out = append(out, fmt.Sprintf("dbt's sources.json tells of no source of %s", d.Relation.Full()))
	}
	return out
}

// SourcesOf are the source tables that a relation is made of, itself if it is one, sorted by their ids.
func (m *Manifest) SourcesOf(r *Relation) []*Relation {
	seen := map[string]bool{}
	var out []*Relation
	for open := []string{r.UniqueID}; len(open) > 0; {
		id := open[0]
		open = open[1:]
		if seen[id] {
			continue
		}
		seen[id] = true
		if s := m.byID[id]; s != nil && s.Kind == "source" {
			out = append(out, s)
		}
		open = append(open, m.parents[id]...)
	}
	slices.SortFunc(out, func(a, b *Relation) int { return strings.Compare(a.UniqueID, b.UniqueID) })
	return out
}

// beside reads a file that stands beside the manifest; the answer is why it could not, "" where it could.
func (m *Manifest) beside(name, kind string, known []int, into any, meta func() metadata) string {
	text, err := os.ReadFile(filepath.Join(filepath.Dir(m.Path), name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no " + name + " beside the manifest"
	case err != nil:
		return fmt.Sprintf("%s cannot be read: %s", name, cause(err))
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Sprintf("%s cannot be read: %s", name, brief(err))
	}
	if version, err := schemaVersion(meta().Schema, kind); err != nil || !slices.Contains(known, version) {
		return fmt.Sprintf("this Dray does not read a %s of that version", name)
	}
	return ""
}

// span is a duration as people say it.
func span(d time.Duration) string {
	days := d / (24 * time.Hour)
	rest := (d % (24 * time.Hour)).Truncate(time.Minute)
	switch text := strings.TrimSuffix(strings.TrimSuffix(rest.String(), "0s"), "h0m"); {
	case d < time.Minute:
		return d.Truncate(time.Second).String()
	case days == 0 && strings.HasSuffix(rest.String(), "h0m0s"):
		return text + "h"
	case days == 0:
		return text
	case rest == 0:
		return fmt.Sprintf("%dd", days)
	default:
		return fmt.Sprintf("%dd %s", days, rest.Truncate(time.Hour).String()[:strings.Index(rest.Truncate(time.Hour).String(), "h")+1])
	}
}
