package term

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the golden files anew")

const hash = "sha256:4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a"

type fakeClock struct{ now time.Duration }

func (c *fakeClock) advance(d time.Duration) { c.now += d }

// walk writes one boot with everything in it.
func walk(c *Console, clock *fakeClock) {
	c.Header("Phase Boot 0.1.0", "internet mode · channel stable · x86_64")
	s := c.Step("network")
	clock.advance(1200 * time.Millisecond)
	s.Done("eth0 10.0.2.15/24, gateway 10.0.2.2")
	s = c.Step("discovery")
	c.Line("the first candidate was refused: expired")
	clock.advance(300 * time.Millisecond)
	s.Done("pointer from dht 12D3KooWQHHDQ9oGgFbhd7CEmW4rHQnUDkZSeb4NvYBiL3q8sw2m after 3 peers")
	s = c.Step("fetch")
	p := c.Progress("kernel", 14_186_432)
	for done := int64(0); done <= 14_186_432; done += 14_186_432 / 4 {
		clock.advance(250 * time.Millisecond)
		p.Set(done)
	}
	p.Set(14_186_432)
	p.End()
	s.Done("")
	s = c.Step("verification of all")
	s.Fail("Artifact kernel hash mismatch (expected " + hash + ")")
	s.Done("never seen")
}

func failure(c *Console) {
	c.Failure(Failure{
		Title: "The boot stopped: no provider gave a kernel that matches its signature",
		Code:  "FETCH-003",
		Wrong: "Artifact kernel hash mismatch (expected " + hash + "). What arrived was not what the publisher signed, and none of it was run.",
		Tried: []string{
			"http://10.0.2.2:8080/blobs/4b/4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a.bin: hash mismatch",
			"http://mirror.example.org/a/rather/long/path/to/the/stable/x86_64/kernel?session=1234567890&region=europe: 404",
			"evil \x1b[2J\x1b[31mname\r\nFATAL: forged line \u202eesrever",
		},
		Do: []string{"Press r to try again.", "Press u to type the address of another provider: http://host:port"},
	})
}

func tables(c *Console) {
	c.Title("Node ready")
	c.Pairs([]Pair{
		{"node", "12D3KooWQHHDQ9oGgFbhd7CEmW4rHQnUDkZSeb4NvYBiL3q8sw2m"},
		{"booted", "version 3, " + hash},
		{"signed by", ""},
	})
	c.Title("Timeline")
	c.Timeline([]Row{
		{Name: "firmware", Group: "machine", Start: 0, Took: 2100 * time.Millisecond},
		{Name: "loader", Group: "machine", Start: 2100 * time.Millisecond, Took: 1000 * time.Millisecond},
		{Name: "network", Group: "seed", Start: 4 * time.Second, Took: 900 * time.Millisecond},
		{Name: "discovery", Group: "seed", Start: 4900 * time.Millisecond, Took: 10 * time.Millisecond},
		{Name: "a stage with a much too long name", Group: "node", Start: 9 * time.Second, Took: 5 * time.Second, Note: "failed"},
	})
}

func TestGolden(t *testing.T) {
	tests := map[string]Config{
		"serial":     {},
		"ascii":      {ASCII: true},
		"live-color": {Live: true, Color: true},
		"narrow":     {Width: 64, ASCII: true},
	}
	for name, cfg := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			clock := &fakeClock{now: 2 * time.Second}
			cfg.Out, cfg.Now = &out, func() time.Duration { return clock.now }
			c := New(cfg)
			walk(c, clock)
			failure(c)
			tables(c)
			golden(t, name, out.Bytes())
			checkWidth(t, out.String(), c.cfg)
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("output differs from %s:\n%s", path, got)
	}
}

// checkWidth looks at every line as it stands after carriage returns.
func checkWidth(t *testing.T, out string, cfg Config) {
	t.Helper()
	for _, c := range []color{bold, dim, red, green, reset} {
		out = strings.ReplaceAll(out, string(c), "")
	}
	for _, line := range strings.FieldsFunc(out, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if n := utf8.RuneCountInString(line); n > cfg.Width {
			t.Errorf("%d columns, over %d: %q", n, cfg.Width, line)
		}
		if strings.ContainsRune(line, '\x1b') {
			t.Errorf("a foreign escape sequence passed: %q", line)
		}
		if cfg.ASCII && strings.IndexFunc(line, func(r rune) bool { return r > 126 }) >= 0 {
			t.Errorf("not ASCII: %q", line)
		}
	}
}

