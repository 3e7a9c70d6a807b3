package manifest

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
)

// TestZeroValuesAreUseless: nobody gets a manifest past the verifier by making
// the result type himself.
func TestZeroValuesAreUseless(t *testing.T) {
	for _, v := range []*Verified{nil, {}, new(Verified)} {
		m := v.Manifest()
		_, _, stale := v.Stale()
		_, logged := v.Logged()
		if v.Valid() || stale || logged || !m.Kernel.Hash.IsZero() || m.ManifestVersion != 0 || !v.Digest().IsZero() || v.KeyIDs() != nil || v.Floor() != (Floor{}) {
			t.Errorf("a zero Verified says something: %+v", v)
		}
	}
	for _, p := range []*VerifiedPointer{nil, {}} {
		if p.Valid() || p.Pointer().ManifestVersion != 0 || p.KeyIDs() != nil {
			t.Errorf("a zero VerifiedPointer says something: %+v", p)
		}
	}
}

func TestZeroRootsVerifyNothing(t *testing.T) {
	g := newGenerator(t)
	for name, root := range map[string]*Root{"nil": nil, "zero": {}, "empty roles": {roles: map[Role]RoleKeys{RoleTargets: {}, RoleTimestamp: {}}}} {
		_, err := verifyManifest(g.good["manifest"], root, wantTest, Floor{}, nil, now)
		checkRule(t, name+" root, manifest", err, RuleSignature)
		_, err = verifyPointer(g.good["pointer"], root, wantTest, now)
		checkRule(t, name+" root, pointer", err, RuleSignature)
		_, err = Verifier{Root: root, Want: wantTest}.LastGood(g.good["manifest"], nil, now)
		checkRule(t, name+" root, kept release", err, RuleSignature)
	}
}

func checkRule(t *testing.T, name string, err error, want Rule) {
	t.Helper()
	var refused *Error
	if !errors.As(err, &refused) || refused.Rule != want {
		t.Errorf("%s: got %v, want rule %s", name, err, want)
	}
}

func TestUnverifiedPointerVouchesForNothing(t *testing.T) {
	g := newGenerator(t)
	_, err := verifyManifest(g.good["manifest"], testRoot(t), wantTest, Floor{}, &VerifiedPointer{pointer: testPointer(g.good["manifest"])}, now)
	checkRule(t, "made by hand", err, RulePointer)
}

func TestEmptyWantMatchesNothing(t *testing.T) {
	g := newGenerator(t)
	root := testRoot(t)
	for _, tt := range []struct {
		want Want
		rule Rule
	}{{Want{}, RuleChannel}, {Want{Channel: Any}, RuleArch}, {Want{Arch: Any}, RuleChannel}} {
		_, err := verifyManifest(g.good["manifest"], root, tt.want, Floor{}, nil, now)
		checkRule(t, "manifest", err, tt.rule)
		_, err = verifyPointer(g.good["pointer"], root, tt.want, now)
		checkRule(t, "pointer", err, tt.rule)
	}
}

func TestZeroTimeIsRefused(t *testing.T) {
	g := newGenerator(t)
	_, err := verifyManifest(g.good["manifest"], testRoot(t), wantTest, Floor{}, nil, time.Time{})
	checkRule(t, "no clock", err, RuleFuture)
}

func TestSizeCaps(t *testing.T) {
	root := testRoot(t)
	huge := bytes.Repeat([]byte(" "), 64<<20)
	_, err := verifyManifest(huge, root, wantTest, Floor{}, nil, now)
	checkRule(t, "manifest of 64 MiB", err, RuleSize)
	_, err = verifyPointer(huge, root, wantTest, now)
	checkRule(t, "pointer of 64 MiB", err, RuleSize)
	_, err = InspectPointer(huge[:64<<10])
	checkRule(t, "DHT value of 64 KiB", err, RuleSize)
	_, err = ParseRoot(huge)
	checkRule(t, "root of 64 MiB", err, RuleSize)

	g := newGenerator(t)
	for n, rule := range map[int]Rule{MaxManifestBytes: "", MaxManifestBytes + 1: RuleSize} {
		padded := append(bytes.Clone(g.good["manifest"]), huge[:n-len(g.good["manifest"])]...)
		if _, err := verifyManifest(padded, root, wantTest, Floor{}, nil, now); rule == "" && err != nil {
			t.Errorf("%d bytes: %v", n, err)
		} else if rule != "" {
			checkRule(t, "one byte too many", err, rule)
		}
	}
}

