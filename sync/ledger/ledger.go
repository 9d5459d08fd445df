// Package ledger keeps Dray's own tables in the warehouse: what a snapshot is about, locks, approvals, deliveries and runs (DESIGN §4).
//
// It is the lowest step of the sync path: plan, commit and run read and write through it. Nothing here holds customer fields.
package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/sync/plan"
)

// SchemaVersion is of these tables; MinReader the oldest Dray that reads them.
const (
	SchemaVersion = 2 // 2: snapshots say which fields the destination has values of its own in (theirs)
	MinReader     = 1
)

// Ledger is Dray's tables in one schema. Safe for concurrent use.
type Ledger struct {
	W     warehouse.Warehouse
	Names compile.Names
}

// Meta is what a snapshot is about: any difference stops the sync (DESIGN §4, Bound to its destination).
type Meta struct {
	Sync            string
	Project         string
	Target          string
	Destination     string
	DestinationType string
	AccountID       string
	Object          string
	Container       string
	BaseURL         string
	Generation      int64  // changed by reset and move: part of insert's dedupe ids
	Revision        int64  // counts closed runs: an older one is a restored backup
	Mapping         string // fingerprint of key, object, options and mode
	KeySalt         int64
	HashVersion     string
	Standing        Standing
	OpenRun         string // the run whose plan is being delivered; "" = none
	OpenMode        string
	UpdatedAt       time.Time
	Version         int64 // of this sync's tables
	Exists          bool
	AllUncertain    bool // not stored: the snapshot cannot be trusted, every row of it is uncertain
}

// Standing is the columns of the snapshot, as JSON in meta.
type Standing struct {
	PrimaryKey plan.Column   `json:"primary_key"`
	DestKey    plan.Column   `json:"dest_key"`
	Keys       []plan.Column `json:"keys,omitempty"`
	Fields     []plan.Column `json:"fields,omitempty"`
	Named      string        `json:"named,omitempty"`    // the name that dedupe ids are made of, where the sync was renamed
	EventID    []string      `json:"event_id,omitempty"` // insert mode: the columns that DestKey is made of
}

// KeepsEvents tells whether the snapshot remembers inserted events, not records.
func (m Meta) KeepsEvents() bool { return len(m.Standing.EventID) > 0 }

// Ensure makes the schema and the tables that all syncs share. Cheap when they are there: one statement.
func (l *Ledger) Ensure(ctx context.Context) error {
	there, err := l.W.Exists(ctx, l.Names.Meta())
	if err != nil || there {
		return err
	}
	d := l.W.Dialect()
	text, num, ts := d.Type(warehouse.Text), d.Type(warehouse.Int), d.Type(warehouse.Timestamp)
	statements := []string{
		d.CreateSchema(l.Names.Schema),
		d.CreateTable(l.Names.Deliveries(), []string{
			"run_id " + text, "page " + num, "sync " + text, "primary_key " + text, "key_hash " + text, "operation " + text,
			"outcome " + text, "code " + text, "message " + text, "attempt " + num, d.Quote("at") + " " + ts,
		}, "at", "sync", "run_id"),
		d.CreateTable(l.Names.Runs(), []string{
			"run_id " + text, "sync " + text, "status " + text, "started_at " + ts, "finished_at " + ts, "snapshot_rows " + num, "removed " + num, "report " + text,
		}, "started_at", "sync"),
		d.CreateTable(l.Names.Approvals(), []string{"sync " + text, "kind " + text, "fingerprint " + text, d.Quote("at") + " " + ts}, ""),
	}
	for _, s := range statements {
		if _, err := l.W.Exec(ctx, s); err != nil {
			return fmt.Errorf("making Dray's tables in schema %s: %w", l.Names.Schema, err)
		}
	}
	if err := l.makeViews(ctx); err != nil {
		return err
	}
	// Last: where meta stands, everything does.
	if _, err := l.W.Exec(ctx, d.CreateTable(l.Names.Meta(), []string{
		"sync " + text, "project " + text, "target " + text, "destination " + text, "destination_type " + text, "account_id " + text,
		"object " + text, "container " + text, "base_url " + text, "generation " + num, "revision " + num, "mapping " + text, "key_salt " + num,
		"hash_version " + text, "columns " + text, "open_run " + text, "open_mode " + text, "schema_version " + num, "min_reader " + num, "updated_at " + ts,
	}, "")); err != nil {
		return fmt.Errorf("making Dray's tables in schema %s: %w", l.Names.Schema, err)
	}
	return nil
}

