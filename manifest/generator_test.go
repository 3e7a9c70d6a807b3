package manifest

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
)

// generator makes documents by editing good ones, and signs them.
type generator struct {
	t       testing.TB
	payload map[string]string // of the good documents, by kind
	good    map[string][]byte // the good files, by kind
	policy  []byte            // the log policy of the vectors with a proof
	roots   map[string]*Root  // read by root so far
}

func newGenerator(t testing.TB) *generator {
	t.Helper()
	g := &generator{t: t, payload: map[string]string{}, good: map[string][]byte{}, policy: logPolicy(), roots: map[string]*Root{}}
	var err error
	if g.good["manifest"], err = SignManifest(testManifest(), private("targets-1", "targets-2")...); err != nil {
		t.Fatal(err)
	}
	if g.good["pointer"], err = SignPointer(testPointer(g.good["manifest"]), testKey("timestamp")); err != nil {
		t.Fatal(err)
	}
	if g.good["root"], err = NewRoot(testRootSpec(), private("root-1", "root-2")...); err != nil {
		t.Fatal(err)
	}
	for _, k := range []kind{kindManifest, kindPointer} {
		env, err := openEnvelope(g.good[k.object], k)
		if err != nil {
			t.Fatal(err)
		}
		g.payload[k.object] = string(env.payload)
	}
	var file wireRootFile
	if err := strictjson.Unmarshal(g.good["root"], &file, strictjson.Limits{}); err != nil {
		t.Fatal(err)
	}
	g.payload["root"] = string(file.Signed)
	return g
}

// replace fails the test if old is not there: a vector without its fault would
// prove nothing.
func (g *generator) replace(s, old, new string) string {
	g.t.Helper()
	if !strings.Contains(s, old) {
		g.t.Fatalf("%q is not part of %s", old, s)
	}
	return strings.Replace(s, old, new, 1)
}

// seal signs payload as it is, whatever it says.
func (g *generator) seal(k kind, payload string, names ...string) []byte {
	g.t.Helper()
	k.maxBytes = 1 << 20
	raw, err := envelope{payload: []byte(payload)}.draft(k).signAll(private(names...))
	if err != nil {
		g.t.Fatal(err)
	}
	return raw
}

// manifest returns a maker that edits the payload before it is signed.
func manifestEdit(old, new string) func(*generator) []byte {
	return func(g *generator) []byte {
		g.t.Helper()
		return g.seal(kindManifest, g.replace(g.payload["manifest"], old, new), "targets-1", "targets-2")
	}
}

func manifestPayload(make func(payload string) string) func(*generator) []byte {
	return func(g *generator) []byte {
		g.t.Helper()
		return g.seal(kindManifest, make(g.payload["manifest"]), "targets-1", "targets-2")
	}
}

func manifestSigned(names ...string) func(*generator) []byte {
	return func(g *generator) []byte { return g.seal(kindManifest, g.payload["manifest"], names...) }
}

func pointerEdit(old, new string) func(*generator) []byte {
	return func(g *generator) []byte {
		g.t.Helper()
		return g.seal(kindPointer, g.replace(g.payload["pointer"], old, new), "timestamp")
	}
}

// fileEdit edits a good file after it was signed.
func fileEdit(kind, old, new string) func(*generator) []byte {
	return func(g *generator) []byte {
		g.t.Helper()
		return []byte(g.replace(string(g.good[kind]), old, new))
	}
}

func fileWith(kind, before, after string) func(*generator) []byte {
	return func(g *generator) []byte { return []byte(before + string(g.good[kind]) + after) }
}

// rootEdit edits a root and signs the result with two root keys.
func rootEdit(edits ...string) func(*generator) []byte {
	return func(g *generator) []byte {
		g.t.Helper()
		signed := g.payload["root"]
		for i := 0; i < len(edits); i += 2 {
			signed = g.replace(signed, edits[i], edits[i+1])
		}
		return g.signRoot(signed, "root-1", "root-2")
	}
}

// rootText writes an edited description, past the checks of DraftRoot.
func (g *generator) rootText(edit func(*RootSpec)) string {
	g.t.Helper()
	spec := testRootSpec()
	edit(&spec)
	text, err := strictjson.MarshalCanonical(wireRootOf(spec))
	if err != nil {
		g.t.Fatal(err)
	}
	return string(text)
}

// rootSpec makes a root from an edited description, past the checks of NewRoot.
func rootSpec(edit func(*RootSpec)) func(*generator) []byte {
	return func(g *generator) []byte {
		g.t.Helper()
		return g.signRoot(g.rootText(edit), "root-1", "root-2")
	}
}

// goodRoot makes a root the way publishers do.
func goodRoot(edit func(*RootSpec)) func(*generator) []byte {
	return func(g *generator) []byte { return g.newRoot(edit, "root-1", "root-2") }
}

func (g *generator) newRoot(edit func(*RootSpec), names ...string) []byte {
	g.t.Helper()
	spec := testRootSpec()
	edit(&spec)
	raw, err := NewRoot(spec, private(names...)...)
	if err != nil {
		g.t.Fatal(err)
	}
	return raw
}

