package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/discover/discovertest"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/p2p/dhtserver"
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
//	$PROXY  a proxy for somebody:p%40ss, behind which every name is that mirror
//	$LOGIN  what every page is behind a login page, $ONLINE what one is without
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
		"nodes.toml":  nodesFile(peer),
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PEER", peer.Addrs()[0])
			env.Setenv("PEER_ID", peer.ID())
			env.Setenv("FORGER", forger.Addrs()[0])
			env.Setenv("GONE", gone)
			env.Setenv("MIRROR", mirror)
			env.Setenv("PROXY", proxyTo(t, mirror))
			env.Setenv("LOGIN", serve(t, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://login.test/?from="+r.URL.Path, http.StatusFound)
			}))
			env.Setenv("ONLINE", serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
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
	n, err := p2p.New(p2p.Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Server: dhtserver.New})
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
	return serve(t, mux.ServeHTTP)
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// proxyTo is the host:port of a proxy that asks this server for whatever one wants.
func proxyTo(t *testing.T, server string) string {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	return strings.TrimPrefix(serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "Basic c29tZWJvZHk6cEBzcw==" { // somebody:p@ss
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		forward.ServeHTTP(w, r)
	}), "http://")
}

// nodesFile is a bootstrap-nodes.toml.
func nodesFile(n *p2p.Node) []byte {
	addr, _, _ := strings.Cut(n.Addrs()[0], "/p2p/")
	return fmt.Appendf(nil, "[[bootstrap]]\npeer_id = %q\naddress = %q\n", n.ID(), addr)
}

// An interrupt ends a search that hangs, with its account; the next one works.
func TestInterrupt(t *testing.T) {
	reached := make(chan struct{}, 1)
	mute := serve(t, func(_ http.ResponseWriter, r *http.Request) { reached <- struct{}{}; <-r.Context().Done() })
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-a", "x86_64", "--no-mdns", "--mirror", mute, "-f", "json")
	cmd.Args[0] = "phase-discover"
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-reached
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	var got struct {
		URL     string `json:"manifest_url"`
		Error   string
		Sources []struct{ Name, Error string }
	}
	err := json.Unmarshal(out.Bytes(), &got)
	if cmd.ProcessState.ExitCode() != 1 || err != nil || got.URL != "" || got.Error != "the search was interrupted" || len(got.Sources) != 1 || got.Sources[0].Error == "" {
		t.Errorf("%v, %v\n%s%s", cmd.ProcessState, err, &out, &errs)
	}
	if !strings.Contains(errs.String(), "ERROR: the search was interrupted\n") || strings.Contains(out.String()+errs.String(), "\x1b") {
		t.Errorf("%q", &errs)
	}
	again := exec.CommandContext(t.Context(), "/proc/self/exe", "-a", "x86_64", "--no-mdns", "--mirror", mirrorOf(t, discovertest.Pointer(t, stable, 6)), "-q")
	again.Args[0] = "phase-discover"
	if url, err := again.Output(); err != nil || !strings.HasPrefix(string(url), "http://") {
		t.Errorf("%q, %v", url, err)
	}
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
