package tor

import (
	"strings"
	"testing"
)

const stamp = "Nov 23 14:46:10.000 "

func TestParseProgress(t *testing.T) {
	for line, want := range map[string]Progress{
		stamp + "[notice] Bootstrapped 0% (starting): Starting":                                              {0, "starting", "Starting"},
		stamp + "[notice] Bootstrapped 85% (ap_conn): Connecting to a relay to build circuits":               {85, "ap_conn", "Connecting to a relay to build circuits"},
		stamp + "[notice] Bootstrapped 100% (done): Done":                                                    {100, "done", "Done"},
		"Jan  2 04:06:10.000 [notice] Bootstrapped 5% (conn): C\x1b[2Jx":                                     {5, "conn", "C?[2Jx"},
		stamp + "[notice] Bootstrapped 75% (enough_dirinfo): Loaded enough directory info to build circuits": {75, "enough_dirinfo", "Loaded enough directory info to build circuits"},
		stamp + "[notice] Bootstrapped 50% (loading_descriptors): " + strings.Repeat("x", 300):               {50, "loading_descriptors", strings.Repeat("x", 200)},
	} {
		r, ok := parseRecord(line)
		if !ok || r.severity != "notice" {
			t.Errorf("%q is no line of Tor's", line)
			continue
		}
		if got, ok := parseProgress(r.text); !ok || got != want {
			t.Errorf("%q: %+v, %t", line, got, ok)
		}
	}
	for _, text := range []string{
		"", "Bootstrapped", "Bootstrapped 101% (done): Done", "Bootstrapped -1% (done): Done", "Bootstrapped 05% (conn): x", "Bootstrapped +5% (conn): x",
		"Bootstrapped 5% (CONN): x", "Bootstrapped 5% (): x", "Bootstrapped 5% (conn) x", "Bootstrapped 5%: x", " Bootstrapped 5% (conn): x",
		"Bootstrapped 99999999999999999999% (done): Done", "Bootstrapped 5% (" + strings.Repeat("a", 41) + "): x", "He said: Bootstrapped 100% (done): Done",
	} {
		if p, ok := parseProgress(text); ok {
			t.Errorf("%q: %+v", text, p)
		}
	}
}

func TestParseRecordRefuses(t *testing.T) {
	for _, line := range []string{
		"", "[notice] Bootstrapped 100% (done): Done", stamp, stamp + "[notice]", stamp + "[loud] x", stamp + "notice] x",
		"Nov 23 14:46:10,000 [notice] x", "23 Nov 14:46:10.000 [notice] x", "Nov 23 14:46:1x.000 [notice] x", "2026 23 14:46:10.000 [notice] x",
	} {
		if r, ok := parseRecord(line); ok {
			t.Errorf("%q: %+v", line, r)
		}
	}
}

func TestClock(t *testing.T) {
	for text, want := range map[string]bool{
		"Our clock is 3 days, 2 hours, 5 minutes behind the time published in the consensus network status document (2026-11-23 14:00:00 UTC).  Tor needs an accurate clock to work correctly. Please check your time and date settings!":                    true,
		"Received NETINFO cell with skewed time (OR:192.0.2.1:9001): It seems that our clock is behind by 1 days, 0 hours, 1 minutes, or that theirs is ahead. Tor requires an accurate clock to work: please check your time, timezone, and date settings.": true,
		"Problem bootstrapping. Stuck at 14% (handshake): Handshaking with a relay. (Clock skew -7200 in NETINFO cell from OR; CLOCK_SKEW; count 1; recommendation warn; host 0 at 192.0.2.1:9001)":                                                          true,
		"Your application is giving Tor only an IP address": false, "Our clock is fine": false,
	} {
		if got := (record{"warn", text}).isClock(); got != want {
			t.Errorf("%.60q: %t", text, got)
		}
		if (record{"notice", text}).isClock() {
			t.Errorf("%.60q counts as a notice", text)
		}
	}
}

func TestProblem(t *testing.T) {
	const text = "Problem bootstrapping. Stuck at 5% (conn): Connecting to a relay. (Connection refused; CONNECTREFUSED; count 3; recommendation warn; host AAAA at 192.0.2.1:443)"
	if got, ok := (record{"warn", text}).problem(); !ok || got != "Connection refused" {
		t.Errorf("%q, %t", got, ok)
	}
	for _, text := range []string{"", "Problem bootstrapping. Stuck at", "Problem bootstrapping. Stuck at 5% (conn): x", "Problem bootstrapping. Stuck at 5%. (x"} {
		if got, ok := (record{"warn", text}).problem(); ok {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, seed := range []string{
		stamp + "[notice] Bootstrapped 85% (ap_conn): Connecting to a relay", stamp + "[warn] Problem bootstrapping. Stuck at 5% (conn): x. (Connection refused; y)",
		stamp + "[err] Reading config failed--see warnings above.", stamp + "[warn] Our clock is 1 hours behind",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		var events []Event
		c := New(Config{Dir: "/x", Report: func(e Event) { events = append(events, e) }})
		(&story{client: c}).take(line)
		for _, e := range events {
			shown := e.Text + e.Progress.Summary + e.Progress.Tag
			if len(e.Text) > maxShown || len(e.Progress.Summary) > maxShown || e.Progress.Percent < 0 || e.Progress.Percent > 100 {
				t.Errorf("%+v", e)
			}
			if strings.ContainsFunc(shown, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%q is shown", shown)
			}
		}
	})
}
