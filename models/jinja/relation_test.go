package jinja_test

import (
	"testing"

	"github.com/dray-dev/dray/models/jinja"
)

// ref() of a text names its package and version to whoever resolves it.
func TestRefArguments(t *testing.T) {
	t.Parallel()
	r, err := jinja.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	env := jinja.Env{Resolve: func(rel jinja.Relation) (jinja.Name, error) {
		got = append(got, rel.String())
		return jinja.Name{SQL: "x"}, nil
	}}
	text := "select * from {{ ref('a') }}, {{ ref('p', 'b') }}, {{ ref('c', v=2) }}, {{ ref('p', 'd', version='x') }}"
	if _, err := r.Render(jinja.Text{SQL: text}, env); err != nil {
		t.Fatal(err)
	}
	want := []string{"ref('a')", "ref('p', 'b')", "ref('c', v='2')", "ref('p', 'd', v='x')"}
	if len(got) != 4 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || got[3] != want[3] {
		t.Fatalf("%q", got)
	}
}
