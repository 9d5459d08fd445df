//go:build unix

package pgtest

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A server starts, gives each test a database of its own, and leaves nothing behind.
func TestServer(t *testing.T) {
	var s Server
	defer s.Stop()
	one, two := s.Database(t), s.Database(t)
	if one == two {
		t.Fatal("two tests share a database")
	}
	c, err := pgx.Connect(t.Context(), two)
	if err != nil {
		t.Fatal(err)
	}
	var version string
	if err := c.QueryRow(t.Context(), "SHOW server_version").Scan(&version); err != nil {
		t.Fatal(err)
	}
	t.Log("PostgreSQL", version)
	_ = c.Close(t.Context())
	dir := s.dir
	s.Stop()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the server's folder is still there: %v", err)
	}
	if _, err := pgx.Connect(t.Context(), one); err == nil {
		t.Error("the server still answers")
	}
}
