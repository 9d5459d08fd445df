package cli

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/sync/run"
)

// A DuckDB file is one process's. A command that finds a `dray serve` for its control state therefore does not open the warehouse:
// it hands its arguments, directory and environment to that process, over a unix socket that this user alone can open, and shows
// what comes back. The socket speaks one JSON document a line.

// request is what a command asks of serve.
type request struct {
	Version string   `json:"version"`
	Args    []string `json:"args"`
	Env     []string `json:"env"`
	Dir     string   `json:"dir"`
	Out     display  `json:"out"`
	Err     display  `json:"err"`
}

// frame is what goes over the socket after the request: from serve a piece of output or, last, the exit code; from the command
// that it was interrupted.
type frame struct {
	Out       []byte `json:"out,omitempty"`
	Err       []byte `json:"err,omitempty"`
	Code      *int   `json:"code,omitempty"`
	Refused   string `json:"refused,omitempty"`
	Interrupt bool   `json:"interrupt,omitempty"`
}

// exited is the error of a command that was done elsewhere: everything was said already.
type exited struct{ code int }

func (e *exited) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// maxSocketPath is how long the name of a unix socket may be on the systems that take least.
const maxSocketPath = 100

// socketPath is where serve listens: beside the control state, or, where that name is too long for a socket, in a folder of this
// user's under the system's temporary one.
func socketPath(p *run.Prepared) string {
	where := p.StatePath()
	path := where + ".sock"
	if strings.Contains(where, "://") {
		path = filepath.Join(p.Project.Dir, ".dray", "serve.sock")
	}
	if len(path) <= maxSocketPath {
		return path
	}
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(os.TempDir(), fmt.Sprintf("dray-%d", os.Getuid()), hex.EncodeToString(sum[:8])+".sock")
}

// listen opens the socket. Whoever calls it holds the lock of serve, so that a socket that is there is a dead one's.
func listen(ctx context.Context, path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if filepath.Dir(dir) == filepath.Clean(os.TempDir()) { // in a folder that others could have made
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
			return nil, fmt.Errorf("%s is not a folder of this user's alone", dir)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var c net.ListenConfig
	l, err := c.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// forward has a live serve do this command. done is false where there is none.
func (a *app) forward(ctx context.Context, p *run.Prepared) (done bool, err error) {
	if a.host != nil {
		return false, nil
	}
	d := net.Dialer{Timeout: 2 * time.Second}
	conn, err := d.DialContext(ctx, "unix", socketPath(p))
	if err != nil {
		return false, nil //nolint:nilerr // nobody listens: the command does its work itself
	}
	defer conn.Close() //nolint:errcheck // what went over it was checked
	a.progress.stop()
	dir, err := os.Getwd()
	if err != nil {
		return true, err
	}
	send := json.NewEncoder(conn)
	if err := send.Encode(request{Version: buildName(), Args: a.args, Env: a.environ, Dir: dir, Out: displayOf(a.out), Err: displayOf(a.err)}); err != nil {
		return true, lost(err)
	}
	told := context.AfterFunc(ctx, func() { _ = send.Encode(frame{Interrupt: true}) })
	defer told()
	frames := json.NewDecoder(bufio.NewReader(conn))
	for {
		var f frame
		switch err := frames.Decode(&f); {
		case err != nil:
			return true, lost(err)
		case f.Refused != "":
			return true, diag.Errorf(diag.Locked, "serve.version", "not started: busy: %s", f.Refused).WithHint("restart dray serve with this version")
		case f.Code != nil:
			return true, &exited{*f.Code}
		}
		_, _ = a.stdout.Write(f.Out)
		_, _ = a.stderr.Write(f.Err)
	}
}

func lost(err error) error {
	if errors.Is(err, io.EOF) {
		err = errors.New("it ended")
	}
	return &diag.Error{Kind: diag.Failed, Code: "serve.lost", Msg: "the dray serve that did this command", Err: err, Hint: "what was acknowledged is kept; run it again"}
}

// buildName names this binary; serve does the commands of its own kind only.
func buildName() string {
	b := thisBinary()
	return b.Version + " " + b.Commit
}

// display says what a command's stream is: serve cannot ask a terminal that it does not have.
type display struct {
	Terminal bool `json:"terminal"`
	Color    bool `json:"color"`
	Width    int  `json:"width"`
}

func displayOf(s screen) display { return display{s.terminal, s.color, s.width} }

func (d display) screen(w io.Writer) screen {
	return screen{w: w, terminal: d.Terminal, color: d.Color, width: d.Width}
}

// served does commands that come over the socket.
type served struct {
	host    *run.Host
	changed func() // the control state was changed by a command
	log     *slog.Logger
}

// accept serves the socket until it is closed, and then waits for the commands under way, which ctx interrupts.
func (v *served) accept(ctx context.Context, l net.Listener) {
	var under sync.WaitGroup
	defer under.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		under.Go(func() {
			defer conn.Close() //nolint:errcheck // what went over it was checked
			v.serve(ctx, conn)
		})
	}
}

// wire writes frames; output of the command's goroutines may come at the same time.
type wire struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func (w *wire) send(f frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.enc.Encode(f)
}

// pipe is one stream of the command.
type pipe struct {
	w   *wire
	err bool
}

// Write sends a piece.
func (p pipe) Write(b []byte) (int, error) {
	f := frame{Out: b}
	if p.err {
		f = frame{Err: b}
	}
	if err := p.w.send(f); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (v *served) serve(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	frames := json.NewDecoder(bufio.NewReader(conn))
	w := &wire{enc: json.NewEncoder(conn)}
	var r request
	if err := frames.Decode(&r); err != nil {
		return
	}
	if r.Version != buildName() {
		_ = w.send(frame{Refused: "dray serve is version " + strings.TrimSpace(buildName()) + ", this is " + strings.TrimSpace(r.Version)})
		return
	}
	go func() { // the command was interrupted, or is gone
		var f frame
		_ = frames.Decode(&f)
		cancel()
	}()
	v.log.Info("command", "args", commandName(r.Args))
	out, errs := pipe{w: w}, pipe{w: w, err: true}
	a := newApp(r.Args, r.Env, strings.NewReader(""), out, errs)
	a.host, a.dir, a.changed, a.out, a.err = v.host, r.Dir, v.changed, r.Out.screen(out), r.Err.screen(errs)
	code := a.run(ctx)
	_ = w.send(frame{Code: &code})
}

// commandName is the command alone: its arguments may hold values.
func commandName(args []string) string {
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			return arg
		}
	}
	return ""
}
