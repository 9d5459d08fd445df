package run

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/internal/diag"
	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/ledger"
)

func syncID(name string) graph.ID { return graph.ID("sync." + name) }

// bind connects to the destination and compares what the snapshot is about with what the project says now: project, target,
// account, object, container, host, key and mode. Any difference stops the sync before anything is sent (DESIGN §4).
func (r *one) bind(ctx context.Context) error {
	if err := r.connectAndDescribe(ctx); err != nil {
		return err
	}
	m, err := r.standingNow(ctx)
	if err != nil {
		return err
	}
	known, err := r.State.Known(ctx, r.Project.Schema, r.sync.Name)
	if err != nil {
		return err
	}
	there, err := r.Warehouse.Exists(ctx, r.ledger.Names.Snapshot(r.sync.Name))
	if err != nil {
		return err
	}
	if m.Exists && there {
		if err := r.compare(ctx, m); err != nil {
			return err
		}
	}
	r.meta = m
	r.bound.Generation, r.bound.Revision = max(m.Generation, 1), m.Revision
	r.bound.KeySalt = m.KeySalt
	// A snapshot that is missing, or older than what this state saw, is never taken for a first run. One that was reset is missed by
	// nobody: its meta row says so by having no hash version.
	missing := (known.Exists && !m.Exists) || (m.Exists && m.HashVersion != "" && !there)
	older := known.Exists && m.Exists && (m.Generation < known.Generation || (m.Generation == known.Generation && m.Revision < known.Revision))
	if !missing && !older {
		return nil
	}
	if r.sync.Mode == destination.Insert {
		return diag.Errorf(diag.Stopped, "binding.snapshot", "%s: the record of what was sent is %s; sending again would insert twice; nothing was sent",
			r.sync.Name, map[bool]string{true: "missing", false: "older than this control state knows"}[missing]).
			WithHint("restore the warehouse's schema %s, or take today's rows as sent: dray adopt %s, or begin anew: dray reset %[2]s", r.Project.Schema, r.sync.Name)
	}
	r.bound.Generation = max(r.bound.Generation, known.Generation)
	r.bound.Revision = max(r.bound.Revision, known.Revision)
	r.meta.AllUncertain = true
	r.log.Warn("the snapshot is missing or older than this state knows: every row counts as uncertain", "sync", r.sync.Name)
	return nil
}

// standingNow is the sync's meta row, as it was found under the lock or read again where it may have changed since.
func (r *one) standingNow(ctx context.Context) (ledger.Meta, error) {
	if m := r.found; m != nil {
		r.found = nil
		return *m, nil
	}
	return r.ledger.Read(ctx, r.sync.Name)
}

// connectAndDescribe opens the destination and fills bound with what the snapshot ought to be about.
func (r *one) connectAndDescribe(ctx context.Context) error {
	c, err := r.connect(ctx, r.sync.Destination)
	if err != nil {
		return err
	}
	r.conn = c
	bound, options, err := r.Session.bound(ctx, r.sync, c)
	r.bound, r.options = bound, options
	return err
}

// bound asks the destination for account and container.
func (s *Session) bound(ctx context.Context, c *compile.Sync, conn *connection) (ledger.Meta, destination.Config, error) {
	var m ledger.Meta
	account, err := conn.check(ctx)
	if err != nil {
		return m, nil, destinationError(c.Destination.Name, err)
	}
	options, problems := graph.ObjectOptions(c.Config, c.Object)
	if err := problems.Err(); err != nil {
		return m, nil, err
	}
	m = ledger.Meta{
		Sync: c.Name, Project: s.Project.Name, Target: s.Project.TargetName, Destination: c.Destination.Name, DestinationType: c.Spec.Type,
		AccountID: account.ID, Object: c.Object.Name, BaseURL: withoutSecrets(conn.baseURL), Mapping: mapping(c), Generation: 1,
	}
	if containers, ok := conn.dest.(destination.Containers); ok && len(c.Object.Container) > 0 {
		if m.Container, err = containers.Container(ctx, c.Object.Name, options); err != nil {
			return m, nil, destinationError(c.Destination.Name, err)
		}
	}
	return m, options, nil
}

