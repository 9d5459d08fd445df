// Package sandbox serves the stand-ins of all vendors on one address, so that a project can be rehearsed without an account.
//
// A vendor's API is below its type (http://127.0.0.1:8700/hubspot); any other first part of a path is a webhook receiver of its
// own, made when it is first used. Nothing is persisted: what the stand-ins hold ends with the process.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dray-dev/dray/connectors/standin"
)

// maxReceivers bounds the webhook receivers that paths can bring into being.
const maxReceivers = 100

// Entry is a vendor to stand in for.
type Entry struct {
	Type, Title string
	New         func() standin.StandIn
}

// Sandbox holds running stand-ins. It is safe for concurrent use.
type Sandbox struct {
	receiver func() standin.StandIn // of webhooks; nil = none are made on demand
	page     *template.Template

	mu      sync.Mutex
	mounted []*mount
}

// mount is a stand-in below a path.
type mount struct {
	name, title, kind string
	standIn           standin.StandIn
	handler           http.Handler
}

// New starts the stand-ins; those that are not reached over HTTP are left out.
func New(entries []Entry) *Sandbox {
	s := &Sandbox{page: template.Must(template.New("index").Parse(pageSource))}
	for _, e := range entries {
		in := e.New()
		if in.Handler() == nil {
			continue
		}
		s.mount(e.Type, e.Title, e.Type, in)
		if e.Type == "webhook" {
			s.receiver = e.New
		}
	}
	return s
}

func (s *Sandbox) mount(name, title, kind string, in standin.StandIn) *mount {
	m := &mount{name: name, title: title, kind: kind, standIn: in, handler: http.StripPrefix("/"+name, in.Handler())}
	s.mounted = append(s.mounted, m)
	slices.SortFunc(s.mounted, func(a, b *mount) int { return strings.Compare(a.name, b.name) })
	return m
}

// StandIn finds a stand-in by its path's first part.
func (s *Sandbox) StandIn(name string) (standin.StandIn, bool) {
	if m := s.find(name, false); m != nil {
		return m.standIn, true
	}
	return nil, false
}

// find is the stand-in below a path; with make, a webhook receiver where there is none.
func (s *Sandbox) find(name string, make bool) *mount {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.mounted {
		if m.name == name {
			return m
		}
	}
	if !make || s.receiver == nil || len(s.mounted) >= maxReceivers {
		return nil
	}
	return s.mount(name, "Webhook "+name, "webhook", s.receiver())
}

// Handler answers for all of them, and with a page that lists them at /.
func (s *Sandbox) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if name == "" {
			s.index(w, r)
			return
		}
		// Only a delivery makes a receiver: not somebody's browser that asks for /favicon.ico.
		makes := r.Method != http.MethodGet && !strings.HasPrefix(rest, "_standin")
		m := s.find(name, makes)
		if m == nil {
			http.NotFound(w, r)
			return
		}
		m.handler.ServeHTTP(w, withPath(r))
	})
}

// withPath gives a request for a mount itself the path below it, "/".
func withPath(r *http.Request) *http.Request {
	if strings.Count(r.URL.Path, "/") > 1 {
		return r
	}
	r = r.Clone(r.Context())
	r.URL.Path += "/"
	r.URL.RawPath = ""
	return r
}

// Serve answers on the listener until ctx ends, after it has told out where everything is.
func (s *Sandbox) Serve(ctx context.Context, l net.Listener, out io.Writer) error {
	base := "http://" + l.Addr().String()
	fmt.Fprintf(out, "Stand-ins at %s (a page that shows them; nothing is kept when this ends):\n\n", base)
	s.mu.Lock()
	for _, m := range s.mounted {
		fmt.Fprintf(out, "  %-10s %s\n", m.name, yaml(m.standIn.Config(base+"/"+m.name), m.kind))
	}
	s.mu.Unlock()
	fmt.Fprintf(out, "\n  Any other path takes webhooks too. What a stand-in holds: %s/webhook/_standin/state\n", base)
	server := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the stand-ins: %w", err)
	}
	return nil
}

// yaml is a destination's configuration in one line.
func yaml(config map[string]any, kind string) string {
	names := make([]string, 0, len(config))
	for name := range config {
		names = append(names, name)
	}
	slices.Sort(names)
	out := "{type: " + kind
	for _, name := range names {
		out += fmt.Sprintf(", %s: %q", name, fmt.Sprint(config[name]))
	}
	return out + "}"
}