func testChannels(s *RootSpec) {
	s.Channels = map[string]RoleKeys{ChannelTesting: {public("testing-1", "testing-2", "testing-3"), 2}}
}

// resetFloor makes root version 3 say: what was accepted before root counts as
// version.
func resetFloor(channel string, root, version int64) func(*RootSpec) {
	return func(s *RootSpec) {
		s.Version = 3
		s.Floors = map[string]FloorReset{channel: {root, version}}
	}
}

// channelManifest is the good manifest, made for channel and signed by names.
func channelManifest(channel string, names ...string) func(*generator) []byte {
	return func(g *generator) []byte {
		g.t.Helper()
		return g.seal(kindManifest, g.replace(g.payload["manifest"], `"channel":"stable"`, `"channel":"`+channel+`"`), names...)
	}
}

func securityFloor(value string) func(*generator) []byte {
	return manifestEdit(`"version":"0.1"`, `"security_floor":`+value+`,"version":"0.1"`)
}

// dtbs has n device trees of the largest size, all with the same content.
func dtbs(n int) func(*generator) []byte {
	return manifestPayload(func(p string) string {
		i := strings.Index(p, `"board.dtb":`)
		j := i + strings.Index(p[i:], `}`) + 1
		tree := strings.TrimPrefix(strings.Replace(p[i:j], `"size":3`, `"size":16777216`, 1), `"board.dtb"`)
		var list []string
		for k := range n {
			list = append(list, fmt.Sprintf(`"board-%d.dtb"%s`, k, tree))
		}
		return p[:i] + strings.Join(list, ",") + p[j:]
	})
}

// root returns the root in testdata/<name>.json, made anew; the empty name is
// that of testdata/root.json.
func (g *generator) root(name string) *Root {
	g.t.Helper()
	if root, ok := g.roots[name]; ok {
		return root
	}
	root, err := ParseRoot(g.rootFile(name))
	if err != nil {
		g.t.Fatalf("root %s: %v", name, err)
	}
	g.roots[name] = root
	return root
}

func (g *generator) rootFile(name string) []byte {
	g.t.Helper()
	if name == "" {
		return g.good["root"]
	}
	for _, v := range rootVectors {
		if v.name == name {
			return v.make(g)
		}
	}
	for _, c := range chainVectors {
		if step, ok := strings.CutPrefix(name, c.name+"/"); ok {
			return c.make(g)[step+".json"]
		}
	}
	g.t.Fatalf("there is no root %s", name)
	return nil
}

// signRoot signs the text as it is, and leaves it as it is in the file.
func (g *generator) signRoot(signed string, names ...string) []byte {
	return signedRoot(signed, names...)
}

func signedRoot(signed string, names ...string) []byte {
	var signatures []string
	message := []byte(signed)
	if canonical, err := strictjson.CanonicalizeOLPC(message, strictjson.Limits{Bytes: 1 << 20, Depth: 20000}); err == nil {
		message = canonical
	}
	for _, key := range private(names...) {
		signatures = append(signatures, fmt.Sprintf(`{"keyid":%q,"sig":"%x"}`,
			dsse.KeyID(key.Public().(ed25519.PublicKey)), ed25519.Sign(key, message)))
	}
	return []byte(`{"signatures":[` + strings.Join(signatures, ",") + `],"signed":` + signed + `}`)
}

func point(digits string) ed25519.PublicKey {
	key, _ := hex.DecodeString(digits)
	return key
}

func keyID(name string) string { return dsse.KeyID(public(name)[0]) }

func withCmdline(s string) func(*generator) []byte {
	return manifestEdit(`"cmdline":"console=ttyS0 quiet"`, `"cmdline":`+s)
}

func urls(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`"http://a.example/%d"`, i)
	}
	return strings.Join(list, ",")
}

var (
	kernelHash = blob.Of([]byte("kernel")).String()
	theURL     = `"https://mirror.example/kernel"`
	older      = Floor{ManifestVersion: 6, Digest: blob.Of([]byte("six"))}
	newer      = Floor{ManifestVersion: 8, Digest: blob.Of([]byte("eight"))}
	sameOther  = Floor{ManifestVersion: 7, Digest: blob.Of([]byte("another seven"))}

	// What a machine remembers that saw a thief's manifest under root 2.
	fastForward   = Floor{ManifestVersion: 1<<53 - 1, Digest: blob.Of([]byte("thief")), RootVersion: 2}
	testingWanted = Want{ChannelTesting, ArchX8664}
)

// addOrder adds the group order to S, which gives a second signature that a
// careless verifier accepts.
func addOrder(sig []byte) []byte {
	order := point("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010") // little-endian
	out := bytes.Clone(sig)
	carry := 0
	for i, b := range order {
		sum := int(out[32+i]) + int(b) + carry
		out[32+i], carry = byte(sum), sum>>8
	}
	return out
}
