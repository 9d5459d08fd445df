// Package conformance holds every warehouse to the same tests. It is imported by tests only.
package conformance

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/url"
	"os"
	"sync"
	"testing"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/carried"
	"github.com/dray-dev/dray/connectors/warehouse/duckdb"
	"github.com/dray-dev/dray/connectors/warehouse/postgres"
)

// PostgresVar names the variable with the URL of a PostgreSQL server on which the tests of the engine run
// instead of DuckDB. Its user may make databases.
const PostgresVar = "DRAY_TEST_POSTGRES"

// Postgres is the server's URL; "" = the tests run on DuckDB.
func Postgres() string { return os.Getenv(PostgresVar) }

// CarriedVar names the variable with the dialect (bigquery) in whose words the tests of the engine run, executed on DuckDB by way of a
// transpiler; CorpusVar the one with the folder where the statements are kept for an analyzer.
const (
	CarriedVar = "DRAY_TEST_CARRIED"
	CorpusVar  = "DRAY_SQL_CORPUS"
)

// Carried is the dialect that the tests run in; "" = the engine's own.
func Carried() string { return os.Getenv(CarriedVar) }

// stage is what all carried warehouses of a process share.
type stage struct {
	transpiler *carried.Transpiler
	corpus     *carried.Corpus
	err        error
}

//nolint:gochecknoglobals // one child process for all tests of a package
var theStage = sync.OnceValue(func() (s stage) {
	if s.transpiler, s.err = carried.Start(); s.err != nil {
		return s
	}
	if dir := os.Getenv(CorpusVar); dir != "" {
		s.corpus, s.err = carried.NewCorpus(dir)
	}
	return s
})

func openCarried(ctx context.Context, dir, file string) (warehouse.Warehouse, error) {
	s := theStage()
	if s.err != nil {
		return nil, s.err
	}
	for _, c := range []carried.Carrier{carried.BigQuery(), carried.Snowflake()} {
		if c.Dialect.Name() == Carried() {
			w, err := carried.Open(ctx, c, s.transpiler, s.corpus, file, dir)
			if err != nil {
				return nil, err
			}
			return w, nil
		}
	}
	return nil, fmt.Errorf("%s: there is no carrier of %q", CarriedVar, Carried())
}

// Open gives a test an empty warehouse of its own: DuckDB in memory, or a database of the server.
func Open(t testing.TB) warehouse.Warehouse {
	t.Helper()
	w, err := OpenAt(context.Background(), t.TempDir(), ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// OpenAt opens the warehouse of a folder, the same at every call: a DuckDB file below it, or the folder's database of the server.
func OpenAt(ctx context.Context, dir, file string) (warehouse.Warehouse, error) {
	if Carried() != "" {
		return openCarried(ctx, dir, file)
	}
	if Postgres() == "" {
		w, err := duckdb.Open(ctx, map[string]any{"path": file}, dir)
		if err != nil {
			return nil, err
		}
		return w, nil
	}
	name := Database(dir)
	root, err := postgres.Open(ctx, map[string]any{"url": Postgres()}, dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	n, err := warehouse.Number(ctx, root, "SELECT count(*) FROM pg_database WHERE datname = '"+name+"'")
	if err != nil {
		return nil, err
	}
	if n == 0 {
		if _, err := root.Exec(ctx, "CREATE DATABASE "+name); err != nil {
			return nil, err
		}
	}
	w, err := postgres.Open(ctx, map[string]any{"url": URL(name)}, dir)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		if _, err := w.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS fuzzystrmatch"); err != nil { // for edit distances
			return nil, err
		}
	}
	if n == 0 { // what the tests' own statements use of DuckDB's
		if _, err := w.Exec(ctx, "CREATE FUNCTION range(n bigint) RETURNS SETOF bigint LANGUAGE sql AS 'SELECT generate_series(0, n - 1)'"); err != nil {
			return nil, err
		}
		if _, err := w.Exec(ctx, "CREATE FUNCTION range(a bigint, b bigint) RETURNS SETOF bigint LANGUAGE sql AS 'SELECT generate_series(a, b - 1)'"); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// URL is that of one of the server's databases.
func URL(database string) string {
	u, err := url.Parse(Postgres())
	if err != nil {
		return ""
	}
	u.Path = "/" + database
	return u.String()
}

// Database is the database that a folder has on the server.
func Database(dir string) string { return fmt.Sprintf("t%x", sha256.Sum256([]byte(dir)))[:32] }
