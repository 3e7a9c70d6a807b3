package p2p

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/discover/discovertest"
	"github.com/phasebased/phase/manifest"
)

func keyFrom(seed [32]byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(seed[:]) }

func TestValidate(t *testing.T) {
	now := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	v := validator{now: func() time.Time { return now }}
	at := func(created time.Time, life time.Duration) []byte {
		return discovertest.PointerAt(t, stable, 1, created, life)
	}
	for name, tt := range map[string]struct {
		key   string
		value []byte
		want  error // nil: accepted; errAny: some error
	}{
		"current":                 {stable.Key(), at(now.Add(-day), 7*day), nil},
		"just expired":            {stable.Key(), at(now.Add(-8*day), 7*day), nil},
		"expired for its life":    {stable.Key(), at(now.Add(-14*day-time.Minute), 7*day), errStale},
		"future, as a dead clock": {stable.Key(), at(now.Add(1000*day), 7*day), nil},
		"wrong channel":           {"/phase/testing/x86_64/manifest", at(now, 7*day), errForeign},
		"wrong arch":              {"/phase/stable/arm64/manifest", at(now, 7*day), errForeign},
		"alias as arch":           {"/phase/stable/amd64/manifest", at(now, 7*day), errKey},
		"upper case":              {"/phase/STABLE/x86_64/manifest", at(now, 7*day), errKey},
		"missing part":            {"/phase/stable/manifest", at(now, 7*day), errKey},
		"no slash":                {"phase/stable/x86_64/manifest", at(now, 7*day), errKey},
		"other document":          {"/phase/stable/x86_64/root", at(now, 7*day), errKey},
		"empty":                   {stable.Key(), nil, errSize},
		"too large":               {stable.Key(), make([]byte, MaxRecord+1), errSize},
		"not JSON":                {stable.Key(), []byte("x"), errAny},
		"trailing byte":           {stable.Key(), append(at(now, 7*day), 'x'), errAny},
	} {
		err := v.Validate(tt.key, tt.value)
		if tt.want == errAny && err != nil {
			continue
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

var errAny = errors.New("any error")

// timestampRoot is a root with this timestamp key.
func timestampRoot(t *testing.T, version int64, timestamp ed25519.PrivateKey) *manifest.Root {
	t.Helper()
	roles := map[manifest.Role]manifest.RoleKeys{}
	for role, private := range map[manifest.Role]ed25519.PrivateKey{
		manifest.RoleRoot: key(2), manifest.RoleTargets: key(1), manifest.RoleTimestamp: timestamp,
	} {
		roles[role] = manifest.RoleKeys{Keys: []ed25519.PublicKey{private.Public().(ed25519.PublicKey)}, Threshold: 1}
	}
	raw, err := manifest.NewRoot(manifest.RootSpec{Version: version, Expires: time.Now().Add(365 * 24 * time.Hour), Roles: roles}, key(2))
	if err != nil {
		t.Fatal(err)
	}
	root, err := manifest.ParseRoot(raw)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// With a root only pointers signed by its timestamp key pass.
func TestValidateWithRoot(t *testing.T) {
	root := timestampRoot(t, 1, discovertest.Key())
	v := validator{root: func() *manifest.Root { return root }, now: time.Now}
	good := discovertest.Pointer(t, stable, 1)
	if err := v.Validate(stable.Key(), good); err != nil {
		t.Errorf("good: %v", err)
	}
	p, err := manifest.InspectPointer(good)
	if err != nil {
		t.Fatal(err)
	}
	p.ManifestVersion = 1 << 40
	forged, err := manifest.SignPointer(p, key(9))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Validate(stable.Key(), forged); err == nil {
		t.Error("a stranger's signature was accepted")
	}
	p.RootVersion = 2
	for _, c := range []struct {
		name string
		key  ed25519.PrivateKey
		now  time.Time
		ok   bool
	}{
		{"newer root, our timestamp key", discovertest.Key(), time.Now(), true},
		{"newer root, our timestamp key, long expired", discovertest.Key(), time.Now().Add(60 * 24 * time.Hour), false},
		{"newer root, a stranger's key", key(9), time.Now(), false},
	} {
		later, err := manifest.SignPointer(p, c.key)
		if err != nil {
			t.Fatal(err)
		}
		v := validator{root: func() *manifest.Root { return root }, now: func() time.Time { return c.now }}
		if err := v.Validate(stable.Key(), later); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}

	// The same on the wire: the forgery neither displaces nor precedes the record.
	s := start(t, Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Server: testServer, Root: root})
	if _, err := s.Publish(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	if _, err := client(t, addr(t, s)).Publish(t.Context(), forged); err == nil {
		t.Error("a server with a root stored a forgery")
	}
	if held := s.local(t.Context(), stable.Key()); !bytes.Equal(held, good) {
		t.Error("the record was displaced")
	}
}

// TestSetRoot: after a rotation the new root decides, also about what is stored.
func TestSetRoot(t *testing.T) {
	before, after := timestampRoot(t, 1, discovertest.Key()), timestampRoot(t, 2, key(7))
	s := start(t, Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Server: testServer, Root: before})
	p, err := manifest.InspectPointer(discovertest.Pointer(t, stable, 1))
	if err != nil {
		t.Fatal(err)
	}
	// A thief of the first key claims to be newer than everything.
	p.ManifestVersion, p.RootVersion = 1<<40, 1<<40
	old, err := manifest.SignPointer(p, discovertest.Key())
	if err != nil {
		t.Fatal(err)
	}
	p.ManifestVersion, p.RootVersion = 1, 2
	rotated, err := manifest.SignPointer(p, key(7))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Publish(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Publish(t.Context(), rotated); err == nil {
		t.Error("accepted before the root that it needs")
	}
	s.SetRoot(after)
	if _, err := s.Publish(t.Context(), rotated); err != nil {
		t.Fatal(err)
	}
	if held := s.local(t.Context(), stable.Key()); !bytes.Equal(held, rotated) {
		t.Error("the new key's record is not there")
	}
}

// A seed's clock may be years ahead. What it then takes for long expired reaches
// the verifier all the same, which can say so and ask for the time.
func TestSearchWithAClockThatIsAhead(t *testing.T) {
	s := server(t)
	pointer := discovertest.Pointer(t, stable, 1)
	if _, err := s.Publish(t.Context(), pointer); err != nil {
		t.Fatal(err)
	}
	ahead := start(t, Config{Bootstrap: []string{addr(t, s)}, Now: func() time.Time { return time.Now().AddDate(14, 0, 0) }})
	found, err := search(t, ahead, stable)
	if err != nil || len(found) != 1 || !bytes.Equal(found[0].Pointer, pointer) {
		t.Errorf("found %d, %v", len(found), err)
	}
}

// Twenty records, one newest: the choice does not depend on the order.
func TestSelect(t *testing.T) {
	v := validator{now: time.Now}
	created := time.Now().Add(-time.Hour).Truncate(time.Second)
	make := func(rootVersion, version int64, life time.Duration, url string) []byte {
		p, err := manifest.InspectPointer(discovertest.PointerAt(t, stable, version, created, life))
		if err != nil {
			t.Fatal(err)
		}
		p.RootVersion = rootVersion
		p.URLs = []string{url}
		raw, err := manifest.SignPointer(p, discovertest.Key())
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	day := 24 * time.Hour
	// From the worst to the best.
	a, b := make(2, 20, 8*day, "http://a/"), make(2, 20, 8*day, "http://b/")
	if bytes.Compare(a, b) < 0 {
		a, b = b, a
	}
	ranked := [][]byte{[]byte("rubbish"), bytes.Repeat([]byte("x"), MaxRecord+1)}
	for i := range int64(15) {
		ranked = append(ranked, make(1, 100+i, 7*day, "http://x/"))
	}
	ranked = append(ranked, make(2, 19, 9*day, "http://x/"), make(2, 20, 7*day, "http://x/"), a, b)
	best := ranked[len(ranked)-1]
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		random.Shuffle(len(ranked), func(i, j int) { ranked[i], ranked[j] = ranked[j], ranked[i] })
		i, err := v.Select(stable.Key(), ranked)
		if err != nil || !bytes.Equal(ranked[i], best) {
			t.Fatalf("chose index %d, error %v", i, err)
		}
	}
	if i, err := v.Select(stable.Key(), [][]byte{best, best, best}); i != 0 || err != nil {
		t.Errorf("tie: index %d, error %v", i, err)
	}
	for _, none := range [][][]byte{nil, {[]byte("x")}, {nil, nil}} {
		if _, err := v.Select(stable.Key(), none); err == nil {
			t.Errorf("%q: no error", none)
		}
	}
}

func FuzzValidate(f *testing.F) {
	q := discover.Query{Channel: "stable", Arch: manifest.ArchX8664}
	f.Add(q.Key(), discovertest.Pointer(f, q, 1))
	f.Add(q.Key(), []byte("{}"))
	f.Add("/phase//x86_64/manifest", []byte{})
	v := validator{now: time.Now}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		if v.Validate(key, value) != nil {
			return
		}
		if q, signer, err := parseKey(key); err != nil || q.Key() != key && q.SignedKey(signer) != key {
			t.Errorf("accepted key %q, error %v", key, err)
		}
		if i, err := v.Select(key, [][]byte{value, value}); i != 0 || err != nil {
			t.Errorf("valid but not selectable: index %d, error %v", i, err)
		}
	})
}
