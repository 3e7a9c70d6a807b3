package p2p

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/discover/discovertest"
	"github.com/phasebased/phase/manifest"
)

func publisher() ed25519.PublicKey { return discovertest.Key().Public().(ed25519.PublicKey) }

// forgery claims more than any honest pointer, signed by a stranger.
func forgery(t testing.TB) []byte {
	t.Helper()
	p, err := manifest.InspectPointer(discovertest.PointerAt(t, stable, 1, time.Now().Add(time.Hour), 14*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	p.ManifestVersion, p.RootVersion = 1<<40, 1<<40
	raw, err := manifest.SignPointer(p, key(9))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// In a network whose nodes have no root a stranger is first, with forgeries that claim
// the highest versions at every node. The publisher comes, publishes, and goes. Who knows
// its key finds what it published, and who does not finds forgeries only.
func TestForgeriesFirst(t *testing.T) {
	w := newTown(t, 40)
	forged, good := forgery(t), discovertest.Pointer(t, stable, 7)
	signed := stable.SignedKey(publisher())
	for _, n := range w.nodes {
		plant(t, n, stable, forged)
		if err := n.server.Store(t.Context(), signed, forged); err == nil {
			t.Fatal("a forgery is kept under the publisher's key")
		}
	}
	through := w.some(6)
	leaving := start(t, Config{
		Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Server: testServer, Log: discard,
		Root: timestampRoot(t, 1, discovertest.Key()), Bootstrap: []string{addr(t, through[0]), addr(t, through[1]), addr(t, through[2])},
	})
	if _, err := leaving.Publish(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	if err := leaving.Close(); err != nil {
		t.Fatal(err)
	}
	holders := 0
	for _, n := range w.nodes {
		if bytes.Equal(n.local(t.Context(), signed), good) {
			holders++
		}
		if !bytes.Equal(n.local(t.Context(), stable.Key()), forged) {
			t.Errorf("%s has lost the forgery, so this test is of nothing", n.ID())
		}
	}
	if holders < closest {
		t.Errorf("%d nodes hold the record", holders)
	}
	for name, signers := range map[string]func() []ed25519.PublicKey{
		"who knows the key": func() []ed25519.PublicKey { return []ed25519.PublicKey{publisher()} },
		"others":            nil,
	} {
		c := start(t, Config{Bootstrap: []string{addr(t, through[3]), addr(t, through[4]), addr(t, through[5])}, Signers: signers, Log: discard})
		got, err := search(t, c, stable)
		if err != nil {
			t.Fatal(err)
		}
		real := 0
		for _, candidate := range got {
			if bytes.Equal(candidate.Pointer, good) {
				real++
			}
		}
		if want := map[bool]int{true: 1}[signers != nil]; real != want {
			t.Errorf("%s: %d of %d candidates are the publisher's, want %d", name, real, len(got), want)
		}
	}
}

// A record under a key that names its signer is judged without a root, and with any.
func TestValidateSigned(t *testing.T) {
	now := time.Now()
	good := discovertest.Pointer(t, stable, 1)
	signed := stable.SignedKey(publisher())
	other := discover.Query{Channel: "testing", Arch: stable.Arch}
	weak := stable.Key() + "/" + strings.Repeat("00", 32)
	for name, v := range map[string]validator{
		"no root":        {now: func() time.Time { return now }},
		"another's root": {now: func() time.Time { return now }, root: func() *manifest.Root { return timestampRoot(t, 1, key(7)) }},
	} {
		for what, c := range map[string]struct {
			key   string
			value []byte
			ok    bool
		}{
			"good":              {signed, good, true},
			"from the future":   {signed, discovertest.PointerAt(t, stable, 1, now.AddDate(3, 0, 0), time.Hour), true},
			"long expired":      {signed, discovertest.PointerAt(t, stable, 1, now.AddDate(-1, 0, 0), time.Hour), false},
			"a stranger's":      {signed, forgery(t), false},
			"stranger's own":    {stable.SignedKey(key(9).Public().(ed25519.PublicKey)), forgery(t), true},
			"another channel":   {other.SignedKey(publisher()), good, false},
			"upper case":        {stable.Key() + "/" + strings.ToUpper(hex.EncodeToString(publisher())), good, false},
			"half a key":        {signed[:len(signed)-32], good, false},
			"no key":            {stable.Key() + "/", good, false},
			"more":              {signed + "/x", good, false},
			"a key of no worth": {weak, good, false},
			"empty":             {signed, nil, false},
		} {
			if err := v.Validate(c.key, c.value); (err == nil) != c.ok {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}

// A node with the root and a wrong clock keeps what the publisher has signed, in place of
// nothing, and one with a right clock prefers what is in time.
func TestValidateWithRootAndAWrongClock(t *testing.T) {
	root := timestampRoot(t, 1, discovertest.Key())
	now := time.Now().Truncate(time.Second)
	day := 24 * time.Hour
	good := discovertest.PointerAt(t, stable, 3, now.Add(-day), 7*day)
	for name, c := range map[string]struct {
		clock time.Time
		ok    bool
	}{
		"right": {now, true}, "a dead battery": {time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC), true},
		"an hour behind": {now.Add(-25 * time.Hour), true}, "ten days ahead": {now.Add(10 * day), true}, "a year ahead": {now.AddDate(1, 0, 0), false},
	} {
		v := validator{root: func() *manifest.Root { return root }, now: func() time.Time { return c.clock }}
		if err := v.Validate(stable.Key(), good); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if !c.ok {
			continue
		}
		if err := v.Validate(stable.Key(), forgery(t)); ruleOf(err) != manifest.RuleSignature {
			t.Errorf("%s: a forgery: %v", name, err)
		}
	}
	early := discovertest.PointerAt(t, stable, 9, now.Add(100*day), 7*day)
	late := discovertest.PointerAt(t, stable, 2, now.Add(-9*day), 7*day)
	for name, c := range map[string]struct {
		clock  time.Time
		values [][]byte
		want   int
	}{
		"what is in time":             {now, [][]byte{early, late, good}, 2},
		"all from the future":         {now.AddDate(-5, 0, 0), [][]byte{late, good, early}, 2},
		"what there is":               {now, [][]byte{late}, 0},
		"a renewal that is not later": {now, [][]byte{good, early}, 0},
	} {
		v := validator{root: func() *manifest.Root { return root }, now: func() time.Time { return c.clock }}
		if i, err := v.Select(stable.Key(), c.values); i != c.want || err != nil {
			t.Errorf("%s: chose %d, %v", name, i, err)
		}
	}
	s := start(t, Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Server: testServer, Root: root, Now: func() time.Time { return now.AddDate(-20, 0, 0) }})
	done, err := client(t, addr(t, s)).Publish(t.Context(), good)
	if err != nil || !bytes.Equal(s.local(t.Context(), stable.Key()), good) || len(done.AcknowledgedBy) != 1 {
		t.Errorf("on the wire: %+v, %v", done, err)
	}
}

// What a search takes of records under keys that name signers is bounded, as everywhere.
func TestSignersAreBounded(t *testing.T) {
	s := server(t)
	var signers []ed25519.PublicKey
	for i := range byte(maxSigners + 2) {
		private := key(100 + i)
		signers = append(signers, private.Public().(ed25519.PublicKey))
		p, err := manifest.InspectPointer(discovertest.Pointer(t, stable, int64(i)+1))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := manifest.SignPointer(p, private)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.server.Store(t.Context(), stable.SignedKey(signers[i]), raw); err != nil {
			t.Fatal(err)
		}
	}
	c := start(t, Config{Bootstrap: []string{addr(t, s)}, Signers: func() []ed25519.PublicKey { return signers }})
	if got, err := search(t, c, stable); err != nil || len(got) != maxSigners {
		t.Errorf("found %d, %v", len(got), err)
	}
	if _, _, err := parseKey(stable.Key() + "/x"); !errors.Is(err, errKey) {
		t.Error(err)
	}
}

// A stranger fills a server with records under keys of its own. What the server itself
// publishes still has its place.
func TestFullServerPublishes(t *testing.T) {
	s := start(t, Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Server: testServer, Root: timestampRoot(t, 1, discovertest.Key())})
	stranger := client(t, addr(t, s))
	messenger, err := pb.NewProtocolMessenger(sender{swarm: stranger.swarm, limit: requestTimeout})
	if err != nil {
		t.Fatal(err)
	}
	if connected, failures := stranger.connect(t.Context()); connected != 1 {
		t.Fatal(failures)
	}
	p, err := manifest.InspectPointer(discovertest.Pointer(t, stable, 1))
	if err != nil {
		t.Fatal(err)
	}
	kept, refused := 0, 0
	for i := uint64(0); refused < 3 && i < 5000; i++ {
		private := keyOf("crowd", i)
		raw, err := manifest.SignPointer(p, private)
		if err != nil {
			t.Fatal(err)
		}
		key := stable.SignedKey(private.Public().(ed25519.PublicKey))
		if err := messenger.PutValue(t.Context(), s.swarm.LocalPeer(), putRecord(key, raw)); err != nil {
			refused++
		} else {
			kept++
		}
	}
	if refused != 3 || kept > 2000 {
		t.Fatalf("%d records of one stranger are kept, %d refused", kept, refused)
	}
	good := discovertest.Pointer(t, stable, 7)
	if _, err := s.Publish(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{stable.Key(), stable.SignedKey(publisher())} {
		if !bytes.Equal(s.local(t.Context(), key), good) {
			t.Errorf("%s is not held", key)
		}
	}
}
