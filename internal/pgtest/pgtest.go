//go:build unix

// Package pgtest gives tests a real PostgreSQL: a server of their own, started in a temporary folder as an unprivileged user,
// reached by a unix socket, and gone with the tests. It is imported by tests only.
//
//	var server pgtest.Server
//
//	func TestMain(m *testing.M) { os.Exit(server.Main(m)) }
//
//	func TestX(t *testing.T) { url := server.Database(t); … }
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// Require is the environment variable that turns a missing PostgreSQL from a skipped test into a failed one.
	Require = "DRAY_REQUIRE_POSTGRES"
	// Bin is the one that names the folder of the server's programs, where they are in no usual place.
	Bin = "DRAY_POSTGRES_BIN"
)

// nobody is the user that runs the server where the tests run as root, which PostgreSQL refuses to.
const nobody = 65534

// Server is one server, started when it is first asked for. The zero value is ready. Safe for concurrent use.
type Server struct {
	once  sync.Once
	err   error
	dir   string
	stop  func()
	count atomic.Int64
}

var errMissing = errors.New("no PostgreSQL server was found")

// Missing tells whether an error says that there is no PostgreSQL on this machine.
func Missing(err error) bool { return errors.Is(err, errMissing) }

// Main runs a package's tests and stops the server after them.
func (s *Server) Main(m *testing.M) int {
	defer s.Stop()
	return m.Run()
}

// Database makes an empty database for one test and returns its URL. Where PostgreSQL cannot be had the test is skipped, or
// fails when DRAY_REQUIRE_POSTGRES is 1.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	s.once.Do(s.start)
	if s.err != nil {
		if os.Getenv(Require) == "1" || !errors.Is(s.err, errMissing) {
			t.Fatalf("PostgreSQL: %v", s.err)
		}
		t.Skipf("%v: install Debian's package postgresql or set %s; %s=1 makes this an error", s.err, Bin, Require)
	}
	url, err := s.New(context.Background())
	if err != nil {
		t.Fatalf("PostgreSQL: %v", err)
	}
	return url
}

// New makes an empty database outside a test.
func (s *Server) New(ctx context.Context) (url string, err error) {
	s.once.Do(s.start)
	if s.err != nil {
		return "", s.err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return "", err
	}
	defer c.Close(context.WithoutCancel(ctx))
	name := fmt.Sprintf("test%d", s.count.Add(1))
	if _, err := c.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	return s.url(name), nil
}

// Start starts the server and gives the URL of its database postgres.
func (s *Server) Start() (string, error) {
	s.once.Do(s.start)
	return s.url("postgres"), s.err
}

func (s *Server) url(database string) string {
	return "postgres://dray@/" + database + "?host=" + s.dir
}

// Stop ends the server and removes its folder. A server that was not started is none.
func (s *Server) Stop() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

func (s *Server) start() {
	bin, err := find()
	if err == nil {
		err = s.run(bin)
	}
	s.err = err
}

// find is the folder of initdb and postgres: the variable's, the path's, or the newest of Debian's.
func find() (string, error) {
	if dir := os.Getenv(Bin); dir != "" {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
			return "", fmt.Errorf("%s: %w", Bin, err)
		}
		return dir, nil
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errMissing
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int {
		return len(a)*1000 - len(b)*1000 + strings.Compare(a, b)
	})), nil
}

func (s *Server) run(bin string) error {
	// The socket lies here, and its path must be short.
	dir, err := os.MkdirTemp("/tmp", "draypg")
	if err != nil {
		return err
	}
	attr := &syscall.SysProcAttr{Setpgid: true} // a ^C is for the tests; they stop the server
	if os.Geteuid() == 0 {
		attr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		if err := os.Chown(dir, nobody, nobody); err != nil {
			return errors.Join(err, os.RemoveAll(dir))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "dray", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
	initdb.Dir, initdb.SysProcAttr = dir, attr
	if out, err := initdb.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("initdb: %w: %s", err, out), os.RemoveAll(dir))
	}
	if err := passwords(data); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	// The shell waits for its input to end, which it does with this process however that ends: no server is left behind.
	script := `"$0" "$@" >"$PGLOG" 2>&1 </dev/null & server=$!; read -r _; kill -INT $server; wait $server; rm -rf "$PGDIR"`
	cmd := exec.Command("/bin/sh", "-c", script, filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200") //nolint:noctx // it lives as long as the tests
	cmd.Dir, cmd.SysProcAttr = dir, attr
	cmd.Env = append(os.Environ(), "PGLOG="+filepath.Join(dir, "log"), "PGDIR="+dir)
	input, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	s.dir = dir
	s.stop = func() { stop(input, cmd, dir) }
	return s.ready(ctx)
}

// WithPassword is the role whose members must give their password; all others are let in. A test makes it, once a server.
const WithPassword = "with_password"

// passwords has the server ask members of WithPassword for theirs.
func passwords(data string) error {
	path := filepath.Join(data, "pg_hba.conf")
	rest, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0) // as it is: it is the server's user's
	if err != nil {
		return err
	}
	_, err = f.WriteString("local all +" + WithPassword + " scram-sha-256\n" + string(rest))
	return errors.Join(err, f.Close())
}

func stop(input io.Closer, cmd *exec.Cmd, dir string) {
	_ = input.Close()
	_ = cmd.Wait()
	_ = os.RemoveAll(dir)
}

// ready waits until the server answers.
func (s *Server) ready(ctx context.Context) error {
	for {
		c, err := pgx.Connect(ctx, s.url("postgres"))
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case <-ctx.Done():
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("the server does not answer: %w: %s", err, text)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
