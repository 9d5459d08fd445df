package schedule

import (
	"container/heap"
	"time"

	"github.com/dray-dev/dray/internal/timetable"
)

// Tick is a sync that became due.
type Tick struct {
	Sync string
	Due  time.Time // as the schedule says, without jitter
}

// entry is a sync on the agenda.
type entry struct {
	sync  string
	table *timetable.Table
	due   time.Time
	start time.Time // due and jitter
}

func (e *entry) set(due time.Time) {
	e.due, e.start = due, due.Add(e.table.Jitter(e.sync, due))
}

// agenda holds when each sync is due next. Not safe for concurrent use.
type agenda struct {
	heap entries
	of   map[string]*entry
}

// plan begins an agenda at a time: what was due between since and now is caught up, once for each sync. since gives the time up to
// which a sync's dues are done; zero for one that is new.
func plan(tables map[string]*timetable.Table, since func(sync string) time.Time, now time.Time) (*agenda, []Tick) {
	a := &agenda{of: map[string]*entry{}}
	var missed []Tick
	for name, table := range tables {
		e := &entry{sync: name, table: table}
		next := table.Next(now)
		if from := since(name); !from.IsZero() && from.Before(now) {
			switch last := table.Last(from, now); {
			case last.IsZero():
			case last.Add(table.Jitter(name, last)).After(now): // its jitter is not over yet
				next = last
			default:
				missed = append(missed, Tick{Sync: name, Due: last})
			}
		}
		if next.IsZero() {
			continue
		}
		e.set(next)
		a.heap = append(a.heap, e)
		a.of[name] = e
	}
	heap.Init(&a.heap)
	return a, missed
}

// next is when something is to start; zero where nothing ever is.
func (a *agenda) next() time.Time {
	if len(a.heap) == 0 {
		return time.Time{}
	}
	return a.heap[0].start
}

// due takes off what is to start by now. A sync whose time came several times (the machine slept) is due once.
func (a *agenda) due(now time.Time) []Tick {
	var out []Tick
	for len(a.heap) > 0 && !a.heap[0].start.After(now) {
		e := a.heap[0]
		due := e.due
		if last := e.table.Last(due, now); !last.IsZero() {
			due = last
		}
		out = append(out, Tick{Sync: e.sync, Due: due})
		next := e.table.Next(later(due, now))
		if next.IsZero() {
			delete(a.of, e.sync)
			heap.Pop(&a.heap)
			continue
		}
		e.set(next)
		heap.Fix(&a.heap, 0)
	}
	return out
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// comes tells whether a sync is due at or before a time, and has not started.
func (a *agenda) comes(sync string, by time.Time) bool {
	e := a.of[sync]
	return e != nil && !e.due.After(by)
}

type entries []*entry

func (h entries) Len() int           { return len(h) }
func (h entries) Less(i, j int) bool { return h[i].start.Before(h[j].start) }
func (h entries) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
}

func (h *entries) Push(x any) {
	if e, ok := x.(*entry); ok {
		*h = append(*h, e)
	}
}

func (h *entries) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}
