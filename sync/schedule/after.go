package schedule

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/models/graph"
	"github.com/dray-dev/dray/sync/report"
	"github.com/dray-dev/dray/sync/run"
)

// Ended tells the scheduler of a run that ended in this process, by whatever command.
func (s *Scheduler) Ended(r report.Run) {
	if r.Status == report.Locked {
		return
	}
	s.mu.Lock()
	e := s.known[r.Sync]
	e.add(r.Status, r.StartedAt, r.FinishedAt)
	s.known[r.Sync] = e
	related := len(s.project.Graph.Children(graph.MakeID(graph.Sync, r.Sync))) > 0
	s.mu.Unlock()
	if !related {
		return
	}
	select {
	case s.ends <- r.Sync:
	default: // a look around finds it
	}
}

// add counts one run.
func (e *ends) add(status report.Status, began, ended time.Time) {
	if began.After(e.began) {
		e.began, e.status = began, status
	}
	switch status {
	case report.Succeeded:
		e.clean = later(e.clean, ended)
		e.succeeded = later(e.succeeded, ended)
	case report.Partial:
		e.succeeded = later(e.succeeded, ended)
	}
	e.finished = later(e.finished, ended)
}

// when is the last time a sync's runs ended as asked.
func (e ends) when(word string) time.Time {
	switch word {
	case "clean":
		return e.clean
	case "finished":
		return e.finished
	default:
		return e.succeeded
	}
}

// ended tells whether the last run ended as asked.
func (e ends) ended(word string) bool { return !e.began.IsZero() && e.status.Enough(word) }

// remember reads the ends of runs that other syncs wait for, of all processes.
func (s *Scheduler) remember(ctx context.Context) error {
	p := s.Project()
	var related []string
	for _, c := range p.Project.Syncs {
		if len(c.After) > 0 {
			related = append(related, c.Name)
			for _, a := range c.After {
				related = append(related, a.Sync)
			}
		}
	}
	if len(related) == 0 {
		return nil
	}
	all, err := s.o.State.Ends(ctx, s.place.schema, related)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for sync, list := range all {
		e := s.known[sync]
		for _, l := range list {
			if status := report.Status(l.Status); status != report.Locked && status != "" {
				e.add(status, l.StartedAt, l.EndedAt)
			}
		}
		s.known[sync] = e
	}
	return nil
}

// followers are the syncs without a schedule all of whose parents have ended as asked since their own last run; of those after
// one of the ended syncs, or of all where ended is nil.
func (s *Scheduler) followers(p *run.Prepared, ended map[string]bool) []Tick {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Tick
	now := s.o.Now()
	for _, c := range p.Project.Syncs {
		if len(c.After) == 0 || c.Schedule != "" || !runs(p, c) {
			continue
		}
		if ended != nil && !slices.ContainsFunc(c.After, func(a config.After) bool { return ended[a.Sync] }) {
			continue
		}
		since := s.known[c.Name].began
		if !slices.ContainsFunc(c.After, func(a config.After) bool { return !s.known[a.Sync].when(a.When).After(since) }) {
			out = append(out, Tick{Sync: c.Name, Due: now})
		}
	}
	return out
}

// ready tells whether a sync with a schedule may start: whether it waits for one before it, or why it is left out. One without a
// schedule was started by the end of those before it.
func (s *Scheduler) ready(ctx context.Context, p *run.Prepared, c *config.Sync, due time.Time) (wait bool, why string, err error) {
	if c.Schedule == "" || len(c.After) == 0 {
		return false, "", nil
	}
	busy := s.o.Busy(s.place.schema)
	for _, a := range c.After {
		s.mu.Lock()
		ran := !s.known[a.Sync].began.Before(due) // one that is due more often than it can wait for must not keep it for ever
		comes := s.agenda.comes(a.Sync, due)      // with a longer jitter
		s.mu.Unlock()
		if ran {
			continue
		}
		if slices.Contains(busy, a.Sync) {
			return true, "", nil
		}
		if comes {
			return true, "", nil
		}
		if pending, err := s.queue.pending(ctx, a.Sync); err != nil || pending {
			return pending, "", err
		}
	}
	if err := s.remember(ctx); err != nil {
		return false, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range c.After {
		if e := s.known[a.Sync]; !e.began.IsZero() && !e.ended(a.When) {
			return false, fmt.Sprintf("%s, which comes before it, %s", a.Sync, e.status.Words()), nil
		}
	}
	return false, "", nil
}
