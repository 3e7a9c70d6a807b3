package main

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/dispatch"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/quorum"
)

func knownKey(n byte) ed25519.PublicKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
}

func TestKnownNodes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nodes.json")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	one, two := job.FormatKey(knownKey(1)), job.FormatKey(knownKey(2))
	for name, text := range map[string]string{
		"nothing":          ``,
		"nobody":           `{"nodes":[]}`,
		"no key":           `{"nodes":[{"operator":"a"}]}`,
		"not a key":        `{"nodes":[{"key":"ed25519:00"}]}`,
		"twice":            `{"nodes":[{"key":"` + one + `"},{"key":"` + one + `"}]}`,
		"other members":    `{"nodes":[{"key":"` + one + `","trust":9}]}`,
		"operator of size": `{"nodes":[{"key":"` + one + `","operator":"` + strings.Repeat("a", quorum.MaxOperatorBytes+1) + `"}]}`,
		"operator's bell":  `{"nodes":[{"key":"` + one + `","operator":"a\u0007"}]}`,
		"many addresses":   `{"nodes":[{"key":"` + one + `","addrs":["1","2","3","4","5","6","7","8","9"]}]}`,
		"many nodes":       `{"nodes":[` + strings.Repeat(`{"key":"`+one+`"},`, quorum.MaxCandidates) + `{"key":"` + two + `"}]}`,
	} {
		write(text)
		if list, err := readKnown(path); !errors.As(err, new(usageError)) || list != nil {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
	write(`{"nodes":[{"key":"` + one + `","operator":"alice","addrs":["/ip4/192.0.2.1/tcp/1"]},{"key":"` + two + `"}]}`)
	list, err := readKnown(path)
	if err != nil || list.operator(knownKey(1)) != "alice" || list.operator(knownKey(2)) != "" || list.operator(knownKey(3)) != "" {
		t.Fatalf("%v, %v", list, err)
	}
	p := &places{local: true, network: true, wanted: map[string]bool{}}
	if list.narrow(p); p.network || !p.local || len(p.nodes) != 1 || !p.nodes[0].Key.Equal(knownKey(1)) || len(p.wanted) != 1 || !p.wanted[two] {
		t.Errorf("%+v", p)
	}
	voters := list.voters([]quorum.Node{{Key: knownKey(1)}, {Key: knownKey(3)}})
	if len(voters) != 3 || voters[0].Operator != "alice" || !voters[2].Key.Equal(knownKey(3)) {
		t.Errorf("%v", voters)
	}
	if none, err := readKnown(""); none != nil || err != nil {
		t.Errorf("%v, %v", none, err)
	}
}

func TestBeacon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "round")
	if err := os.WriteFile(path, []byte("round 7"), 0o644); err != nil {
		t.Fatal(err)
	}
	digits := strings.Repeat("0f", 32)
	for text, want := range map[string]string{"": "", digits: digits, "@" + path: blob.Of([]byte("round 7")).Hex()} {
		if got, err := readBeacon(text); err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%q: %x, %v", text, got, err)
		}
	}
	for _, text := range []string{"00", "xyz", digits + digits + "00", "@" + path + "x", path} {
		if got, err := readBeacon(text); err == nil {
			t.Errorf("%q: %x", text, got)
		}
	}
}

func TestKeepFrauds(t *testing.T) {
	dir := t.TempDir()
	list := []dispatch.Fraud{{Node: job.FormatKey(knownKey(1)), Kind: quorum.TwoResults, Proof: []byte("{}")}}
	name := "fraud-" + job.FormatKey(knownKey(1))[8:24] + "-two_results-44136fa3.json"
	for _, c := range []struct{ dir, beside, path string }{
		{dir, "", filepath.Join(dir, name)},
		{"", filepath.Join(dir, "q.json"), filepath.Join(dir, "q.json."+name)},
	} {
		told, err := keepFrauds(list, c.dir, c.beside)
		if raw, failed := os.ReadFile(c.path); err != nil || failed != nil || string(raw) != "{}" || len(told) != 1 || !strings.Contains(told[0], c.path) {
			t.Errorf("%v, %v, %v", told, err, failed)
		}
	}
	if told, err := keepFrauds(list, "", ""); err != nil || len(told) != 1 || !strings.Contains(told[0], "--fraud-dir") {
		t.Errorf("%v, %v", told, err)
	}
	if _, err := keepFrauds(list, filepath.Join(dir, "none"), ""); err == nil {
		t.Error("into no folder")
	}
}
