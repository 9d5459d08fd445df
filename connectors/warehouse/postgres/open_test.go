package postgres_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/postgres"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/internal/pgtest"
)

var server pgtest.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

// as is a database's URL for somebody else.
func as(t *testing.T, database string, change ...string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for i := 0; i < len(change); i += 2 {
		q.Set(change[i], change[i+1])
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// sql runs statements as the server's owner.
func sql(t *testing.T, database string, statements ...string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	for _, s := range statements {
		if _, err := c.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// role makes a role, which is the server's, unless it is there.
func role(name, options string) string {
	return "DO $$ BEGIN CREATE ROLE " + name + " " + options + "; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
}

// listen answers connections of a port of this machine by handle until the test ends.
func listen(t *testing.T, handle func(net.Conn)) (host, port string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				handle(c)
				_ = c.Close()
			}()
		}
	}()
	host, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

// relay passes connections on to the server's socket, so that it is reached by host and port.
func relay(t *testing.T, database string) (host, port string) {
	t.Helper()
	cfg, err := pgx.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	socket := cfg.Host + "/.s.PGSQL.5432"
	return listen(t, func(c net.Conn) {
		s, err := (&net.Dialer{}).DialContext(context.Background(), "unix", socket)
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(s, c); _ = s.Close() }()
		_, _ = io.Copy(c, s)
		_ = s.Close()
	})
}

// certified answers as a server does that takes TLS, with a certificate that nobody knows.
func certified(t *testing.T) (host, port string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	return listen(t, func(c net.Conn) {
		request := make([]byte, 8) // SSLRequest
		if _, err := io.ReadFull(c, request); err != nil {
			return
		}
		if _, err := c.Write([]byte("S")); err != nil {
			return
		}
		_ = tls.Server(c, config).HandshakeContext(context.Background())
	})
}

// A connection that cannot be made says in one line why, and what to do; a password is in no message.
func TestConnectionsThatAreNotMade(t *testing.T) {
	t.Parallel()
	database := server.Database(t)
	sql(t, database,
		role(pgtest.WithPassword, ""), role("clerk", "LOGIN PASSWORD 'the-right-one'"), "GRANT "+pgtest.WithPassword+" TO clerk",
		role("stranger", "LOGIN"), role("rich", ""), "DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END $$",
		"DO $$ BEGIN EXECUTE format('GRANT CONNECT, CREATE ON DATABASE %I TO clerk', current_database()); END $$")
	const secret = "hush-hush"
	host, port := relay(t, database)
	lockedHost, lockedPort := certified(t)
	silentHost, silentPort := listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	at := func(host, port string) string { return as(t, database, "host", host, "port", port) }
	for _, c := range []struct{ name, url, message, hint string }{
		{"password", as(t, database, "user", "clerk", "password", secret), "password authentication failed", "check user and password"},
		{"no password", as(t, database, "user", "clerk"), "password", "check user and password"},
		{"user", as(t, database, "user", "nobody_here", "password", secret), `role "nobody_here" does not exist`, "check user and password"},
		{"database", as(t, database, "dbname", "nosuch"), `database "nosuch" does not exist`, "check database"},
		{"may not connect", as(t, database, "user", "stranger"), "permission denied for database", "GRANT CONNECT ON DATABASE"},
		{"host", at("nosuch.invalid", "5432"), "the host is not known", "check host"},
		{"port", at("127.0.0.1", "1"), "127.0.0.1:1: connection refused", "check host, port"},
		{"socket", as(t, database, "host", "/nosuch/folder"), "/nosuch/folder/.s.PGSQL.5432: no such file", "check host, port"},
		{"silence", as(t, database, "host", silentHost, "port", silentPort, "connect_timeout", "1", "sslmode", "disable"), "the server does not answer", "check host, port"},
		{"no TLS", as(t, database, "host", host, "port", port, "sslmode", "require"), "the server has no TLS", "sslmode: disable"},
		{"unknown authority", as(t, database, "host", lockedHost, "port", lockedPort, "sslmode", "verify-full"), "certificate is not trusted", "sslrootcert=FILE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, err := postgres.Open(t.Context(), map[string]any{"url": c.url}, "")
			if err == nil {
				_ = w.Close()
				t.Fatal("it is open")
			}
			var e *diag.Error
			if !errors.As(err, &e) || e.Kind != diag.Failed || e.Kind.ExitCode() != 1 || !strings.Contains(e.Message(), c.message) || !strings.Contains(e.Hint, c.hint) {
				t.Errorf("got %v\nhint %v\nwant %s and %s", err, e, c.message, c.hint)
			}
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q", err)
			}
		})
	}
	t.Run("role", func(t *testing.T) {
		for _, name := range []string{"rich", "nosuch"} {
			_, err := postgres.Open(t.Context(), map[string]any{"url": as(t, database, "user", "clerk", "password", "the-right-one"), "role": name}, "")
			var e *diag.Error
			if !errors.As(err, &e) || !strings.Contains(e.Message(), name) || !strings.Contains(e.Hint, "check role of warehouse") {
				t.Errorf("role %s: got %v", name, err)
			}
		}
	})
	t.Run("all is right", func(t *testing.T) {
		w, err := postgres.Open(t.Context(), map[string]any{"url": as(t, database, "user", "clerk", "password", "the-right-one", "host", host, "port", port)}, "")
		if err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
	})
}

