package run

import (
	"context"
	"errors"
	"fmt"

	"github.com/dray-dev/dray/models/compile"
	"github.com/dray-dev/dray/sync/ledger"
)

// Upgraded is one sync whose tables were brought up to date.
type Upgraded struct {
	Sync string `json:"sync"`
	From int64  `json:"from"`
	To   int64  `json:"to"`
}

// Upgrade brings Dray's own tables up to this version, each sync's under its lock and in one transaction, also of syncs that are not in
// the project any more. Nothing is sent. It may be repeated, and goes on where it was interrupted; where nothing is older it does
// nothing.
func (s *Session) Upgrade(ctx context.Context) ([]Upgraded, error) {
	out := []Upgraded{}
	all, err := s.ledger.All(ctx)
	if err != nil {
		return out, err
	}
	for _, m := range all {
		if m.Current() == nil {
			continue
		}
		if err := s.upgrade(ctx, m.Sync); err != nil {
			return out, fmt.Errorf("upgrading the tables of %s: %w", m.Sync, err)
		}
		out = append(out, Upgraded{Sync: m.Sync, From: m.Version, To: ledger.SchemaVersion})
	}
	if len(out) == 0 {
		return out, nil
	}
	return out, s.ledger.UpgradeShared(ctx)
}

// Upgrade is the upgrade of a session of its own: what `dray serve` does before the first run. The warehouse is open only meanwhile.
func (h *Host) Upgrade(ctx context.Context, p *Prepared, deps Deps, o Options) ([]Upgraded, error) {
	deps.Host = h
	s, err := OpenPrepared(ctx, p, deps, o)
	if err != nil {
		return nil, err
	}
	done, err := s.Upgrade(ctx)
	return done, errors.Join(err, s.Close())
}

func (s *Session) upgrade(ctx context.Context, name string) error {
	r := s.begin(&compile.Sync{Name: name}, RunOptions{})
	if err := r.lock(ctx); err != nil {
		return err
	}
	m, err := s.ledger.Read(ctx, name)
	if err != nil {
		return r.done(ctx, err)
	}
	return r.done(ctx, s.ledger.Upgrade(ctx, m))
}
