package snowflake

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	sf "github.com/snowflakedb/gosnowflake"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
)

// Warehouse is a pool of sessions with one account. Safe for concurrent use.
//
// Every statement is sent under a requestId, and every repetition of a request bears the same one: an answer that is lost on its way is
// asked for again, and Snowflake, which knows the id, does not run the statement a second time.
type Warehouse struct {
	o       *options
	db      *sql.DB
	dialect Dialect
}

// sessionLife is how long a session is used. Snowflake lets its tokens be renewed for four hours.
const sessionLife = 3 * time.Hour

// quiet keeps the driver from doing what it does beside its work: it would write Snowflake's errors, with values in them, to standard
// error (I6), and ask the metadata services of three clouds where it runs, to tell Snowflake.
//
//nolint:gochecknoglobals // the driver's switches are global
var quiet = sync.OnceFunc(func() {
	log := sf.GetLogger()
	log.SetOutput(io.Discard)
	_ = log.SetLogLevel("fatal")
	const detection = "SNOWFLAKE_DISABLE_PLATFORM_DETECTION"
	if _, ok := os.LookupEnv(detection); !ok {
		_ = os.Setenv(detection, "true")
	}
})

// Open signs in. dir is where a relative private_key_path is looked for.
func Open(ctx context.Context, given map[string]any, dir string) (*Warehouse, error) {
	o, err := parse(given, dir)
	if err != nil {
		return nil, err
	}
	return open(ctx, o, newTransport())
}

func open(ctx context.Context, o *options, through http.RoundTripper) (*Warehouse, error) {
	quiet()
	w := &Warehouse{o: o, db: sql.OpenDB(sf.NewConnector(sf.SnowflakeDriver{}, *o.config(through)))}
	w.db.SetMaxOpenConns(o.connections)
	w.db.SetMaxIdleConns(o.connections)
	w.db.SetConnMaxLifetime(sessionLife)
	conn, err := w.session(ctx)
	if err != nil {
		_ = w.db.Close()
		return nil, openError(err)
	}
	return w, conn.Close()
}

// config is what the driver wants to know.
func (o *options) config(through http.RoundTripper) *sf.Config {
	params := map[string]*string{}
	for name, value := range o.parameters() {
		params[name] = &value
	}
	return &sf.Config{
		Account: o.account, User: o.user, Password: o.password, Token: o.token, PrivateKey: o.key, Authenticator: o.authenticator,
		Role: o.role, Warehouse: o.warehouse, Database: o.database, Schema: o.schema,
		Protocol: o.protocol, Host: o.host, Port: o.port, Application: "dray", Params: params,
		// A database, a role or a warehouse that is not there fails at once; the schema may be one that Dray is about to make.
		ValidateDefaultParameters: validate(o.schema == ""),
		LoginTimeout:              time.Minute,     //nolint:staticcheck // deprecated without another in its place
		ClientTimeout:             5 * time.Minute, //nolint:staticcheck // likewise; of one request: statements that take longer are asked for again and again
		Transporter:               through,
		DisableTelemetry:          true, //nolint:staticcheck // likewise: the session parameter is not there yet
		DisableConsoleLogin:       sf.ConfigBoolTrue,
	}
}

func validate(yes bool) sf.ConfigBool {
	if yes {
		return sf.ConfigBoolTrue
	}
	return sf.ConfigBoolFalse
}

// parameters are those of the session that change what a statement gives. An account, a user or a role can have others than Snowflake's
// defaults: results would depend on who runs Dray. They are Snowflake's defaults here, but for UTC, and for weeks as ISO 8601 has them.
func (o *options) parameters() map[string]string {
	p := map[string]string{
		"TIMEZONE":                         "UTC",
		"WEEK_START":                       "1", // Monday
		"WEEK_OF_YEAR_POLICY":              "0", // the first with four days in the year
		"TIMESTAMP_TYPE_MAPPING":           "TIMESTAMP_NTZ",
		"TIMESTAMP_DAY_IS_ALWAYS_24H":      "false",
		"DATE_INPUT_FORMAT":                "AUTO",
		"TIME_INPUT_FORMAT":                "AUTO",
		"TIMESTAMP_INPUT_FORMAT":           "AUTO",
		"DATE_OUTPUT_FORMAT":               "YYYY-MM-DD",
		"TIME_OUTPUT_FORMAT":               "HH24:MI:SS",
		"TIMESTAMP_OUTPUT_FORMAT":          "YYYY-MM-DD HH24:MI:SS.FF3 TZHTZM",
		"TIMESTAMP_NTZ_OUTPUT_FORMAT":      "YYYY-MM-DD HH24:MI:SS.FF3",
		"TIMESTAMP_LTZ_OUTPUT_FORMAT":      "",
		"TIMESTAMP_TZ_OUTPUT_FORMAT":       "",
		"TWO_DIGIT_CENTURY_START":          "1970",
		"BINARY_INPUT_FORMAT":              "HEX",
		"BINARY_OUTPUT_FORMAT":             "HEX",
		"GEOGRAPHY_OUTPUT_FORMAT":          "GeoJSON",
		"GEOMETRY_OUTPUT_FORMAT":           "GeoJSON",
		"JSON_INDENT":                      "0",
		"QUOTED_IDENTIFIERS_IGNORE_CASE":   "false",
		"DEFAULT_DDL_COLLATION":            "", // texts are compared as they are
		"STRICT_JSON_OUTPUT":               "false",
		"ROWS_PER_RESULTSET":               "0", // all
		"ERROR_ON_NONDETERMINISTIC_MERGE":  "true",
		"ERROR_ON_NONDETERMINISTIC_UPDATE": "false",
		"AUTOCOMMIT":                       "true",
		"MULTI_STATEMENT_COUNT":            "1",
		"ABORT_DETACHED_QUERY":             "true", // what nobody waits for any more would work on, and bill
		"GO_QUERY_RESULT_FORMAT":           "ARROW",
		"CLIENT_RESULT_CHUNK_SIZE":         "48", // MB; Snowflake's default is 160
		"CLIENT_SESSION_KEEP_ALIVE":        strconv.FormatBool(o.keepAlive),
	}
	if o.timeout > 0 {
		p["STATEMENT_TIMEOUT_IN_SECONDS"] = strconv.FormatInt(int64(o.timeout/time.Second), 10)
	}
	return p
}