func withoutSecrets(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// mapping is the fingerprint of what must not change silently: key, object, options and mode. Fields may come and go.
func mapping(c *compile.Sync) string {
	type column struct{ Name, Column string }
	var keys [][]column
	for _, alternative := range c.Config.Key {
		var cols []column
		for _, k := range alternative.Columns {
			cols = append(cols, column{k.Name, k.Column})
		}
		keys = append(keys, cols)
	}
	b, _ := json.Marshal([]any{keys, c.Object.Name, fmt.Sprint(c.Config.Options), c.Mode, c.EventID})
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}

// compare stops at any difference between what the snapshot is about and what the project says.
func (r *one) compare(ctx context.Context, have ledger.Meta) error {
	want := r.bound
	var differences []string
	add := func(what, was, is string) {
		if was != is {
			differences = append(differences, fmt.Sprintf("%s was %s and is %s", what, orNone(was), orNone(is)))
		}
	}
	add("the project", have.Project, want.Project)
	add("the target", have.Target, want.Target)
	add("the destination's type", have.DestinationType, want.DestinationType)
	add("the account", have.AccountID, want.AccountID)
	add("base_url", have.BaseURL, want.BaseURL)
	elsewhere := len(differences) > 0
	add("the object", have.Object, want.Object)
	add("the list", have.Container, want.Container)
	if elsewhere {
		return diag.Errorf(diag.Stopped, "binding.changed", "%s: the snapshot is about another place: %s; nothing was sent", r.sync.Name, strings.Join(differences, ", ")).
			WithHint("if the records were carried over: dray move %s; if the rows are there already: dray adopt %[1]s; to begin anew: dray reset %[1]s", r.sync.Name)
	}
	if r.retiring {
		if len(differences) > 0 {
			return diag.Errorf(diag.Stopped, "binding.changed", "%s: the snapshot is about another place: %s; nothing was sent", r.sync.Name, strings.Join(differences, ", "))
		}
		r.bound.Mapping = have.Mapping
		return nil
	}
	if len(differences) == 0 && (have.Mapping == want.Mapping || have.Mapping == "") {
		return nil
	}
	approved, err := r.ledger.Approved(ctx, r.sync.Name)
	if err != nil {
		return err
	}
	if approved["mapping="+want.Mapping] {
		if len(differences) > 0 || renamed(r.sync, have) {
			return errRelocate
		}
		r.used = append(r.used, "mapping="+want.Mapping)
		return nil
	}
	r.report.Allow = "mapping=" + want.Mapping
	if len(differences) > 0 {
		return diag.Errorf(diag.Stopped, "binding.changed", "%s: the snapshot is about another place: %s; nothing was sent", r.sync.Name, strings.Join(differences, ", ")).
			WithHint("if the records were carried over: dray move %s; if the rows are there already: dray adopt %[1]s; to begin anew: dray reset %[1]s; to begin anew there%[2]s: dray run %[1]s --allow mapping=%[3]s",
				r.sync.Name, r.leavesBehind(), want.Mapping)
	}
	if renamed(r.sync, have) {
		return diag.Errorf(diag.Stopped, "binding.mapping", "%s: the key or what the mode keeps of it changed since the last run; nothing was sent", r.sync.Name).
			WithHint("to begin anew under the new key%s: dray run %s --allow mapping=%s; if the rows are there already: dray adopt %[2]s", r.leavesBehind(), r.sync.Name, want.Mapping)
	}
	return diag.Errorf(diag.Stopped, "binding.mapping", "%s: key, object, options or mode changed since the last run; nothing was sent", r.sync.Name).
		WithHint("look at dray plan %s, then once: dray run %[1]s --allow mapping=%s", r.sync.Name, want.Mapping)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return fmt.Sprintf("%q", s)
}

// destinationError makes a connector's failure one that a person can act on.
func destinationError(name string, err error) error {
	var known *diag.Error
	if errors.As(err, &known) {
		return err
	}
	var de *destination.Error
	if errors.As(err, &de) {
		e := diag.Errorf(diag.Failed, "destination."+de.Class.String(), "destination %s: %s", name, de.Error())
		e.Hint = de.Hint
		if e.Hint == "" {
			e.Hint = "dray check " + name + " tells more"
		}
		return e
	}
	return &diag.Error{Kind: diag.Failed, Code: "destination.failed", Msg: "destination " + name, Err: err}
}

func kindOfSQL(err error) diag.Kind {
	var q *warehouse.QueryError
	if errors.As(err, &q) && !errors.Is(err, warehouse.ErrLocked) && !errors.Is(err, warehouse.ErrReadOnly) &&
		!errors.Is(err, warehouse.ErrEngine) && !errors.Is(err, warehouse.ErrDenied) {
		return diag.Invalid
	}
	return diag.Failed
}