func TestHashStaysWhole(t *testing.T) {
	var out bytes.Buffer
	failure(New(Config{Out: &out, Now: func() time.Duration { return 0 }}))
	for _, whole := range []string{hash, "4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a.bin"} {
		if !strings.Contains(out.String(), whole) {
			t.Errorf("%s was cut:\n%s", whole, out.String())
		}
	}
}

func TestProgressPlain(t *testing.T) {
	var out bytes.Buffer
	c := New(Config{Out: &out, Now: func() time.Duration { return time.Second }})
	p := c.Progress("rootfs", 1000)
	for i := int64(-5); i < 2000; i++ {
		p.Set(i)
	}
	p.Set(3) // another source starts anew
	p.End()
	p.Set(500)
	if n := strings.Count(out.String(), "\n"); n != 10 {
		t.Errorf("%d lines, want one for each ten percent:\n%s", n, out.String())
	}
	out.Reset()
	c.Progress("unknown", 0).Set(5000)
	if out.Len() != 0 {
		t.Errorf("no total, no percent, but %q", out.String())
	}
}

func TestProgressLiveUnknownTotal(t *testing.T) {
	var out bytes.Buffer
	p := New(Config{Out: &out, Now: func() time.Duration { return time.Second }, Live: true}).Progress("x", 0)
	p.Set(5000)
	p.End()
	if !strings.Contains(out.String(), "5.0 kB") {
		t.Errorf("output %q", out.String())
	}
}

// TestProgressSpeed: the first buffers come at once and say nothing of it.
func TestProgressSpeed(t *testing.T) {
	for after, want := range map[time.Duration]string{
		0: "", time.Microsecond: "", settled - 1: "", settled: "2.0 MB/s", time.Second: "1.0 MB/s", 10 * time.Second: "100.0 kB/s",
	} {
		for _, live := range []bool{false, true} {
			var out bytes.Buffer
			clock := &fakeClock{}
			p := New(Config{Out: &out, Now: func() time.Duration { return clock.now }, Live: live}).Progress("rootfs", 2_000_000)
			clock.advance(after)
			p.Set(1_000_000)
			if got := out.String(); !strings.Contains(got, "1.0 MB of 2.0 MB") || strings.Contains(got, "/s") != (want != "") || !strings.Contains(got, want) {
				t.Errorf("after %s: %q", after, got)
			}
		}
	}
}

// TestProgressFrom: where the bytes come from is shown where there is room.
func TestProgressFrom(t *testing.T) {
	for _, live := range []bool{false, true} {
		for from, shown := range map[string]bool{"2 sources": true, strings.Repeat("far away ", 8): false} {
			var out bytes.Buffer
			p := New(Config{Out: &out, Now: func() time.Duration { return time.Second }, Live: live}).Progress("rootfs", 2000)
			p.From(from)
			p.Set(1000)
			if got := out.String(); strings.Contains(got, from) != shown || !strings.Contains(got, "1.0 kB of 2.0 kB") {
				t.Errorf("%q: %q", from, got)
			}
			if n := width(strings.TrimSpace(out.String())) - len(noteIndent); !live && n > DefaultWidth {
				t.Errorf("%q: a line of %d columns", from, n)
			}
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB",
		14_186_432: "14.2 MB", 5e9: "5.0 GB", 7e12: "7.0 TB", 9.2e18: "9200000.0 TB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"1": 1, "1B": 1, "500k": 500_000, "500kB": 500_000, "2M": 2_000_000, "2G": 2_000_000_000, "2GB": 2_000_000_000, "1T": 1e12,
		"2Ki": 2048, "2KiB": 2048, "3Mi": 3 << 20, "2Gi": 2 << 30, "1TiB": 1 << 40, "8388607TiB": 8388607 << 40,
	} {
		if got, err := ParseBytes(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "+1", "1.5G", "G", "1 G", "1g", "1GiBs", "8388608TiB", "99999999999999999999", "0x10"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func FuzzWrap(f *testing.F) {
	f.Add("http://example.org/"+strings.Repeat("x", 200)+" end", 30)
	f.Fuzz(func(t *testing.T, s string, n int) {
		n = min(max(n, 16), 200)
		s = Clean(s)
		lines := wrap(s, n)
		for _, line := range lines {
			if utf8.RuneCountInString(line) > n && width(line) > n {
				t.Fatalf("%d columns over %d: %q", width(line), n, line)
			}
		}
		squeeze := func(s string) string { return strings.Join(strings.Fields(s), "") }
		if squeeze(strings.Join(lines, "")) != squeeze(s) {
			t.Fatalf("text lost: %q became %q", s, lines)
		}
	})
}
