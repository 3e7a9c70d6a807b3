package manifest

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A chainVector is a folder of roots. The one with the lowest number is trusted
// from the start; the others are what a machine gets that asks for the next
// version, and the next. Nobody judges expiry on the way.
type chainVector struct {
	name    string
	item    int
	make    func(g *generator) map[string][]byte // by file name
	rule    Rule                                 // that refuses a root; empty: all are accepted
	refused string                               // the file of that root; none comes after it
	version int64                                // of the root that is trusted in the end
}

// files names its arguments: the first is n.root.json, the next has the number
// after that.
func chainOf(first int, roots ...[]byte) map[string][]byte {
	files := map[string][]byte{}
	for i, raw := range roots {
		files[fmt.Sprintf("%d.root.json", first+i)] = raw
	}
	return files
}

func version(n int64) func(*RootSpec) { return func(s *RootSpec) { s.Version = n } }

// newRootKeys exchanges all root keys.
func newRootKeys(n int64) func(*RootSpec) {
	return func(s *RootSpec) {
		s.Version = n
		s.Roles[RoleRoot] = RoleKeys{public("root-4", "root-5", "root-6"), 2}
	}
}

// successor makes version 2, signed by names whether that is enough or not.
func successor(edit func(*RootSpec), names ...string) func(*generator) map[string][]byte {
	return func(g *generator) map[string][]byte {
		g.t.Helper()
		return chainOf(1, g.good["root"], g.signRoot(g.rootText(edit), names...))
	}
}

// next adds a third root.
func (c chainVector) next(edit func(*RootSpec), names ...string) func(*generator) map[string][]byte {
	return func(g *generator) map[string][]byte {
		g.t.Helper()
		files := c.make(g)
		files["3.root.json"] = g.signRoot(g.rootText(edit), names...)
		return files
	}
}

var (
	oldAndNew = []string{"root-1", "root-2", "root-4", "root-5"}
	rotation  = chainVector{make: successor(newRootKeys(2), oldAndNew...)}
)

var chainVectors = []chainVector{
	{name: "chain-ok-same-keys", item: 0, version: 2, make: successor(version(2), "root-2", "root-3")},
	{name: "chain-ok-rotation", item: 19, version: 3, make: rotation.next(newRootKeys(3), "root-5", "root-6")},
	{name: "chain-ok-lost-key-replaced", item: 19, version: 2, make: successor(func(s *RootSpec) {
		s.Version = 2
		s.Roles[RoleRoot] = RoleKeys{public("root-1", "root-2", "root-4"), 2}
	}, "root-1", "root-2")},
	{name: "chain-ok-threshold-raised", item: 19, version: 2, make: successor(func(s *RootSpec) {
		s.Version = 2
		s.Roles[RoleRoot] = RoleKeys{public("root-1", "root-2", "root-3"), 3}
	}, "root-1", "root-2", "root-3")},
	{name: "chain-ok-targets-replaced", item: 21, version: 2, make: successor(func(s *RootSpec) {
		s.Version = 2
		s.Roles[RoleTargets] = RoleKeys{public("targets-4", "targets-5", "targets-6"), 2}
	}, "root-1", "root-2")},
	{name: "chain-ok-expired-middle", item: 19, version: 3, make: chainVector{make: successor(func(s *RootSpec) {
		s.Version, s.Expires = 2, now.AddDate(-1, 0, 0)
	}, "root-1", "root-2")}.next(version(3), "root-1", "root-2")},
	{name: "chain-ok-expired-first", item: 20, version: 2, make: func(g *generator) map[string][]byte {
		return chainOf(1,
			g.newRoot(func(s *RootSpec) { s.Expires = now.AddDate(0, 0, -1) }, "root-1", "root-2"),
			g.newRoot(version(2), "root-1", "root-2"))
	}},
	{name: "chain-ok-strangers-signature-beside", item: 17, version: 2, make: successor(version(2), "stranger", "root-1", "root-2")},

	{name: "chain-skipped-version", item: 19, rule: RuleRootChain, refused: "2.root.json", version: 1, make: successor(version(3), "root-1", "root-2")},
	{name: "chain-same-version-other-bytes", item: 19, rule: RuleRootChain, refused: "2.root.json", version: 1, make: successor(func(s *RootSpec) {
		s.Expires = now.AddDate(2, 0, 0)
	}, "root-1", "root-2")},
	{name: "chain-same-root-again", item: 19, rule: RuleRootChain, refused: "2.root.json", version: 1, make: successor(version(1), "root-1", "root-2")},
	{name: "chain-older", item: 19, rule: RuleRootChain, refused: "3.root.json", version: 2, make: func(g *generator) map[string][]byte {
		return chainOf(2, g.newRoot(version(2), "root-1", "root-2"), g.good["root"])
	}},
	{name: "chain-signed-by-old-keys-only", item: 19, rule: RuleRootChain, refused: "2.root.json", version: 1, make: successor(newRootKeys(2), "root-1", "root-2")},
	{name: "chain-signed-by-new-keys-only", item: 19, rule: RuleRootChain, refused: "2.root.json", version: 1, make: successor(newRootKeys(2), "root-4", "root-5")},
	{name: "chain-one-old-key-too-few", item: 19, rule: RuleRootChain, refused: "2.root.json", version: 1, make: successor(newRootKeys(2), "root-1", "root-4", "root-5")},
	{name: "chain-one-new-key-too-few", item: 19, rule: RuleRootChain, refused: "2.root.json", version: 1, make: successor(newRootKeys(2), "root-1", "root-2", "root-4")},
	{name: "chain-threshold-raised-old-number-of-keys", item: 19, rule: RuleRootChain, refused: "2.root.json", version: 1, make: successor(func(s *RootSpec) {
		s.Version = 2
		s.Roles[RoleRoot] = RoleKeys{public("root-1", "root-2", "root-3"), 3}
	}, "root-1", "root-2")},
	{name: "chain-threshold-lowered-by-one-key", item: 19, rule: RuleRootChain, refused: "2.root.json", version: 1, make: successor(func(s *RootSpec) {
		s.Version = 2
		s.Roles[RoleRoot] = RoleKeys{public("root-1"), 1}
	}, "root-1")},
	{name: "chain-by-targets", item: 21, rule: RuleRootChain, refused: "2.root.json", version: 1, make: successor(newRootKeys(2), "targets-1", "targets-2", "root-4", "root-5")},
	{name: "chain-by-revoked-root-keys", item: 21, rule: RuleRootChain, refused: "3.root.json", version: 2, make: rotation.next(version(3), "root-1", "root-2")},
	{name: "chain-changed-after-signing", item: 19, rule: RuleRootChain, refused: "2.root.json", version: 1, make: func(g *generator) map[string][]byte {
		files := successor(version(2), "root-1", "root-2")(g)
		files["2.root.json"] = []byte(g.replace(string(files["2.root.json"]), `"expires":"2027`, `"expires":"2037`))
		return files
	}},
	{name: "chain-one-signature-twice", item: 17, rule: RuleMalformed, refused: "2.root.json", version: 1, make: successor(version(2), "root-1", "root-1")},
	{name: "chain-weak-key", item: 18, rule: RuleKey, refused: "2.root.json", version: 1, make: successor(func(s *RootSpec) {
		s.Version = 2
		s.Roles[RoleRoot] = RoleKeys{append(public("root-1", "root-2"), point("01"+strings.Repeat("00", 31))), 2}
	}, "root-1", "root-2")},
	{name: "chain-malformed", item: 6, rule: RuleMalformed, refused: "2.root.json", version: 1, make: func(g *generator) map[string][]byte {
		return chainOf(1, g.good["root"], []byte("<!DOCTYPE html><title>404</title>\n"))
	}},
}

