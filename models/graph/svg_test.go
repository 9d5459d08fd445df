package graph_test

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/dray-dev/dray/internal/golden"
	"github.com/dray-dev/dray/models/graph"
)

func TestSVG(t *testing.T) {
	t.Parallel()
	g, err := graph.Resolve(load(t, withSync("model: customers\ndestination: hook\nobject: x\nmode: upsert\nkey: {id: id}")+
		"  - {name: v, segment: vips, destination: crm, object: contacts, mode: upsert, key: {email: email}}\n"), specs)
	if err != nil {
		t.Fatal(err)
	}
	svg := graph.SVG(g.Order())
	golden.Check(t, "testdata/project.svg", []byte(svg))
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range g.Order() {
		if !strings.Contains(svg, "<title>"+string(n.ID)+"</title>") {
			t.Errorf("%s is not drawn", n.ID)
		}
	}
	if empty := graph.SVG(nil); !strings.HasSuffix(empty, "</svg>\n") {
		t.Errorf("got %s", empty)
	}
}