// makeViews makes the views whose columns are promised, also over ones that an older Dray made.
func (l *Ledger) makeViews(ctx context.Context) error {
	d := l.W.Dialect()
	for _, v := range l.views() {
		columns := make([]string, len(v.columns))
		for i, c := range v.columns {
			columns[i] = d.Quote(c)
		}
		view := warehouse.Table{Database: l.Names.Database, Schema: l.Names.Schema, Name: v.name}
		if _, err := l.W.Exec(ctx, d.CreateView(view, "SELECT "+strings.Join(columns, ", ")+" FROM "+d.Table(v.of))); err != nil {
			return fmt.Errorf("making the view %s: %w", v.name, err)
		}
	}
	return nil
}

// promised is a view that others may build on: columns are only ever added to it, anything else is a new version beside it.
type promised struct {
	name    string
	of      warehouse.Table
	columns []string
}

func (l *Ledger) views() []promised {
	return []promised{
		{"deliveries_v1", l.Names.Deliveries(), []string{"run_id", "page", "sync", "primary_key", "key_hash", "operation", "outcome", "code", "message", "attempt", "at"}},
		{"runs_v1", l.Names.Runs(), []string{"run_id", "sync", "status", "started_at", "finished_at", "snapshot_rows", "removed", "report"}},
	}
}

// Read reads a sync's meta row; Exists is false where there is none (also where Dray has no tables yet).
func (l *Ledger) Read(ctx context.Context, sync string) (Meta, error) {
	m := Meta{Sync: sync}
	there, err := l.W.Exists(ctx, l.Names.Meta())
	if err != nil || !there {
		return m, err
	}
	d := l.W.Dialect()
	all, err := l.readWhere(ctx, "sync = "+d.Text(l.Names.Was(sync)))
	if err != nil || len(all) == 0 {
		return m, err
	}
	all[0].Sync = sync
	return all[0], nil
}

// All reads every sync's meta row: also of those that are not in the project any more.
func (l *Ledger) All(ctx context.Context) ([]Meta, error) {
	there, err := l.W.Exists(ctx, l.Names.Meta())
	if err != nil || !there {
		return nil, err
	}
	return l.readWhere(ctx, "true")
}

func (l *Ledger) readWhere(ctx context.Context, where string) ([]Meta, error) {
	rows, err := l.W.Query(ctx, "SELECT sync, project, target, destination, destination_type, account_id, object, container, base_url, generation, revision, mapping, key_salt, hash_version, columns, open_run, open_mode, min_reader, updated_at, coalesce(schema_version, 0) FROM "+
		l.W.Dialect().Table(l.Names.Meta())+" WHERE "+where+" ORDER BY sync")
	if err != nil {
		return nil, fmt.Errorf("reading meta: %w", err)
	}
	defer rows.Close()
	var out []Meta
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return nil, err
		}
		m, err := metaOf(v)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, rows.Err()
}

func metaOf(v []any) (Meta, error) {
	text := func(i int) string { s, _ := v[i].(string); return s }
	num := func(i int) int64 { n, _ := v[i].(int64); return n }
	m := Meta{
		Sync: text(0), Project: text(1), Target: text(2), Destination: text(3), DestinationType: text(4), AccountID: text(5), Object: text(6),
		Container: text(7), BaseURL: text(8), Generation: num(9), Revision: num(10), Mapping: text(11), KeySalt: num(12),
		HashVersion: text(13), OpenRun: text(15), OpenMode: text(16), Exists: true,
	}
	m.UpdatedAt, _ = v[18].(time.Time)
	m.Version = num(19)
	if num(17) > SchemaVersion {
		return m, diag.Errorf(diag.Invalid, "upgrade.needed", "Dray's tables in this schema were written by a newer Dray").
			WithHint("use that version, or a newer one")
	}
	if err := json.Unmarshal([]byte(text(14)), &m.Standing); err != nil {
		return m, fmt.Errorf("reading meta of %s: %w", m.Sync, err)
	}
	return m, nil
}

