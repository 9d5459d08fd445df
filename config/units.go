package config

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var durationPart = regexp.MustCompile(`^\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)`)

// unitOf is the length of a unit; 0 for a word that is none.
func unitOf(word string) time.Duration {
	switch strings.ToLower(word) {
	case "ms", "millisecond", "milliseconds":
		return time.Millisecond
	case "s", "sec", "secs", "second", "seconds":
		return time.Second
	case "m", "min", "mins", "minute", "minutes":
		return time.Minute
	case "h", "hour", "hours":
		return time.Hour
	case "d", "day", "days":
		return 24 * time.Hour
	case "w", "week", "weeks":
		return 7 * 24 * time.Hour
	}
	return 0
}

// ParseDuration reads 30s, 5m (minutes), 2h, 20d, "90 days", 1h30m. A day is 24 h; 0 needs no unit.
func ParseDuration(text string) (Duration, error) {
	rest := strings.TrimSpace(text)
	if rest == "0" {
		return Duration{}, nil
	}
	if rest == "" {
		return Duration{}, errors.New("a duration is a number with a unit, like 30s, 5m, 2h or 20d")
	}
	if _, err := strconv.ParseFloat(rest, 64); err == nil {
		return Duration{}, errors.New("the unit is missing: 30s, 30m (minutes), 30h or 30d")
	}
	total := 0.0
	for rest != "" {
		m := durationPart.FindStringSubmatch(rest)
		if m == nil {
			return Duration{}, errors.New("a duration is a number with a unit, like 30s, 5m, 2h or 20d")
		}
		n, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			return Duration{}, errors.New("the number is too large")
		}
		unit := unitOf(m[2])
		if unit == 0 {
			return Duration{}, unitError(m[2])
		}
		total += n * float64(unit)
		rest = strings.TrimSpace(rest[len(m[0]):])
	}
	if total >= math.MaxInt64 {
		return Duration{}, errors.New("a duration is at most 292 years")
	}
	return Duration{time.Duration(math.Round(total))}, nil
}

func unitError(word string) error {
	switch strings.ToLower(word) {
	case "month", "months", "mo":
		return errors.New("months differ in length: write days")
	case "y", "year", "years":
		return errors.New("years differ in length: write 365 days")
	}
	return fmt.Errorf("%s is no unit: s, m (minutes), h, d or w", word)
}

func decodeDuration(d *decoder, t *tree, key string) (Duration, bool) {
	r, ok := d.text(t, key, "a duration")
	if !ok || d.refs.blind && r.from {
		return Duration{}, false
	}
	out, err := ParseDuration(r.text)
	if err != nil {
		e := d.wants(t, key, "a duration")
		if !r.from {
			e.WithHint("%s", err.Error())
		}
		return Duration{}, false
	}
	return out, true
}

// ParsePercent reads 5% or 0.05, from 0 to 100 %. A bare 1 is refused, since it may mean either.
func ParsePercent(text string) (Percent, error) {
	number, percent := strings.CutSuffix(strings.TrimSpace(text), "%")
	number = strings.TrimSpace(number)
	if strings.Trim(number, "0123456789.") != "" {
		return 0, errors.New("a percentage is written like 5%")
	}
	f, err := strconv.ParseFloat(number, 64)
	switch {
	case err != nil:
		return 0, errors.New("a percentage is written like 5%")
	case percent:
		f /= 100
	case number == "1":
		return 0, errors.New("1% or 100%?")
	case f > 1:
		return 0, fmt.Errorf("did you mean %s%%?", number)
	}
	if f > 1 {
		return 0, errors.New("at most 100%")
	}
	return Percent(f), nil
}

func decodePercent(d *decoder, t *tree, key string) (Percent, bool) {
	r, ok := d.text(t, key, "a percentage")
	if !ok || d.refs.blind && r.from {
		return 0, false
	}
	out, err := ParsePercent(r.text)
	if err != nil {
		e := d.wants(t, key, "a percentage")
		if !r.from {
			e.WithHint("%s", err.Error())
		}
		return 0, false
	}
	return out, true
}