// A statement that takes longer than it may says whose limit it was to raise; one that waits for a lock too.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	database := server.Database(t)
	sql(t, database, role("hurried", "LOGIN SUPERUSER"), "ALTER ROLE hurried SET statement_timeout = '300ms'")
	for _, c := range []struct {
		name    string
		options map[string]any
	}{
		{"of the setting", map[string]any{"url": database, "statement_timeout": "300ms"}},
		{"of the role", map[string]any{"url": as(t, database, "user", "hurried")}},
	} {
		w, err := postgres.Open(t.Context(), c.options, "")
		if err != nil {
			t.Fatal(err)
		}
		for name, run := range map[string]func() error{
			"Exec":   func() error { _, err := w.Exec(t.Context(), "SELECT pg_sleep(30)"); return err },
			"Atomic": func() error { return w.Atomic(t.Context(), "SELECT 1", "SELECT pg_sleep(30)") },
			"Query": func() error {
				rows, err := w.Query(t.Context(), "SELECT pg_sleep(30)")
				if err != nil {
					return err
				}
				defer rows.Close()
				for rows.Next() {
				}
				return rows.Err()
			},
		} {
			var e *warehouse.QueryError
			if err := run(); !errors.As(err, &e) || !errors.Is(err, warehouse.ErrEngine) || !strings.Contains(e.Msg, "statement timeout") || !strings.Contains(e.Hint, "raise statement_timeout") {
				t.Errorf("%s, %s: got %v (%+v)", c.name, name, err, e)
			}
		}
		_ = w.Close()
	}
}