func TestChains(t *testing.T) {
	g := newGenerator(t)
	for _, c := range chainVectors {
		files := c.make(g)
		names := sortedSteps(files)
		root, err := ParseRoot(files[names[0]])
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		refused := ""
		for _, name := range names[1:] {
			before := *root
			next, err := root.Update(files[name])
			if root.version != before.version || len(root.roles) != len(before.roles) {
				t.Errorf("%s: Update changed the root it was called on", c.name)
			}
			if err == nil {
				root = next
				continue
			}
			refused = name
			checkVerdict(t, c.name, c.rule, "root", err)
			if next != nil {
				t.Errorf("%s: a refused root was returned", c.name)
			}
			break
		}
		if refused != c.refused || root.Version() != c.version {
			t.Errorf("%s: ended at version %d, refused %q; want %d, %q", c.name, root.Version(), refused, c.version, c.refused)
		}
	}
}

// sortedSteps orders by number, 2 before 10.
func sortedSteps(files map[string][]byte) []string {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return names
}

// TestEndlessChain: each step is right, so Update takes it; that somebody
// leads a machine on and on is for the caller to notice, at MaxRootChain.
func TestEndlessChain(t *testing.T) {
	g := newGenerator(t)
	root := g.root("")
	for n := int64(2); n <= MaxRootChain+2; n++ {
		next, err := root.Update(g.newRoot(version(n), "root-1", "root-2"))
		if err != nil {
			t.Fatal(err)
		}
		root = next
	}
	if root.Version() != MaxRootChain+2 {
		t.Errorf("version %d", root.Version())
	}
}

func TestUpdateNeedsARoot(t *testing.T) {
	g := newGenerator(t)
	second := g.newRoot(version(2), "root-1", "root-2")
	bare, err := KeyRoot(public("root-1")[0])
	if err != nil {
		t.Fatal(err)
	}
	first := g.newRoot(version(1), "root-1", "root-2")
	for name, root := range map[string]*Root{"nil": nil, "zero": {}, "bare key": bare} {
		for _, raw := range [][]byte{first, second} {
			_, err := root.Update(raw)
			checkRule(t, name, err, RuleRootChain)
		}
	}
}

// TestUpdateCountsKeysNotSignatures: nothing that is not a signature by a root
// key of the old root over exactly these bytes counts for it.
func TestUpdateCountsKeysNotSignatures(t *testing.T) {
	g := newGenerator(t)
	text := g.rootText(version(2))
	good := string(g.signRoot(text, "root-1", "root-2"))
	sig := fmt.Sprintf("%x", ed25519.Sign(testKey("root-1"), []byte(text)))
	for name, raw := range map[string]string{
		"zero signature": g.replace(good, sig, strings.Repeat("00", 64)),
		"short":          g.replace(good, sig, sig[:126]),
		"empty":          g.replace(good, sig, ""),
		"other key's id": g.replace(good, `"keyid":"`+keyID("root-2"), `"keyid":"`+keyID("root-3")),
	} {
		_, err := g.root("").Update([]byte(raw))
		checkRule(t, name, err, RuleRootChain)
	}
	for i := range good {
		raw := []byte(good)
		raw[i] ^= 0x01
		if next, err := g.root("").Update(raw); err == nil || next != nil {
			t.Fatalf("accepted with byte %d changed: %q", i, raw[max(0, i-20):i+1])
		}
	}
	if _, err := g.root("").Update(bytes.Repeat([]byte(" "), 64<<20)); err == nil {
		t.Error("64 MiB accepted")
	}
}
