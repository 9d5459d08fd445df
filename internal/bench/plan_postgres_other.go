//go:build !unix

package main

import "context"

// benchPlanPostgres starts a server, which is done on Unix alone.
func benchPlanPostgres(_ context.Context, l *lab) ([]result, error) {
	l.say("skipped: a server is started on Unix alone")
	return nil, nil
}