// Dialect writes Snowflake's SQL.
func (w *Warehouse) Dialect() warehouse.Dialect { return w.dialect }

// Close ends all sessions.
func (w *Warehouse) Close() error { return w.db.Close() }

// Exec runs one statement.
func (w *Warehouse) Exec(ctx context.Context, statement string) (int64, error) {
	r, err := w.run(ctx, statement)
	if err != nil {
		return 0, err
	}
	return r.changed(), nil
}

// Atomic runs the statements in one transaction of one session. Statements that make, alter or drop relations are no part of one in
// Snowflake, which commits before and behind each: they come alone, and run one after the other. A statement by itself is a transaction.
func (w *Warehouse) Atomic(ctx context.Context, statements ...string) error {
	ddl := 0
	for _, s := range statements {
		if definition(s) {
			ddl++
		}
	}
	switch {
	case ddl > 0 && ddl < len(statements):
		return errors.New("a transaction cannot make, alter or drop relations in Snowflake")
	case ddl > 0 || len(statements) == 1:
		for _, s := range statements {
			if _, err := w.Exec(ctx, s); err != nil {
				return err
			}
		}
		return nil
	case len(statements) == 0:
		return nil
	}
	conn, err := w.begin(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return w.within(ctx, conn, func() error {
		for _, s := range statements {
			if _, err := w.on(ctx, conn, s); err != nil {
				return err
			}
		}
		return nil
	})
}

// within commits the transaction that is open when work is done, or else rolls it back. A session that ends in the midst of one leaves
// its locks behind: after five minutes Snowflake rolls it back for whoever waits.
func (w *Warehouse) within(ctx context.Context, conn *sql.Conn, work func() error) error {
	err := work()
	if err == nil {
		_, err = w.on(ctx, conn, "COMMIT")
	}
	if err != nil {
		// Also where it was the answer to COMMIT that failed for good: a transaction that is over has nothing to roll back.
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		if _, failed := w.on(back, conn, "ROLLBACK"); failed != nil {
			discard(conn) // with whatever it still holds
		}
	}
	return err
}

// grace is how long a request may take that is sent after the context ended.
const grace = 30 * time.Second

// begin opens a transaction; a session that turns out to be over is replaced by another.
func (w *Warehouse) begin(ctx context.Context) (*sql.Conn, error) {
	for try := 1; ; try++ {
		conn, err := w.session(ctx)
		if err != nil {
			return nil, err
		}
		if _, err = w.on(ctx, conn, "BEGIN TRANSACTION"); err == nil {
			return conn, nil
		}
		_ = conn.Close()
		if !isOver(err) || try == 2 {
			return nil, err
		}
	}
}

// Columns describes a query without running it.
func (w *Warehouse) Columns(ctx context.Context, query string) ([]warehouse.Column, error) {
	r, err := w.run(sf.WithDescribeOnly(ctx), query)
	if err != nil {
		return nil, err
	}
	for _, t := range r.types {
		if plainLower.MatchString(t.name) {
			return nil, &warehouse.QueryError{
				Msg:  fmt.Sprintf("column %q was made in quotes, and in lower case", t.name),
				Hint: fmt.Sprintf(`Dray writes names of one case as Snowflake folds them, in upper case: give it that name in a model, SELECT "%s" AS %[1]s`, t.name),
			}
		}
	}
	return r.columns(), nil
}

// Exists tells whether a table or view is there, which is asked by describing a query of it. Snowflake does not tell apart what is not
// there and what may not be seen.
func (w *Warehouse) Exists(ctx context.Context, t warehouse.Table) (bool, error) {
	_, err := w.run(sf.WithDescribeOnly(ctx), "SELECT 1 FROM "+w.dialect.Table(t))
	if errors.Is(err, warehouse.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Estimate is how many bytes the micro-partitions have that a query would read, after pruning, as EXPLAIN says. It needs no running
// warehouse.
func (w *Warehouse) Estimate(ctx context.Context, query string) (int64, error) {
	r, err := w.run(ctx, "EXPLAIN USING TABULAR "+query)
	if err != nil {
		return 0, err
	}
	rows := r.rows(ctx)
	defer func() { _ = rows.Close() }()
	at := -1
	for i, c := range rows.Columns() {
		if strings.EqualFold(c.Name, "bytesAssigned") {
			at = i
		}
	}
	var total int64
	for rows.Next() { // the first line is about the whole
		v, err := rows.Values()
		if err != nil {
			return 0, err
		}
		if at >= 0 && total == 0 && v[at] != nil {
			total, _ = strconv.ParseInt(fmt.Sprint(v[at]), 10, 64)
		}
	}
	return total, rows.Err()
}

func openError(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	e := &diag.Error{Kind: diag.Failed, Code: "warehouse.open", Msg: "connecting to Snowflake", Err: err}
	var q *warehouse.QueryError
	if errors.As(err, &q) {
		e.Hint = q.Hint
	}
	return e
}

var (
	_ warehouse.Warehouse = (*Warehouse)(nil)
	_ warehouse.Estimator = (*Warehouse)(nil)
)
