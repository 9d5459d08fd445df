//go:build !unix

// Package pgtest gives tests a real PostgreSQL, on systems where it can start one.
package pgtest

import (
	"context"
	"errors"
	"testing"
)

// Require is the environment variable that elsewhere turns a missing PostgreSQL into a failed test.
const Require = "DRAY_REQUIRE_POSTGRES"

// Server is none on this system.
type Server struct{}

// Main runs a package's tests.
func (*Server) Main(m *testing.M) int { return m.Run() }

// Database skips the test.
func (*Server) Database(t testing.TB) string {
	t.Helper()
	t.Skip("a PostgreSQL server is started for tests on unix only")
	return ""
}

// New makes none.
func (*Server) New(context.Context) (string, error) {
	return "", errors.New("a PostgreSQL server is started on unix only")
}

// Stop does nothing.
func (*Server) Stop() {}
