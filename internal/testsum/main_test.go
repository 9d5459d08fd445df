package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestSummaryNamesSkippedTestsAndShowsFailures(t *testing.T) {
	t.Parallel()
	events := `{"Action":"output","Package":"p","Test":"TestGood","Output":"noise\n"}
{"Action":"pass","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestBad","Output":"    p_test.go:9: got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"TestBad"}
{"Action":"output","Package":"p","Test":"TestElsewhere","Output":"=== RUN   TestElsewhere\n"}
{"Action":"output","Package":"p","Test":"TestElsewhere","Output":"    p_test.go:12: needs a file: set DATA_FILE\n"}
{"Action":"output","Package":"p","Test":"TestElsewhere","Output":"--- SKIP: TestElsewhere (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestElsewhere"}
{"Action":"fail","Package":"p","Elapsed":1.25}
{"Action":"skip","Package":"no_tests"}
`
	var out bytes.Buffer
	var s summary
	s.read(strings.NewReader(events), &out)
	s.print(&out)

	want := []string{
		"got 1, want 2",
		"fail  p",
		"1 passed, 1 failed, 1 skipped in 1 packages",
		"skipped: p TestElsewhere: needs a file: set DATA_FILE",
	}
	for _, w := range want {
		if !strings.Contains(out.String(), w) {
			t.Errorf("output lacks %q:\n%s", w, out.String())
		}
	}
	if strings.Contains(out.String(), "noise") {
		t.Errorf("output of a passing test is shown:\n%s", out.String())
	}
}
