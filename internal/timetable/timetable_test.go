package timetable_test

import (
	"slices"
	"testing"
	"time"

	"github.com/dray-dev/dray/internal/timetable"
)

func TestDaylightSaving(t *testing.T) {
	t.Parallel()
	// Copenhagen: the clock leaps from 02:00 to 03:00 on 2026-03-29 (01:00 UTC), and goes back from 03:00 to 02:00 on 2026-10-25 (01:00 UTC).
	for name, tt := range map[string]struct {
		expression, zone, from, until string
		want                          []string // UTC
	}{
		"the hour is missing": {
			"30 2 * * *", "Europe/Copenhagen", "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z",
			[]string{"2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"},
		},
		"the hour comes twice": {
			"30 2 * * *", "Europe/Copenhagen", "2026-10-24T00:00:00Z", "2026-10-27T00:00:00Z",
			[]string{"2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		},
		"several times of the missing hour are one": {
			"*/15 2,3 * * *", "Europe/Copenhagen", "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z",
			[]string{"2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z", "2026-03-29T01:30:00Z", "2026-03-29T01:45:00Z"},
		},
		"every hour is due as often as hours pass": {
			"0 * * * *", "Europe/Copenhagen", "2026-10-24T23:30:00Z", "2026-10-25T03:30:00Z",
			[]string{"2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z"},
		},
		"every quarter while the hour is missing": {
			"*/15 * * * *", "Europe/Copenhagen", "2026-03-29T00:40:00Z", "2026-03-29T01:40:00Z",
			[]string{"2026-03-29T00:45:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z", "2026-03-29T01:30:00Z"},
		},
		"midnight is missing": {
			"0 0 * * *", "America/Sao_Paulo", "2018-11-03T00:00:00Z", "2018-11-06T00:00:00Z",
			[]string{"2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"},
		},
		"half an hour": {
			"15 2 * * *", "Australia/Lord_Howe", "2026-10-02T00:00:00Z", "2026-10-05T00:00:00Z",
			[]string{"2026-10-02T15:45:00Z", "2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"},
		},
		"utc": {"30 2 * * *", "", "2026-03-28T12:00:00Z", "2026-03-30T00:00:00Z", []string{"2026-03-29T02:30:00Z"}},
		"every": {
			"@every 2s", "Europe/Copenhagen", "2026-03-29T00:59:57Z", "2026-03-29T01:00:02Z",
			[]string{"2026-03-29T00:59:58Z", "2026-03-29T01:00:00Z", "2026-03-29T01:00:02Z"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table, err := timetable.Parse(tt.expression, tt.zone)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for at := table.Next(clock(t, tt.from)); !at.After(clock(t, tt.until)); at = table.Next(at) {
				got = append(got, at.Format(time.RFC3339))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("due at %v, want %v", got, tt.want)
			}
		})
	}
}

// Whatever second it is asked at, the next due time is the same: no second of the two nights makes it run twice or never.
func TestNextIsTheSameFromEverySecondBefore(t *testing.T) {
	t.Parallel()
	table, err := timetable.Parse("30 2 * * *", "Europe/Copenhagen")
	if err != nil {
		t.Fatal(err)
	}
	for _, day := range []string{"2026-03-29T00:00:00Z", "2026-10-25T00:00:00Z"} {
		dues := map[time.Time]bool{}
		for at := clock(t, day); at.Before(clock(t, day).Add(4 * time.Hour)); at = at.Add(time.Second) {
			next := table.Next(at)
			if !next.After(at) {
				t.Fatalf("after %s the next is %s", at, next)
			}
			if next.Before(clock(t, day).Add(4 * time.Hour)) {
				dues[next] = true
			}
		}
		if len(dues) != 1 {
			t.Errorf("on %s it is due %d times: %v", day, len(dues), dues)
		}
	}
}

func TestLast(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ expression, since, now, want string }{
		"hourly over a year": {"0 * * * *", "2025-01-01T00:00:00Z", "2026-01-01T00:30:00Z", "2026-01-01T00:00:00Z"},
		"every over a year":  {"@every 2s", "2025-01-01T00:00:00Z", "2026-01-01T00:00:01Z", "2026-01-01T00:00:00Z"},
		"yearly":             {"0 0 1 1 *", "2020-06-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-01-01T00:00:00Z"},
		"once":               {"30 2 * * *", "2026-01-01T02:30:00Z", "2026-01-02T12:00:00Z", "2026-01-02T02:30:00Z"},
		"at that second":     {"30 2 * * *", "2026-01-01T02:30:00Z", "2026-01-02T02:30:00Z", "2026-01-02T02:30:00Z"},
		"never":              {"30 2 * * *", "2026-01-01T02:30:00Z", "2026-01-02T02:00:00Z", "0001-01-01T00:00:00Z"},
		"never every":        {"@every 1h", "2026-01-01T02:00:00Z", "2026-01-01T02:59:00Z", "0001-01-01T00:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table, err := timetable.Parse(tt.expression, "")
			if err != nil {
				t.Fatal(err)
			}
			if got := table.Last(clock(t, tt.since), clock(t, tt.now)); !got.Equal(clock(t, tt.want)) {
				t.Errorf("last due at %s, want %s", got, tt.want)
			}
		})
	}
}

func TestJitterIsSpreadAndBounded(t *testing.T) {
	t.Parallel()
	for expression, most := range map[string]time.Duration{"@every 2s": 200 * time.Millisecond, "*/5 * * * *": 30 * time.Second, "@daily": time.Minute} {
		table, err := timetable.Parse(expression, "")
		if err != nil {
			t.Fatal(err)
		}
		var tenths [10]int
		for i := range 1000 {
			name := "sync_" + string(rune('a'+i%26)) + time.Duration(i).String()
			due := clock(t, "2026-01-01T00:00:00Z")
			got := table.Jitter(name, due)
			if got < 0 || got >= most || got != table.Jitter(name, due.Add(table.Interval(due))) {
				t.Fatalf("%s: jitter of %s is %s", expression, name, got)
			}
			tenths[int(10*got/most)]++
		}
		for i, n := range tenths {
			if n < 50 || n > 150 {
				t.Errorf("%s: %d of 1000 names in tenth %d", expression, n, i)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, expression := range []string{"", "* * *", "0 0 31 2 *", "TZ=UTC 0 0 * * *", "@sometimes", "61 * * * *"} {
		if table, err := timetable.Parse(expression, ""); err == nil {
			t.Errorf("%q was taken: %v", expression, table)
		}
	}
	if _, err := timetable.Parse("@daily", "Europe/Atlantis"); err == nil {
		t.Error("a zone that does not exist was taken")
	}
}

func clock(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}
