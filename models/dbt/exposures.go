package dbt

import (
	"bytes"
	"fmt"
	"io"
	"regexp"

	"gopkg.in/yaml.v3"
)

// Exposure is a use of dbt's relations outside of dbt, as its own docs show it.
type Exposure struct {
	Name        string // made a name that dbt takes
	Label       string
	Description string
	URL         string
	Owner       string // a name, or a mail address
	Tags        []string
	DependsOn   []*Relation
}

// exposuresFile is the YAML that stands in a dbt project's models folder
// (docs.getdbt.com/reference/exposure-properties).
type exposuresFile struct {
	Version   int            `yaml:"version"`
	Exposures []exposureYAML `yaml:"exposures"`
}

type exposureYAML struct {
	Name        string            `yaml:"name"`
	Label       string            `yaml:"label,omitempty"`
	Type        string            `yaml:"type"`
	URL         string            `yaml:"url,omitempty"`
	Description string            `yaml:"description,omitempty"`
	Tags        []string          `yaml:"tags,omitempty"`
	DependsOn   []string          `yaml:"depends_on"`
	Owner       map[string]string `yaml:"owner"`
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9_]+`)

// WriteExposures writes the file that dbt reads. header is put before it, as comments.
func (m *Manifest) WriteExposures(w io.Writer, header []string, exposures []Exposure) error {
	out := exposuresFile{Version: 2, Exposures: []exposureYAML{}}
	for _, e := range exposures {
		y := exposureYAML{
			Name: notInNames.ReplaceAllString(e.Name, "_"), Label: e.Label, Type: "application", URL: e.URL, Description: e.Description,
			Tags: e.Tags, Owner: owner(e.Owner), DependsOn: []string{},
		}
		for _, r := range e.DependsOn {
			y.DependsOn = append(y.DependsOn, r.Call(m.Project))
		}
		out.Exposures = append(out.Exposures, y)
	}
	var text bytes.Buffer
	for _, line := range header {
		fmt.Fprintf(&text, "# %s\n", line)
	}
	e := yaml.NewEncoder(&text)
	e.SetIndent(2)
	if err := e.Encode(out); err != nil {
		return fmt.Errorf("writing exposures: %w", err)
	}
	if _, err := w.Write(text.Bytes()); err != nil {
		return fmt.Errorf("writing exposures: %w", err)
	}
	return nil
}

// owner is what dbt wants of one: a name or a mail address must be there.
func owner(text string) map[string]string {
	if bytes.ContainsRune([]byte(text), '@') {
		return map[string]string{"email": text}
	}
	return map[string]string{"name": text}
}
