package cli

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// The sandbox tells where it is, answers there, and ends well when it is interrupted.
func TestSandbox(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out, w := io.Pipe()
	ended := make(chan int)
	go func() {
		code := Main(ctx, []string{"sandbox", "--listen", "127.0.0.1:0"}, nil, strings.NewReader(""), w, io.Discard)
		_ = w.Close()
		ended <- code
	}()
	reader := bufio.NewReader(out)
	line, err := reader.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, reader) }()
	url := regexp.MustCompile(`http://[0-9.:]+`).FindString(line)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("the page of stand-ins answers %s", res.Status)
	}
	interrupt()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}
