// Package postgres is the PostgreSQL warehouse, version 14 and later.
//
// Dray's tables, and what it builds, stand in the project's schema; a few functions that PostgreSQL lacks in dray_functions. Reads
// stream, loads go by COPY, and what must be all or nothing is one transaction.
package postgres

import (
	"context"
	"crypto/tls"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

//go:embed functions.sql
var functions string

// Warehouse is a pool of connections to one database. Safe for concurrent use.
type Warehouse struct {
	pool    *pgxpool.Pool
	dialect Dialect
}

// Open connects. options are the keys of `warehouse:` besides type: url, or host, port, user, password, database and sslmode; role,
// statement_timeout, work_mem and connections.
func Open(ctx context.Context, options map[string]any, _ string) (*Warehouse, error) {
	cfg, err := parse(options)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, openError(err)
	}
	w := &Warehouse{pool: pool}
	if err := w.prepare(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return w, nil
}

func parse(options map[string]any) (*pgxpool.Config, error) {
	invalid := func(format string, args ...any) *diag.Error {
		return diag.Errorf(diag.Invalid, "warehouse.option", format, args...)
	}
	text := func(key string) string {
		if v, ok := options[key]; ok && v != nil {
			return fmt.Sprint(v)
		}
		return ""
	}
	known := []string{"url", "host", "port", "user", "password", "database", "sslmode", "role", "statement_timeout", "work_mem", "connections"}
	for key := range options {
		if !strings.Contains(" "+strings.Join(known, " ")+" ", " "+key+" ") {
			return nil, invalid("the PostgreSQL warehouse has no option %q", key).WithHint("it has %s", strings.Join(known, ", "))
		}
	}
	dsn := text("url")
	if dsn == "" {
		if text("host") == "" || text("database") == "" {
			return nil, invalid("the PostgreSQL warehouse needs url, or host and database").WithHint(`url: "${DATABASE_URL}"`)
		}
		u := url.URL{Scheme: "postgres", Host: text("host"), Path: "/" + text("database")}
		query := url.Values{}
		if strings.HasPrefix(text("host"), "/") { // a folder of sockets
			u.Host = ""
			query.Set("host", text("host"))
		}
		if port := text("port"); port != "" {
			if u.Host == "" {
				query.Set("port", port)
			} else {
				u.Host = net.JoinHostPort(u.Host, port)
			}
		}
		if user := text("user"); user != "" {
			u.User = url.UserPassword(user, text("password"))
		}
		if mode := text("sslmode"); mode != "" {
			query.Set("sslmode", mode)
		}
		u.RawQuery = query.Encode()
		dsn = u.String()
	}
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil { // it may quote the password
		return nil, invalid("the url of the PostgreSQL warehouse does not read").WithHint("postgres://user:password@host:5432/database")
	}
	cfg.MaxConns = 8
	if n := text("connections"); n != "" {
		k, err := strconv.Atoi(n)
		if err != nil || k < 2 {
			return nil, invalid("connections of the PostgreSQL warehouse must be a whole number of at least 2")
		}
		cfg.MaxConns = int32(k) //nolint:gosec // small
	}
	params := cfg.ConnConfig.RuntimeParams
	params["timezone"], params["datestyle"], params["intervalstyle"] = "UTC", "ISO, YMD", "postgres"
	params["bytea_output"], params["extra_float_digits"], params["lock_timeout"] = "hex", "1", "60s"
	params["jit"] = "off" // statements are made for one use: compiling them takes longer than they do
	if params["application_name"] == "" {
		params["application_name"] = "dray"
	}
	// How many rows differ is not known before they are compared, and PostgreSQL guesses all: it would sort whole snapshots to join
	// the few that do.
	params["enable_mergejoin"] = "off"
	params["work_mem"] = "64MB"
	if m := text("work_mem"); m != "" {
		params["work_mem"] = m
	}
	if t := text("statement_timeout"); t != "" {
		d, err := time.ParseDuration(t)
		if err != nil {
			return nil, invalid("statement_timeout of the PostgreSQL warehouse is not a duration such as 10m")
		}
		params["statement_timeout"] = strconv.FormatInt(d.Milliseconds(), 10)
	}
	if role := text("role"); role != "" {
		cfg.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
			_, err := c.Exec(ctx, "SET ROLE "+Dialect{}.Quote(role))
			return err
		}
	}
	// Statements are all different, so none is prepared for later.
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = 15 * time.Second
	}
	return cfg, nil
}

