package main

import (
	"crypto/ed25519"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/discover/discovertest"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/manifest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"phase-discover": main})
}

var stable = discover.Query{Channel: "stable", Arch: manifest.ArchX8664}

// The scripts run the command against a real DHT server and a real mirror:
//
//	$PEER   a server that holds version 7 for stable/x86_64, and its ID $PEER_ID
//	$FORGER a server that claims version 1000, signed by a stranger
//	$GONE   a peer that is not there
//	$MIRROR a mirror that still has version 6
//	$WORK/root.json the root that vouches for versions 6 and 7
//	$WORK/old.json  a root whose pointers another key signed, and
//	$WORK/2.root.json its successor, which vouches for versions 6 and 7
func TestScripts(t *testing.T) {
	seven := discovertest.Pointer(t, stable, 7)
	peer := dhtServer(t, seven)
	forger := dhtServer(t, forge(t, seven))
	mirror := mirrorOf(t, discovertest.Pointer(t, stable, 6))
	gone := gonePeer(t, peer.ID())
	files := map[string][]byte{
		"root.json":   rootFile(t, 1, discovertest.Key()),
		"old.json":    rootFile(t, 1, keyOf(3)),
		"2.root.json": rootFile(t, 2, discovertest.Key()),
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PEER", peer.Addrs()[0])
			env.Setenv("PEER_ID", peer.ID())
			env.Setenv("FORGER", forger.Addrs()[0])
			env.Setenv("GONE", gone)
			env.Setenv("MIRROR", mirror)
			for name, data := range files {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), data, 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

func dhtServer(t *testing.T, pointer []byte) *p2p.Node {
	t.Helper()
	n, err := p2p.New(p2p.Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Server: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	if _, err := n.Publish(t.Context(), pointer); err != nil {
		t.Fatal(err)
	}
	return n
}

// forge makes a newer pointer that a stranger signed.
func forge(t *testing.T, raw []byte) []byte {
	t.Helper()
	p, err := manifest.InspectPointer(raw)
	if err != nil {
		t.Fatal(err)
	}
	p.ManifestVersion = 1000
	p.URLs = []string{"http://203.0.113.66/evil"}
	out, err := manifest.SignPointer(p, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func mirrorOf(t *testing.T, pointer []byte) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stable/x86_64/pointer.json", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(pointer)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

func gonePeer(t *testing.T, id string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return "/ip4/127.0.0.1/tcp/" + port + "/p2p/" + id
}

func keyOf(n byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return ed25519.NewKeyFromSeed(seed)
}

// rootFile is a root under which pointers are signed by timestamp. The suite's
// are signed by discovertest.Key.
func rootFile(t *testing.T, version int64, timestamp ed25519.PrivateKey) []byte {
	t.Helper()
	one := func(k ed25519.PrivateKey) manifest.RoleKeys {
		return manifest.RoleKeys{Keys: []ed25519.PublicKey{k.Public().(ed25519.PublicKey)}, Threshold: 1}
	}
	raw, err := manifest.NewRoot(manifest.RootSpec{
		Version: version,
		Expires: time.Now().Add(365 * 24 * time.Hour),
		Roles: map[manifest.Role]manifest.RoleKeys{
			manifest.RoleRoot:      one(keyOf(1)),
			manifest.RoleTargets:   one(keyOf(2)),
			manifest.RoleTimestamp: one(timestamp),
		},
	}, keyOf(1))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