// TestEveryByteCounts flips bits all over the signed files: no byte is outside
// the reach of some check.
func TestEveryByteCounts(t *testing.T) {
	g := newGenerator(t)
	root := testRoot(t)
	for i := range g.good["manifest"] {
		for _, mask := range []byte{0x01, 0x20, 0x80} {
			raw := bytes.Clone(g.good["manifest"])
			raw[i] ^= mask
			if v, err := verifyManifest(raw, root, wantTest, Floor{}, nil, now); err == nil || v.Valid() {
				t.Fatalf("manifest accepted with byte %d changed by %#x: %q", i, mask, raw[max(0, i-20):i+1])
			}
		}
	}
	for i := range g.good["pointer"] {
		raw := bytes.Clone(g.good["pointer"])
		raw[i] ^= 0x01
		if v, err := verifyPointer(raw, root, wantTest, now); err == nil || v.Valid() {
			t.Fatalf("pointer accepted with byte %d changed", i)
		}
	}
	for i := range g.good["root"] {
		raw := bytes.Clone(g.good["root"])
		raw[i] ^= 0x01
		if _, err := ParseRoot(raw); err == nil {
			t.Fatalf("root accepted with byte %d changed: %q", i, raw[max(0, i-20):i+1])
		}
	}
}

// TestTruncations cuts the files at every length.
func TestTruncations(t *testing.T) {
	g := newGenerator(t)
	root := testRoot(t)
	for n := range g.good["manifest"] {
		if _, err := verifyManifest(g.good["manifest"][:n], root, wantTest, Floor{}, nil, now); err == nil {
			t.Fatalf("manifest accepted after %d bytes", n)
		}
	}
	for n := range g.good["root"] {
		if _, err := ParseRoot(g.good["root"][:n]); err == nil {
			t.Fatalf("root accepted after %d bytes", n)
		}
	}
}