// oldest is the first release that has what Dray's statements need: TID range scans and hash_record_extended.
const oldest = 140000

// prepare reads the release and makes the functions where they are missing.
func (w *Warehouse) prepare(ctx context.Context) error {
	var version, encoding string
	if err := w.pool.QueryRow(ctx, "SELECT current_setting('server_version_num'), current_setting('server_encoding')").Scan(&version, &encoding); err != nil {
		return openError(err)
	}
	n, _ := strconv.Atoi(version)
	if n < oldest {
		return diag.Errorf(diag.Invalid, "warehouse.release", "PostgreSQL %d is too old", n/10000).WithHint("Dray needs 14 or later")
	}
	if encoding != "UTF8" {
		return diag.Errorf(diag.Invalid, "warehouse.encoding", "the database has the encoding %s", encoding).WithHint("Dray needs a database in UTF8")
	}
	w.dialect.release = strconv.Itoa(n / 10000)
	var folds, icu bool
	if err := w.pool.QueryRow(ctx, "SELECT lower('Æ') = 'æ', EXISTS (SELECT 1 FROM pg_collation WHERE collname = 'und-x-icu')").Scan(&folds, &icu); err != nil {
		return openError(err)
	}
	switch {
	case folds:
	case icu:
		w.dialect.fold = ` COLLATE "und-x-icu"`
	default:
		return diag.Errorf(diag.Invalid, "warehouse.locale", "the database's locale folds no letters beyond ASCII, and the server has no ICU").
			WithHint("make the database with a UTF-8 locale such as C.UTF-8")
	}
	var have bool
	mark := Dialect{}.Text(digest(functions))
	if err := w.pool.QueryRow(ctx, "SELECT coalesce(obj_description(to_regnamespace('"+Functions+"'), 'pg_namespace') = "+mark+", false)").Scan(&have); err != nil {
		return openError(err)
	}
	if have {
		return nil
	}
	// Two processes may come at once: the lock lets one make them. It is freed with the transaction.
	err := w.Atomic(ctx, "SELECT pg_advisory_xact_lock(7310868735)", Dialect{}.CreateSchema(Functions), functions,
		"COMMENT ON SCHEMA "+Functions+" IS "+mark)
	if err != nil {
		return &diag.Error{
			Kind: diag.Failed, Code: "warehouse.functions", Msg: "making the schema " + Functions, Err: err,
			Hint: "let an owner of the database run: CREATE SCHEMA " + Functions + " AUTHORIZATION <the user of dray>",
		}
	}
	return nil
}

// openError is why there is no connection. The server's and the driver's texts name user and host, never the password.
func openError(err error) error {
	e := &diag.Error{Kind: diag.Failed, Code: "warehouse.open", Msg: "connecting to PostgreSQL"}
	e.Hint, e.Err = reason(err)
	return e
}

const where = "check host, port and that the server takes connections from here"

// reason says in one line why a connection was not made, and the way out.
func reason(err error) (hint string, cause error) {
	var pe *pgconn.PgError
	var dns *net.DNSError
	var dial *net.OpError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &pe):
		return hintOf(pe), errors.New(pe.Message)
	case errors.As(err, &dns):
		return "check host of warehouse: in dray.yaml", errors.New("the host is not known")
	case errors.As(err, &certificate):
		return "name the authority that signed it: url with sslrootcert=FILE, and the host as the certificate has it; sslmode: require encrypts without looking at it",
			fmt.Errorf("the server's certificate is not trusted: %w", certificate.Err)
	case strings.Contains(err.Error(), "server refused TLS connection"):
		return "turn ssl on in PostgreSQL; or, where the network is trusted, sslmode: disable", errors.New("the server has no TLS")
	case errors.As(err, &dial) && dial.Timeout(), pgconn.Timeout(err):
		return where, errors.New("the server does not answer")
	case errors.As(err, &dial) && dial.Addr != nil:
		return where, fmt.Errorf("%s: %s", dial.Addr, lastOf(dial.Err))
	}
	return where, errors.New(strings.Join(strings.Fields(lastOf(err)), " "))
}

