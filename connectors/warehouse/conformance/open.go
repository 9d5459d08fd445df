// Package conformance holds every warehouse to the same tests. It is imported by tests only.
package conformance

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/url"
	"os"
	"testing"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/connectors/warehouse/duckdb"
	"github.com/dray-dev/dray/connectors/warehouse/postgres"
)

// PostgresVar names the variable with the URL of a PostgreSQL server on which the tests of the engine run
// instead of DuckDB. Its user may make databases.
const PostgresVar = "DRAY_TEST_POSTGRES"

// Postgres is the server's URL; "" = the tests run on DuckDB.
func Postgres() string { return os.Getenv(PostgresVar) }

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