// TestResultsAreCopies: a caller cannot change what was verified.
func TestResultsAreCopies(t *testing.T) {
	g := newGenerator(t)
	root := testRoot(t)
	v, err := verifyManifest(g.good["manifest"], root, wantTest, Floor{}, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	m := v.Manifest()
	m.Kernel.URLs[0] = "http://evil.example/"
	m.Rootfs.Size = 1
	m.DTBs["board.dtb"] = Artifact{}
	delete(m.DTBs, "board.dtb")
	v.KeyIDs()[0] = "x"
	again := v.Manifest()
	if again.Kernel.URLs[0] != "https://mirror.example/kernel" || again.Rootfs.Size != 6 || again.DTBs["board.dtb"].Size != 3 || v.KeyIDs()[0] == "x" {
		t.Errorf("the verified manifest changed: %+v", again)
	}
	p, err := verifyPointer(g.good["pointer"], root, wantTest, now)
	if err != nil {
		t.Fatal(err)
	}
	p.Pointer().URLs[0] = "x"
	if p.Pointer().URLs[0] == "x" {
		t.Error("the verified pointer changed")
	}
	// Nor by changing the bytes that were verified.
	file := bytes.Clone(g.good["manifest"])
	if v, err = verifyManifest(file, root, wantTest, Floor{}, nil, now); err != nil {
		t.Fatal(err)
	}
	clear(file)
	if v.Manifest().Kernel.Hash != blob.Of([]byte("kernel")) || v.Manifest().Cmdline != "console=ttyS0 quiet" {
		t.Error("the verified manifest shares memory with the file")
	}
}

func TestArtifact(t *testing.T) {
	m := testManifest()
	for name, size := range map[string]int64{"kernel": 6, "initramfs": 9, "rootfs": 6} {
		if a, ok := m.Artifact(name); !ok || a.Size != size {
			t.Errorf("%s: %+v, %v", name, a, ok)
		}
	}
	m.Rootfs = nil
	for _, name := range []string{"rootfs", "", "Kernel", "dtbs"} {
		if a, ok := m.Artifact(name); ok || !a.Hash.IsZero() {
			t.Errorf("%q: %+v, %v", name, a, ok)
		}
	}
}

func TestParseArch(t *testing.T) {
	for in, want := range map[string]string{"x86_64": ArchX8664, "amd64": ArchX8664, "arm64": ArchARM64, "aarch64": ArchARM64} {
		if got, err := ParseArch(in); err != nil || got != want {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "X86_64", "x86", "arm", "*", "x86_64 "} {
		if got, err := ParseArch(in); err == nil {
			t.Errorf("%q is %s", in, got)
		}
	}
}

// TestMessages: the sentences that people search for.
func TestMessages(t *testing.T) {
	g := newGenerator(t)
	root := testRoot(t)
	_, err := verifyManifest(g.seal(kindManifest, g.payload["manifest"], "stranger"), root, wantTest, Floor{}, nil, now)
	checkText(t, err, "Manifest signature verification failed", "targets", "0 of the 2 required")
	_, err = verifyManifest(g.good["manifest"], root, wantTest, newer, nil, now)
	checkText(t, err, "Manifest version downgrade detected (possible attack)", "version 7", "version 8")
	_, err = verifyManifest(g.good["manifest"], root, wantTest, Floor{}, nil, now.AddDate(0, 4, 0))
	checkText(t, err, "manifest", "expired at 2026-06-01T12:00:00Z", "clock says 2026-07-01T12:00:00Z")
	var refused *Error
	if !errors.As(err, &refused) || !refused.At.Equal(now.AddDate(0, 3, 0)) || !refused.Now.Equal(now.AddDate(0, 4, 0)) {
		t.Errorf("expiry and clock are not in %+v", refused)
	}
	_, err = verifyPointer(g.good["pointer"], root, wantTest, time.Unix(0, 0))
	if !errors.As(err, &refused) || refused.Rule != RuleFuture || !refused.At.Equal(now.Add(-time.Hour)) {
		t.Errorf("creation time is not in %+v", refused)
	}
}

// TestMessagesNameTheClock: whose clock said so is half of the diagnosis.
func TestMessagesNameTheClock(t *testing.T) {
	g := newGenerator(t)
	verifier := Verifier{Root: testRoot(t), Want: wantTest, ClockSource: "image build time"}
	_, err := verifier.Manifest(g.good["manifest"], nil, nil, now.AddDate(0, 4, 0))
	checkText(t, err, "expired at 2026-06-01T12:00:00Z", "the clock says 2026-07-01T12:00:00Z (image build time)")
	_, err = verifier.Pointer(g.good["pointer"], time.Unix(0, 0))
	checkText(t, err, "it was made at 2026-03-01T11:00:00Z", "the clock says 1970-01-01T00:00:00Z (image build time)")
	var refused *Error
	if !errors.As(err, &refused) || refused.Clock != "image build time" {
		t.Errorf("the clock is not in %+v", refused)
	}
}

// TestMessagesNameTheSigner: who signed, and who had to.
func TestMessagesNameTheSigner(t *testing.T) {
	g := newGenerator(t)
	root := g.root("root-ok-channels")
	_, err := verifyManifest(channelManifest("stable", "testing-1", "testing-2")(g), root, wantTest, Floor{}, nil, now)
	checkText(t, err, "Manifest signature verification failed", "signed by channel testing", `channel "stable" has to be signed by role targets`)
	_, err = verifyManifest(channelManifest("testing", "targets-1", "testing-1")(g), root, testingWanted, Floor{}, nil, now)
	checkText(t, err, "role targets: ", "channel testing: ", "1 of the 2 required")
	_, err = verifyPointer(pointerEdit(`"root_version":1`, `"root_version":5`)(g), root, wantTest, now)
	checkText(t, err, "made under root version 5", "has version 1")
}

// TestLogEntry: the bytes that logs keep for ever.
func TestLogEntry(t *testing.T) {
	g := newGenerator(t)
	digest := blob.Of([]byte(g.payload["manifest"]))
	got := LogEntry(testManifest(), digest)
	want := `{"arch":"x86_64","channel":"stable","manifest_hash":"` + digest.String() + `","manifest_version":7,"product":"phase-boot"}`
	if string(got) != want || !bytes.Equal(got, g.entryOf("stable", "x86_64", 7)) {
		t.Errorf("got %s", got)
	}
	if entry := LogEntry(Manifest{Channel: "\xff"}, digest); entry != nil {
		t.Errorf("an impossible manifest has the entry %s", entry)
	}
}

func checkText(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not part of: %v", part, err)
		}
	}
}

func TestRulesHaveCodesAndHints(t *testing.T) {
	seen := map[string]Rule{}
	for rule := range ruleInfo {
		e := &Error{Rule: rule, Object: "manifest"}
		if other, taken := seen[e.Code()]; taken || e.Hint() == "" || e.Error() == "" {
			t.Errorf("%s: code %s (also of %s), hint %q", rule, e.Code(), other, e.Hint())
		}
		seen[e.Code()] = rule
	}
	if code := (&Error{}).Code(); code != "VFY-000" {
		t.Errorf("no rule has code %s", code)
	}
}

