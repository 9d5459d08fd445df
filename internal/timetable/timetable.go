// Package timetable says when a schedule is due: five cron fields, @hourly and its like, or @every 10m, in a time zone.
//
// Daylight saving: a schedule that names hours goes by the clock on the wall. A time that the clock leaps over is due at the leap,
// however many of a day's times it leaps over; a time that the clock shows twice is due the first time only. A schedule of every
// hour (the hour field is *) goes by elapsed time: it is due as often as hours pass.
package timetable

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

const (
	jitterShare = 10 // jitter is at most interval / jitterShare
	// jitterMost bounds it: who says six o'clock does not mean half past eight, though that is a tenth of a day.
	jitterMost = time.Minute
)

// Table is a parsed schedule. It is a pure value, safe for concurrent use.
type Table struct {
	spec  *cron.SpecSchedule // nil for @every
	every time.Duration
	wall  bool // goes by the clock on the wall
	loc   *time.Location
	text  string
}

// Parse reads an expression; zone "" is UTC.
func Parse(expression, zone string) (*Table, error) {
	loc, err := time.LoadLocation(zone)
	if err != nil {
		return nil, fmt.Errorf("there is no time zone %q", zone)
	}
	text := strings.TrimSpace(expression)
	if strings.HasPrefix(text, "TZ=") || strings.HasPrefix(text, "CRON_TZ=") {
		return nil, errors.New("the time zone stands in the key timezone")
	}
	parsed, err := cron.ParseStandard(text)
	if err != nil {
		return nil, err
	}
	switch s := parsed.(type) {
	case cron.ConstantDelaySchedule:
		return &Table{every: s.Delay, loc: loc, text: text}, nil
	case *cron.SpecSchedule:
		const hours = 1<<24 - 1
		t := &Table{spec: s, loc: loc, text: text, wall: s.Hour&hours != hours}
		if t.wall {
			s.Location = time.UTC // the wall's clock is counted as if it were UTC
		} else {
			s.Location = loc
		}
		if t.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
			return nil, fmt.Errorf("no day of the calendar is meant by it")
		}
		return t, nil
	}
	return nil, fmt.Errorf("%q is not a schedule", text)
}

// Next is the first time after t at which the schedule is due; always later than t. An @every schedule is due at multiples of its
// interval, so that a restart does not move it.
func (t *Table) Next(after time.Time) time.Time {
	switch {
	case t.every > 0:
		return after.Truncate(t.every).Add(t.every).UTC()
	case !t.wall:
		return t.spec.Next(after.In(t.loc)).UTC()
	}
	for wall := asUTC(after.In(t.loc)); ; {
		if wall = t.spec.Next(wall); wall.IsZero() {
			return wall
		}
		if at := t.instant(wall); at.After(after) {
			return at.UTC()
		}
	}
}

// asUTC is the same date and clock, read as UTC.
func asUTC(t time.Time) time.Time {
	y, m, d := t.Date()
	return time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// instant is when the clock on the wall shows a time: the first time where it does so twice, the leap where it never does.
func (t *Table) instant(wall time.Time) time.Time {
	_, before := wall.Add(-24 * time.Hour).In(t.loc).Zone()
	_, after := wall.Add(24 * time.Hour).In(t.loc).Zone()
	early := wall.Add(-time.Duration(max(before, after)) * time.Second)
	late := wall.Add(-time.Duration(min(before, after)) * time.Second)
	for _, at := range []time.Time{early, late} {
		if asUTC(at.In(t.loc)).Equal(wall) {
			return at
		}
	}
	_, leap := early.In(t.loc).ZoneBounds()
	return leap
}

// Last is the latest time at or before now at which the schedule was due, looked for after since; zero where there was none.
// It does not walk through a long past step by step.
func (t *Table) Last(since, now time.Time) time.Time {
	if t.every > 0 {
		if last := now.Truncate(t.every).UTC(); last.After(since) {
			return last
		}
		return time.Time{}
	}
	first := t.Next(since)
	if first.IsZero() || first.After(now) {
		return time.Time{}
	}
	// Halve the stretch until few steps are left in it.
	low, high := first, now
	for range 64 {
		if high.Sub(low) < time.Minute {
			break
		}
		middle := low.Add(high.Sub(low) / 2)
		if next := t.Next(middle); !next.IsZero() && !next.After(now) {
			low = next
		} else {
			high = middle
		}
	}
	for {
		next := t.Next(low)
		if next.IsZero() || next.After(now) {
			return low
		}
		low = next
	}
}

// Interval is the time between the dues that follow t.
func (t *Table) Interval(after time.Time) time.Duration {
	if t.every > 0 {
		return t.every
	}
	first := t.Next(after)
	return t.Next(first).Sub(first)
}

// Jitter is how much later than due a thing of this name starts: always the same for one name and interval, at most a tenth of
// the interval and at most a minute. It spreads what is due at the full hour.
func (t *Table) Jitter(name string, due time.Time) time.Duration {
	most := min(t.Interval(due)/jitterShare, jitterMost)
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	x := h.Sum64() // FNV's high bits are poor for short names
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return time.Duration(float64(most) * float64(x>>11) / (1 << 53))
}

// String is the expression.
func (t *Table) String() string { return t.text }
