package ceremony

import (
	"errors"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

func TestParseMoment(t *testing.T) {
	for in, want := range map[string]time.Time{
		"90d": now.Add(90 * day), "2w": now.Add(14 * day), "36h": now.Add(36 * time.Hour), "1h30m": now.Add(90 * time.Minute),
		"2027-03-01":                time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC),
		"2027-03-01T12:00:00Z":      time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC),
		"2027-03-01T12:00:00+02:00": time.Date(2027, 3, 1, 10, 0, 0, 0, time.UTC),
	} {
		if got, err := parseMoment(in, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "d", "-1d", "1.5d", "99999d", "90", "tomorrow", "2027-13-01", "-1h", "1y", "+1d"} {
		if got, err := parseMoment(in, now); err == nil {
			t.Errorf("%q: %v", in, got)
		}
	}
}

func TestExpiry(t *testing.T) {
	for in, want := range map[string]bool{"3d": true, "14d": true, "2d": false, "15d": false, "0h": false, "2020-01-01": false, "x": false} {
		_, err := expiry(in, now, "pointer", minPointerLife, maxPointerLife)
		if (err == nil) != want {
			t.Errorf("%s: %v", in, err)
		}
		if err != nil && !errors.As(err, new(UsageError)) {
			t.Errorf("%s: not a usage error: %v", in, err)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 seconds", time.Second: "1 second", 90 * time.Second: "90 seconds", 2 * time.Minute: "2 minutes",
		time.Hour: "60 minutes", 2 * time.Hour: "2 hours", 47 * time.Hour: "47 hours",
		7*day - time.Second: "7 days", 7*day + time.Hour: "7 days", 365 * day: "365 days",
	} {
		if got := span(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
	if got := until(now.Add(-3*time.Hour), now) + ", " + until(now.Add(3*day), now); got != "3 hours ago, in 3 days" {
		t.Error(got)
	}
}