func TestKeyRoot(t *testing.T) {
	g := newGenerator(t)
	root, err := KeyRoot(public("targets-1")[0])
	if err != nil {
		t.Fatal(err)
	}
	v, err := verifyManifest(g.good["manifest"], root, wantTest, Floor{}, nil, now)
	if err != nil || len(v.KeyIDs()) != 1 || v.KeyIDs()[0] != keyID("targets-1") {
		t.Errorf("%v, %v", v.KeyIDs(), err)
	}
	_, err = verifyPointer(g.good["pointer"], root, wantTest, now)
	checkRule(t, "pointer under a bare key", err, RuleSignature)
	_, err = KeyRoot(make(ed25519.PublicKey, 32))
	checkRule(t, "weak key", err, RuleKey)
	_, err = KeyRoot(nil)
	checkRule(t, "no key", err, RuleKey)
}

func TestInspectPointerNeedsNoTrust(t *testing.T) {
	g := newGenerator(t)
	strangers := g.seal(kindPointer, g.payload["pointer"], "stranger")
	p, err := InspectPointer(strangers)
	if err != nil || p.ManifestVersion != 7 || p.ManifestHash != blob.Of(g.good["manifest"]) {
		t.Errorf("%+v, %v", p, err)
	}
	for _, v := range vectors {
		if kind, _, _ := strings.Cut(v.name, "-"); kind != "pointer" {
			continue
		}
		_, err := InspectPointer(v.make(g))
		byForm := slices.Contains([]Rule{RuleSize, RuleMalformed, RuleMirrored, RuleProduct, RuleSchema, RulePolicy}, v.rule)
		if (err != nil) != byForm && v.name != "pointer-is-a-manifest" {
			t.Errorf("%s: %v", v.name, err)
		}
	}
}

// TestSignersRefuseWhatVerifiersRefuse: a mistake shows when signing.
func TestSignersRefuseWhatVerifiersRefuse(t *testing.T) {
	manifests := map[string]func(*Manifest){
		"version":      func(m *Manifest) { m.ManifestVersion = 0 },
		"wide version": func(m *Manifest) { m.ManifestVersion = 1 << 53 },
		"channel":      func(m *Manifest) { m.Channel = "demo" },
		"arch":         func(m *Manifest) { m.Arch = "amd64" },
		"no times":     func(m *Manifest) { m.CreatedAt = time.Time{} },
		"times":        func(m *Manifest) { m.ExpiresAt = m.CreatedAt },
		"no kernel":    func(m *Manifest) { m.Kernel = Artifact{} },
		"size":         func(m *Manifest) { m.Initramfs.Size = 0 },
		"rootfs":       func(m *Manifest) { m.Rootfs.Hash = blob.Digest{} },
		"command line": func(m *Manifest) { m.Cmdline = "init=/bin/sh" },
		"dtb":          func(m *Manifest) { m.DTBs["a/b"] = m.Kernel },
		"dtbs": func(m *Manifest) {
			for i := range MaxDTBs {
				m.DTBs[strings.Repeat("a", i+1)] = m.Kernel
			}
		},
		"not UTF-8": func(m *Manifest) { m.Cmdline = "\xff" },
		"too large": func(m *Manifest) {
			m.Kernel.URLs = slices.Repeat([]string{"http://a.example/" + strings.Repeat("a", 2000)}, MaxURLs)
			m.Initramfs.URLs = m.Kernel.URLs
		},
	}
	for name, spoil := range manifests {
		m := testManifest()
		spoil(&m)
		if _, err := SignManifest(m, testKey("targets-1")); err == nil {
			t.Errorf("signed a manifest with bad %s", name)
		}
	}
	pointers := map[string]func(*Pointer){
		"version":      func(p *Pointer) { p.ManifestVersion = 0 },
		"root version": func(p *Pointer) { p.RootVersion = 0 },
		"hash":         func(p *Pointer) { p.ManifestHash = blob.Digest{} },
		"size":         func(p *Pointer) { p.ManifestSize = MaxManifestBytes + 1 },
		"URL":          func(p *Pointer) { p.URLs = []string{"ftp://a.example"} },
		"too large":    func(p *Pointer) { p.URLs = []string{"http://a.example/" + strings.Repeat("a", 1500)} },
		"channel":      func(p *Pointer) { p.Channel = "" },
		"times":        func(p *Pointer) { p.ExpiresAt = p.CreatedAt.Add(-time.Second) },
	}
	for name, spoil := range pointers {
		p := testPointer([]byte("manifest"))
		spoil(&p)
		if _, err := SignPointer(p, testKey("timestamp")); err == nil {
			t.Errorf("signed a pointer with bad %s", name)
		}
	}
	if _, err := SignManifest(testManifest()); !errors.Is(err, ErrNoKeys) {
		t.Errorf("no key: %v", err)
	}
	if _, err := SignManifest(testManifest(), nil); !errors.Is(err, ErrPrivateKey) {
		t.Errorf("nil key: %v", err)
	}
	if _, err := SignManifest(testManifest(), private("a", "a")...); err == nil {
		t.Error("signed with one key twice")
	}
	if _, err := NewRoot(testRootSpec(), testKey("root-1")); err == nil {
		t.Error("made a root below its own threshold")
	}
	if _, err := NewRoot(testRootSpec(), nil, nil); !errors.Is(err, ErrPrivateKey) {
		t.Errorf("nil root key: %v", err)
	}
}

