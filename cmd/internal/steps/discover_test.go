package steps

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/discover/discovertest"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/manifest"
)

// network is a source that gives what it was given.
type network struct {
	name string
	give []discover.Candidate
	err  error
}

func (n network) Name() string { return n.name }

func (n network) Search(_ context.Context, _ discover.Query, found func(discover.Candidate)) error {
	for _, c := range n.give {
		found(c)
	}
	return n.err
}

// discoverOn runs the command with these networks.
func discoverOn(dht, lan discover.Source, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	env := Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Now: time.Now}
	var nets DiscoverNets
	if dht != nil {
		nets.DHT = func([]string, fetch.DialFunc) (discover.Source, func() error, error) {
			return dht, func() error { return nil }, nil
		}
	}
	if lan != nil {
		nets.LAN = func(discover.Get, time.Duration, *discover.Peers) discover.Source { return lan }
	}
	code = Discover(args, env, nets)
	return code, out.String(), errs.String()
}

func TestDiscoverExitCodes(t *testing.T) {
	q := discover.Query{Channel: "stable", Arch: "x86_64"}
	good := network{name: "dht", give: []discover.Candidate{{Pointer: discovertest.Pointer(t, q, 1), Origin: "dht X"}}}
	broken := network{name: "dht", err: errors.New("broken")}
	for _, tt := range []struct {
		name string
		dht  discover.Source
		args []string
		code int
	}{
		{"found", good, []string{"-a", "x86_64", "-b", "x"}, 0},
		{"not found", broken, []string{"-a", "x86_64", "-b", "x"}, 1},
		{"nowhere to ask", nil, []string{"-a", "x86_64"}, 2},
		{"no DHT in this program", nil, []string{"-a", "x86_64", "-b", "x"}, 2},
		{"flag", good, []string{"--nonsense"}, 2},
		{"arch", good, []string{"-a", "mips", "-b", "x"}, 2},
		{"format", good, []string{"-f", "yaml", "-b", "x"}, 2},
		{"timeout", good, []string{"-t", "x", "-b", "x"}, 2},
		{"mirror", good, []string{"--mirror", "ftp://h", "-b", "x"}, 2},
		{"key", good, []string{"-k", "/nonexistent", "-b", "x"}, 1},
	} {
		if code, out, errs := discoverOn(tt.dht, nil, tt.args...); code != tt.code {
			t.Errorf("%s: exit %d, want %d\n%s%s", tt.name, code, tt.code, out, errs)
		}
	}
}

// The same manifest may be had nearby: then that is where to get it.
func TestDiscoverPrefersTheNeighbour(t *testing.T) {
	q := discover.Query{Channel: "stable", Arch: "x86_64"}
	pointer, old := discovertest.Pointer(t, q, 2), discovertest.Pointer(t, q, 1)
	lan := network{name: "mdns", give: []discover.Candidate{
		{Pointer: old, Origin: "mdns old", Bases: []string{"http://10.0.0.8:1"}},
		{Pointer: pointer, Origin: "mdns box", Bases: []string{"http://10.0.0.9:8080/"}},
	}}
	dht := network{name: "dht", give: []discover.Candidate{{Pointer: old, Origin: "dht A"}, {Pointer: pointer, Origin: "dht B"}}}
	code, out, errs := discoverOn(dht, lan, "-a", "x86_64", "-b", "x", "-f", "json")
	var got struct {
		ManifestURL   string `json:"manifest_url"`
		PeerID        string `json:"peer_id"`
		ProviderCount int    `json:"provider_count"`
		Sources       []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, errs)
	}
	if got.ManifestURL != "http://10.0.0.9:8080/stable/x86_64/manifest.json" || got.PeerID != "B" || got.ProviderCount != 2 || len(got.Sources) != 2 {
		t.Errorf("%+v", got)
	}
}

// People evaluate the output in a shell.
func TestDiscoverGivesNoShellCode(t *testing.T) {
	evil := "http://h/$(reboot)"
	p := pointers{best: offer{pointer: manifest.Pointer{URLs: []string{evil, "http://h/a;b", "http://h/`x`", "http://h/a b", "http://h/a'b", "http://h/\n", "http://[fd00::1]:8080/m.json"}}}}
	if got := p.manifestURL(); got != "http://[fd00::1]:8080/m.json" {
		t.Errorf("%q", got)
	}
	p.best.pointer.URLs = []string{evil}
	if got := p.manifestURL(); got != "" {
		t.Errorf("%q", got)
	}
	p.same = []discover.Candidate{{Origin: "http://m", Bases: []string{"http://m"}}}
	p.query = discover.Query{Channel: "stable", Arch: "arm64"}
	if got := p.manifestURL(); got != "http://m/stable/arm64/manifest.json" {
		t.Errorf("%q", got)
	}
}

func TestDiscoverIgnoresOthersPointers(t *testing.T) {
	other := discovertest.Pointer(t, discover.Query{Channel: "testing", Arch: "x86_64"}, 9)
	dht := network{name: "dht", give: []discover.Candidate{{Pointer: other, Origin: "dht A"}, {Pointer: []byte("junk"), Origin: "dht B"}}}
	code, out, errs := discoverOn(dht, nil, "-a", "x86_64", "-b", "x")
	if code != 1 || out != "" || !strings.Contains(errs, "ignored what dht A gave: it is about testing/x86_64") || !strings.Contains(errs, "ignored what dht B gave") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
}

func TestParseTimeout(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"30": 30 * time.Second, "500ms": 500 * time.Millisecond, "1m": time.Minute,
		"0": 0, "-1": 0, "": 0, "abc": 0, "25h": 0, "1e9": 0, "9223372036854775807": 0,
	} {
		got, err := parseTimeout(in)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
}

// What strangers send does not reach the terminal as they wrote it.
func TestDiscoverGivesNoEscapes(t *testing.T) {
	for _, pointer := range []string{`{"\u001b[2J":1.5}`, `{"` + strings.Repeat("a", 1500) + `":1.5}`} {
		stranger := network{name: "mdns", give: []discover.Candidate{{Pointer: []byte(pointer), Origin: "mdns \x1b[2J"}}}
		code, _, stderr := discoverOn(nil, stranger)
		if code != exitFailed || !strings.Contains(stderr, "ignored what mdns ?[2J gave") {
			t.Errorf("exit code %d, %q", code, stderr)
		}
		if strings.Contains(stderr, "\x1b") || len(stderr) > 1000 {
			t.Errorf("%d bytes: %.200q", len(stderr), stderr)
		}
	}
}