// hintOf is what to do about the server's refusal of a connection.
func hintOf(pe *pgconn.PgError) string {
	const user = "check user and password of warehouse: in dray.yaml"
	switch {
	case strings.Contains(pe.Message, "pg_hba.conf"):
		return "let pg_hba.conf of the server take this user from here; where it says no encryption, sslmode: require"
	case pe.Code == "28P01", pe.Code == "28000":
		return user
	case pe.Code == "3D000":
		return "check database of warehouse: in dray.yaml"
	case pe.Code == "53300":
		return "the server has no connection left: lower connections of warehouse:, or raise max_connections in PostgreSQL"
	case pe.Code == "57P03":
		return "run again once the server takes connections"
	case pe.Code == "42501" && strings.Contains(pe.Message, "database"):
		return "let its owner run: GRANT CONNECT ON DATABASE … TO <the user of dray>"
	case strings.Contains(pe.Message, "role"): // SET ROLE
		return "check role of warehouse: in dray.yaml; it must be granted to the user: GRANT <role> TO <user>"
	}
	return where
}

// lastOf is the innermost error's text.
func lastOf(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// Dialect writes PostgreSQL's SQL.
func (w *Warehouse) Dialect() warehouse.Dialect { return w.dialect }

// Close ends all connections.
func (w *Warehouse) Close() error { w.pool.Close(); return nil }

// Exec runs one statement.
func (w *Warehouse) Exec(ctx context.Context, statement string) (int64, error) {
	tag, err := w.pool.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol)
	return tag.RowsAffected(), wrap(err, statement)
}

// Atomic runs the statements in one transaction.
func (w *Warehouse) Atomic(ctx context.Context, statements ...string) error {
	tx, err := w.pool.Begin(ctx)
	if err != nil {
		return wrap(err, "")
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // after Commit it does nothing; before it, the first error is the one to tell
	for _, s := range statements {
		if _, err := tx.Exec(ctx, s, pgx.QueryExecModeSimpleProtocol); err != nil {
			return wrap(err, s)
		}
	}
	return wrap(tx.Commit(ctx), "")
}

// Columns describes a query without running it.
func (w *Warehouse) Columns(ctx context.Context, query string) ([]warehouse.Column, error) {
	conn, err := w.pool.Acquire(ctx)
	if err != nil {
		return nil, wrap(err, "")
	}
	defer conn.Release()
	described, err := conn.Conn().PgConn().Prepare(ctx, "", query, nil)
	if err != nil {
		return nil, wrap(err, query)
	}
	if len(described.Fields) == 0 {
		return nil, nil
	}
	names := make([]string, len(described.Fields))
	for i, f := range described.Fields {
		names[i] = fmt.Sprintf("format_type(%d, %d)", f.DataTypeOID, f.TypeModifier)
	}
	types := make([]any, len(names))
	found := make([]string, len(names))
	for i := range found {
		types[i] = &found[i]
	}
	if err := conn.QueryRow(ctx, "SELECT "+strings.Join(names, ", ")).Scan(types...); err != nil {
		return nil, wrap(err, "")
	}
	out := make([]warehouse.Column, len(found))
	for i, f := range described.Fields {
		out[i] = warehouse.Column{Name: f.Name, Type: found[i], Kind: w.dialect.KindOf(found[i])}
	}
	return out, nil
}

// Exists tells whether a table or view is there.
func (w *Warehouse) Exists(ctx context.Context, t warehouse.Table) (bool, error) {
	d := w.dialect
	schema := "current_schema()"
	if t.Schema != "" {
		schema = d.Text(short(t.Schema))
	}
	query := "SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname = " +
		schema + " AND c.relname = " + d.Text(short(t.Name)) + ")"
	var there bool
	err := w.pool.QueryRow(ctx, query).Scan(&there)
	return there, wrap(err, query)
}
