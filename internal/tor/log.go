package tor

import (
	"strconv"
	"strings"
)

// maxLogLine bounds a line of Tor's log, in bytes; longer ones are passed over.
const maxLogLine = 2048

// maxShown bounds what of a line is shown to people.
const maxShown = 200

// Progress is how far Tor is on its way into its network.
type Progress struct {
	Percent int    // 0 to 100; at 100 it can be used
	Tag     string // what is being done, as Tor's control-spec.txt names it: ap_conn
	Summary string // the same for people
}

// record is one line of Tor's log: "Nov 23 14:07:00.000 [notice] text".
type record struct {
	severity string // debug, info, notice, warn or err
	text     string
}

// parseRecord takes a line apart; ok is false for what is none of Tor's.
func parseRecord(line string) (r record, ok bool) {
	const stamp = "Nov 23 14:07:00.000 "
	if len(line) <= len(stamp) || line[len(stamp)] != '[' {
		return r, false
	}
	for i, want := range []byte(stamp) { // letters for letters, digits (or a blank) for digits
		got := line[i]
		switch {
		case want >= '0' && want <= '9':
			ok = got >= '0' && got <= '9' || got == ' '
		case want >= 'A' && want <= 'Z' || want >= 'a' && want <= 'z':
			ok = got >= 'A' && got <= 'Z' || got >= 'a' && got <= 'z'
		default:
			ok = got == want
		}
		if !ok {
			return r, false
		}
	}
	severity, text, found := strings.Cut(line[len(stamp)+1:], "] ")
	switch severity {
	case "debug", "info", "notice", "warn", "err":
		return record{severity, text}, found
	}
	return r, false
}

// parseProgress reads "Bootstrapped 85% (ap_conn): Connecting to a relay".
func parseProgress(text string) (p Progress, ok bool) {
	rest, ok := strings.CutPrefix(text, "Bootstrapped ")
	if !ok {
		return p, false
	}
	number, rest, ok := strings.Cut(rest, "% (")
	if !ok {
		return p, false
	}
	tag, summary, ok := strings.Cut(rest, "): ")
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 0 || n > 100 || strconv.Itoa(n) != number || !isTag(tag) {
		return p, false
	}
	return Progress{Percent: n, Tag: tag, Summary: Show(summary)}, true
}

func isTag(s string) bool {
	return s != "" && len(s) <= 40 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == ""
}

// isClock reports whether Tor says in this line that a clock is wrong: ours, or all
// those of others.
func (r record) isClock() bool {
	if r.severity != "warn" && r.severity != "err" {
		return false
	}
	text := strings.ToLower(r.text)
	return strings.Contains(text, "clock skew") || strings.Contains(text, "clock_skew") ||
		strings.Contains(text, "our clock is ") && (strings.Contains(text, "behind") || strings.Contains(text, "ahead"))
}

// problem is the reason in "Problem bootstrapping. Stuck at 5% (conn): Connecting
// to a relay. (Connection refused; CONNECTREFUSED; count 3; …)". What follows it may
// name a bridge.
func (r record) problem() (reason string, ok bool) {
	rest, ok := strings.CutPrefix(r.text, "Problem bootstrapping. Stuck at ")
	if !ok {
		return "", false
	}
	_, rest, ok = strings.Cut(rest, ". (")
	if !ok {
		return "", false
	}
	reason, _, ok = strings.Cut(rest, ";")
	return Show(reason), ok
}

// Show makes what a stranger may have written fit for a line on a screen: printable
// ASCII, at most 200 characters.
func Show(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), maxShown)])
	return strings.TrimSpace(s)
}

// isRefusal reports whether Tor says in this line that it does not take its
// configuration.
func isRefusal(text string) bool {
	return strings.HasPrefix(text, "Failed to parse/validate config") || strings.HasPrefix(text, "Reading config failed")
}