// Check names each missing permission, all at once, with what grants it; and makes nothing.
func TestCheck(t *testing.T) {
	t.Parallel()
	database := server.Database(t)
	sql(t, database,
		role("checked", "LOGIN"), "CREATE SCHEMA raw", "CREATE SCHEMA hidden", "CREATE TABLE raw.open (a int)", "CREATE TABLE raw.shut (a int)",
		"CREATE TABLE hidden.away (a int)", "CREATE TABLE hidden.too (a int)", "GRANT USAGE ON SCHEMA raw TO checked", "GRANT SELECT ON raw.open, hidden.away TO checked",
		"CREATE SCHEMA dray_functions AUTHORIZATION checked", "CREATE SCHEMA dray", "CREATE TABLE dray.meta (a int)")
	w, err := postgres.Open(t.Context(), map[string]any{"url": as(t, database, "user", "checked")}, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	table := func(schema, name string) warehouse.Table { return warehouse.Table{Schema: schema, Name: name} }
	changed := []warehouse.Table{table("dray", "meta")}
	read := []warehouse.Table{table("raw", "open"), table("raw", "shut"), table("hidden", "away"), table("hidden", "too"), table("raw", "gone"), table("nowhere", "x")}
	account, err := w.Check(t.Context(), "dray", changed, read)
	if !strings.HasSuffix(account, ", as checked") {
		t.Errorf("the account is %q", account)
	}
	var hints, messages []string
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		for _, problem := range list.Unwrap() {
			var e *diag.Error
			if !errors.As(problem, &e) || e.Kind.ExitCode() != 1 {
				t.Fatalf("got %v", problem)
			}
			hints, messages = append(hints, e.Hint), append(messages, e.Message())
		}
	}
	want := []struct{ message, hint string }{
		{"checked may not make tables in the schema dray", `GRANT USAGE, CREATE ON SCHEMA "dray" TO "checked"`},
		{"there is no schema dray_scratch, and checked may not make one", `CREATE SCHEMA "dray_scratch" AUTHORIZATION "checked"`},
		{"checked does not own dray.meta", `ALTER TABLE "dray"."meta" OWNER TO "checked"`},
		{"permission denied for table shut", `GRANT SELECT ON "raw"."shut" TO "checked"`},
		{"permission denied for schema hidden", `GRANT USAGE ON SCHEMA "hidden" TO "checked"`},
		{`relation "raw.gone" does not exist`, "is it there under this name"},
		{`relation "nowhere.x" does not exist`, "is it there under this name"},
	}
	if len(hints) != len(want) {
		t.Fatalf("%d problems, want %d:\n%s", len(hints), len(want), strings.Join(messages, "\n"))
	}
	for i, c := range want {
		if !strings.Contains(messages[i], c.message) || !strings.Contains(hints[i], c.hint) {
			t.Errorf("got %s (%s)\nwant %s (%s)", messages[i], hints[i], c.message, c.hint)
		}
	}
	// What it asks for is enough.
	sql(t, database, `ALTER TABLE "dray"."meta" OWNER TO "checked"`, `GRANT USAGE, CREATE ON SCHEMA "dray" TO "checked"`, `CREATE SCHEMA "dray_scratch" AUTHORIZATION "checked"`,
		`GRANT SELECT ON "raw"."shut" TO "checked"`, `GRANT USAGE ON SCHEMA "hidden" TO "checked"`, `GRANT SELECT ON ALL TABLES IN SCHEMA "hidden" TO "checked"`)
	if _, err := w.Check(t.Context(), "dray", changed, read[:4]); err != nil {
		t.Errorf("all is granted: %v", err)
	}
}

// A schema that was made for the role is emptied: the role could not make it again.
func TestDropSchema(t *testing.T) {
	t.Parallel()
	database := server.Database(t)
	sql(t, database, role("lodger", "LOGIN"), "CREATE SCHEMA dray_functions AUTHORIZATION lodger", `CREATE SCHEMA "it's" AUTHORIZATION lodger`)
	left := func(w *postgres.Warehouse) int64 {
		t.Helper()
		n, err := warehouse.Number(t.Context(), w, `SELECT count(*) FROM pg_namespace WHERE nspname = 'it''s'`)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for user, schemas := range map[string]int64{"lodger": 1, "dray": 0} {
		w, err := postgres.Open(t.Context(), map[string]any{"url": as(t, database, "user", user)}, "")
		if err != nil {
			t.Fatal(err)
		}
		d := w.Dialect()
		for _, s := range []string{
			d.CreateSchema("it's"), `CREATE TABLE "it's"."a""b" AS SELECT 1 AS x`, `CREATE VIEW "it's".v AS SELECT * FROM "it's"."a""b"`,
			`CREATE MATERIALIZED VIEW "it's".m AS SELECT * FROM "it's".v`, `CREATE TABLE "it's".p (n int) PARTITION BY LIST (n)`, d.DropSchema("it's"), d.DropSchema("nosuch"),
		} {
			if _, err := w.Exec(t.Context(), s); err != nil {
				t.Fatalf("%s as %s: %v", s, user, err)
			}
		}
		tables, err := warehouse.Number(t.Context(), w, `SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'it''s'`)
		if n := left(w); err != nil || tables != 0 || n != schemas {
			t.Errorf("%s: %d schemas, %d tables, %v", user, n, tables, err)
		}
		_ = w.Close()
		sql(t, database, `CREATE SCHEMA IF NOT EXISTS "it's" AUTHORIZATION lodger`)
	}
}