func TestSigningIsDeterministic(t *testing.T) {
	a, errA := SignManifest(testManifest(), private("targets-1", "targets-2")...)
	b, errB := SignManifest(testManifest(), private("targets-1", "targets-2")...)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("%v, %v, equal %v", errA, errB, bytes.Equal(a, b))
	}
	m := testManifest()
	m.CreatedAt = m.CreatedAt.Add(999 * time.Millisecond).In(time.FixedZone("east", 7200))
	if c, err := SignManifest(m, private("targets-1", "targets-2")...); err != nil || !bytes.Equal(a, c) {
		t.Errorf("another zone or fraction of a second: %v", err)
	}
}

// TestVerifyBudget: how much memory a stranger's file may cost. The time is for
// the benchmarks to tell, as it depends on what else the machine does.
func TestVerifyBudget(t *testing.T) {
	g := newGenerator(t)
	root, largest, next := g.root(""), g.largestManifest(), g.newRoot(newRootKeys(2), oldAndNew...)
	for name, read := range map[string]func() error{
		"manifest": func() error {
			_, err := verifyManifest(g.good["manifest"], root, wantTest, Floor{}, nil, now)
			return err
		},
		"largest manifest": func() error { _, err := verifyManifest(largest, root, wantTest, Floor{}, nil, now); return err },
		"pointer":          func() error { _, err := verifyPointer(g.good["pointer"], root, wantTest, now); return err },
		"successor":        func() error { _, err := root.Update(next); return err },
	} {
		const runs = 10
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			if err := read(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) / runs; n == 0 || n > 1<<20 {
			t.Errorf("%s: %d bytes allocated, want at most 1 MiB", name, n)
		}
	}
}

// largestManifest is half of what the cap allows, with all the signatures that
// may be.
func (g *generator) largestManifest() []byte {
	names := []string{"targets-1", "targets-2", "targets-3"}
	for i := range dsse.MaxSignatures - len(names) {
		names = append(names, strings.Repeat("s", i+1))
	}
	list := slices.Repeat([]string{`"http://a.example/` + strings.Repeat("a", 1500) + `"`}, MaxURLs)
	return g.seal(kindManifest, g.replace(g.payload["manifest"], theURL, strings.Join(list, ",")), names...)
}

func BenchmarkVerifyManifest(b *testing.B) {
	g := newGenerator(b)
	root := testRoot(b)
	raw := g.good["manifest"]
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := verifyManifest(raw, root, wantTest, Floor{}, nil, now); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEd25519Verify is the part of BenchmarkVerifyManifest that nothing can
// spare: two signatures over the same bytes.
func BenchmarkEd25519Verify(b *testing.B) {
	g := newGenerator(b)
	message := dsse.PAE(ManifestPayloadType, []byte(g.payload["manifest"]))
	keys := public("targets-1", "targets-2")
	var signatures [][]byte
	for _, key := range private("targets-1", "targets-2") {
		signatures = append(signatures, ed25519.Sign(key, message))
	}
	b.ReportAllocs()
	for b.Loop() {
		for i, key := range keys {
			if !ed25519.Verify(key, message, signatures[i]) {
				b.Fatal("refused")
			}
		}
	}
}

func BenchmarkVerifyLargestManifest(b *testing.B) {
	raw := newGenerator(b).largestManifest()
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	verifier := Verifier{Root: testRoot(b), Want: wantTest}
	for b.Loop() {
		if _, err := verifier.Manifest(raw, nil, nil, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	g := newGenerator(b)
	root, next := g.root(""), g.newRoot(newRootKeys(2), oldAndNew...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := root.Update(next); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyPointer(b *testing.B) {
	g := newGenerator(b)
	root := testRoot(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := verifyPointer(g.good["pointer"], root, wantTest, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseRoot(b *testing.B) {
	g := newGenerator(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRoot(g.good["root"]); err != nil {
			b.Fatal(err)
		}
	}
}