// WriteSQL replaces a sync's meta row; part of a transaction.
func (l *Ledger) WriteSQL(m Meta, now time.Time) ([]string, error) {
	d := l.W.Dialect()
	columns, err := json.Marshal(m.Standing)
	if err != nil {
		return nil, err
	}
	t := d.Table(l.Names.Meta())
	values := []any{
		m.Sync, m.Project, m.Target, m.Destination, m.DestinationType, m.AccountID, m.Object, m.Container, m.BaseURL, m.Generation, m.Revision,
		m.Mapping, m.KeySalt, m.HashVersion, string(columns), m.OpenRun, m.OpenMode, int64(SchemaVersion), int64(MinReader), now,
	}
	lits := make([]string, len(values))
	for i, v := range values {
		lits[i] = d.Value(v)
	}
	return []string{
		"DELETE FROM " + t + " WHERE sync = " + d.Text(m.Sync),
		"INSERT INTO " + t + " (sync, project, target, destination, destination_type, account_id, object, container, base_url, generation, revision, mapping, key_salt, hash_version, columns, open_run, open_mode, schema_version, min_reader, updated_at) VALUES (" +
			strings.Join(lits, ", ") + ")",
	}, nil
}

// Write replaces a sync's meta row.
func (l *Ledger) Write(ctx context.Context, m Meta, now time.Time) error {
	statements, err := l.WriteSQL(m, now)
	if err != nil {
		return err
	}
	if err := l.W.Atomic(ctx, statements...); err != nil {
		return fmt.Errorf("writing meta of %s: %w", m.Sync, err)
	}
	return nil
}

// EnsureSync makes the tables of one sync beside its snapshot: retry and lock. One transaction.
func (l *Ledger) EnsureSync(ctx context.Context, sync string) error {
	there, err := l.W.Exists(ctx, l.Names.Lock(sync))
	if err != nil || there {
		return err
	}
	d := l.W.Dialect()
	text, num, ts := " "+d.Type(warehouse.Text), " "+d.Type(warehouse.Int), " "+d.Type(warehouse.Timestamp)
	none := func(k warehouse.Kind, name string) string { return d.Cast("NULL", k) + " AS " + name }
	statements := []string{
		d.CreateTable(l.Names.Retry(sync), []string{
			"key_hash" + num, "row_hash" + num, "operation" + text, "reason" + text, "attempts" + num, "first_at" + ts, "last_at" + ts,
			"next_attempt_at" + ts, "code" + text, "message" + text, "parked " + d.Type(warehouse.Bool),
		}, ""),
		// With its one row: whoever comes second finds both.
		"CREATE TABLE IF NOT EXISTS " + d.Table(l.Names.Lock(sync)) + " AS SELECT " + strings.Join([]string{
			none(warehouse.Text, "run_id"), none(warehouse.Text, "holder"), none(warehouse.Text, "host"),
			none(warehouse.Timestamp, "since"), none(warehouse.Timestamp, "until"),
		}, ", "),
	}
	if err := l.W.Atomic(ctx, statements...); err != nil {
		return fmt.Errorf("making the tables of sync %s: %w", sync, err)
	}
	return nil
}

// Approve stores what `--allow` granted: it covers exactly what its fingerprint covers, whichever process runs next.
func (l *Ledger) Approve(ctx context.Context, sync, kind, fingerprint string, now time.Time) error {
	d := l.W.Dialect()
	_, err := l.W.Exec(ctx, "INSERT INTO "+d.Table(l.Names.Approvals())+" VALUES ("+d.Text(sync)+", "+d.Text(kind)+", "+d.Text(fingerprint)+", "+d.Time(now)+")")
	if err != nil {
		return fmt.Errorf("storing the approval: %w", err)
	}
	return nil
}

// Approved lists what was granted to a sync, as kind=fingerprint.
func (l *Ledger) Approved(ctx context.Context, sync string) (map[string]bool, error) {
	d := l.W.Dialect()
	there, err := l.W.Exists(ctx, l.Names.Approvals())
	if err != nil || !there {
		return nil, err
	}
	rows, err := l.W.Query(ctx, "SELECT kind || '=' || fingerprint FROM "+d.Table(l.Names.Approvals())+" WHERE sync = "+d.Text(sync))
	if err != nil {
		return nil, fmt.Errorf("reading approvals: %w", err)
	}
	defer rows.Close()
	out := map[string]bool{}
	for rows.Next() {
		v, err := rows.Values()
		if err != nil {
			return nil, err
		}
		if s, ok := v[0].(string); ok {
			out[s] = true
		}
	}
	return out, rows.Err()
}
