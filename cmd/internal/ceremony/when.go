package ceremony

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// Lives of documents: what is proposed, and the longest that is made. Those of
// manifest and pointer are the verifier's caps as well.
const (
	rootLife, maxRootLife          = 365 * day, 731 * day
	maxManifestLife                = 180 * day
	minPointerLife, maxPointerLife = 3 * day, 14 * day
)

// parseSpan reads a time to come: 90d, 12w, or what time.ParseDuration takes.
func parseSpan(s string) (time.Duration, error) {
	for unit, length := range map[string]time.Duration{"d": day, "w": 7 * day} {
		if digits, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseUint(digits, 10, 16)
			if err != nil {
				break
			}
			return time.Duration(n) * length, nil
		}
	}
	span, err := time.ParseDuration(s)
	if err != nil || span < 0 {
		return 0, fmt.Errorf("%q is no time span: use for instance 90d, 12w or 36h", s)
	}
	return span, nil
}

// parseMoment reads a point in time: a date, RFC 3339, or a span from now.
func parseMoment(s string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, s); err == nil {
			return at.UTC().Truncate(time.Second), nil
		}
	}
	span, err := parseSpan(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time: use for instance 90d, 2027-03-01 or 2027-03-01T12:00:00Z", s)
	}
	return now.Add(span), nil
}

// expiry reads --expires and holds it to the limits of a kind of document.
func expiry(s string, now time.Time, kind string, least, most time.Duration) (time.Time, error) {
	at, err := parseMoment(s, now)
	if err != nil {
		return at, usage("--expires: %w", err)
	}
	switch life := at.Sub(now); {
	case life <= 0:
		return at, usage("--expires %s: %s is over already", s, moment(at))
	case life < least:
		return at, usage("--expires %s: a %s lives at least %s", s, kind, span(least))
	case life > most:
		return at, usage("--expires %s: a %s lives at most %s", s, kind, span(most))
	}
	return at, nil
}

// moment shows a time to people.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// span shows a duration in the unit in which people think of it, rounded.
func span(d time.Duration) string {
	for _, unit := range []struct {
		least, length time.Duration
		name          string
	}{{2 * day, day, "day"}, {2 * time.Hour, time.Hour, "hour"}, {2 * time.Minute, time.Minute, "minute"}} {
		if d >= unit.least {
			return plural(int64((d+unit.length/2)/unit.length), unit.name)
		}
	}
	return plural(int64(d/time.Second), "second")
}

// until is "in 89 days" or "3 hours ago".
func until(at, now time.Time) string {
	if at.After(now) {
		return "in " + span(at.Sub(now))
	}
	return span(now.Sub(at)) + " ago"
}

func plural(n int64, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}
