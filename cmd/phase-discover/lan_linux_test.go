package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/cmd/internal/steps"
	"github.com/phasebased/phase/internal/discover/discovertest"
	"github.com/phasebased/phase/internal/mdns"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/p2p/dhtserver"
)

// lan is our address on the test's own network, where we are alone.
const lan = "198.51.100.7"

// All sources are real: a provider announced by multicast DNS, the DHT node that
// it names, a mirror, and a server that accepts and never answers. The command,
// which is told of the last two only, finds the newest through the neighbourhood,
// keeps its time, and tells who gave what.
func TestNeighbourhood(t *testing.T) {
	if !nettest.Isolated(t, nettest.Config{}) {
		return
	}
	nettest.Here(t).Loopback(lan + "/24")
	node, err := p2p.New(p2p.Config{Listen: []string{"/ip4/" + lan + "/tcp/0"}, Server: dhtserver.New})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	if _, err := node.Publish(t.Context(), discovertest.Pointer(t, stable, 7)); err != nil {
		t.Fatal(err)
	}
	announcer, err := mdns.Announce(mdns.Announcement{
		Host: "box", Query: stable, Version: 6, Port: provider(t, discovertest.Pointer(t, stable, 6)), P2P: node.Addrs(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer announcer.Close()
	mute, err := net.Listen("tcp", lan+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	root := filepath.Join(t.TempDir(), "root.json")
	if err := os.WriteFile(root, rootFile(t, 1, discovertest.Key()), 0o644); err != nil {
		t.Fatal(err)
	}
	mirror := "http://" + lan + ":" + strconv.Itoa(provider(t, forge(t, discovertest.Pointer(t, stable, 5))))

	args := []string{"-a", "x86_64", "-k", root, "--mirror", mirror, "--mirror", "http://" + mute.Addr().String(), "-t", "6s"}
	begin := time.Now()
	out, errs := command(t, append(args, "-f", "json")...)
	if took := time.Since(begin); took < 5*time.Second {
		t.Errorf("took %v of 6s, and one is silent", took)
	}
	var got struct {
		Version    int64  `json:"manifest_version"`
		PeerID     string `json:"peer_id"`
		Sources    []account
		Candidates []answer
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs)
	}
	if got.Version != 7 || got.PeerID != node.ID() || len(got.Sources) != 4 {
		t.Errorf("%s", out)
	}
	for _, want := range []account{{mirror, 1, false}, {"http://" + mute.Addr().String(), 0, true}, {"mdns", 1, false}, {"dht-lan", 1, false}} {
		if !has(got.Sources, func(a account) bool { return a == want }) {
			t.Errorf("no account %+v in %s", want, out)
		}
	}
	for _, want := range []answer{{"mdns", "mdns plasmd-box", 6, true}, {"dht-lan", "dht " + node.ID(), 7, true}, {mirror, mirror, 0, false}} {
		if !has(got.Candidates, func(a answer) bool { return a == want }) {
			t.Errorf("no answer %+v in %s", want, out)
		}
	}

	out, errs = command(t, args...)
	for _, want := range []string{
		"mdns plasmd-box gave version 6, verified\n", "dht " + node.ID() + " gave version 7, verified\n", "ignored what " + mirror + " gave: ",
		"mdns ended with 1 candidate\n", "dht-lan ended with 1 candidate\n", "http://" + mute.Addr().String() + " ended with 0 candidates: ", "no answer in the time that there was",
	} {
		if !strings.Contains(errs, want) {
			t.Errorf("%q is missing in\n%s", want, errs)
		}
	}
	if !strings.HasPrefix(out, "MANIFEST_URL=http://") || strings.Count(out, "\n") != 1 {
		t.Errorf("stdout %q", out)
	}

	// Nobody near: listening ends by itself, and the DHT with it.
	if err := announcer.Close(); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	env := steps.Env{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Now: time.Now}
	if code := steps.Discover([]string{"-a", "x86_64"}, env, nets()); code != 1 {
		t.Errorf("exit %d", code)
	}
	if !strings.Contains(stderr.String(), "dht-lan ended with 0 candidates\n") {
		t.Errorf("%s", stderr.String())
	}
}

// account and answer are what the JSON has of sources and candidates, without
// the times.
type account struct {
	Name       string
	Candidates int
	Failed     bool
}

func (a *account) UnmarshalJSON(raw []byte) error {
	var v struct {
		Name       string
		Candidates int
		TookMS     float64 `json:"took_ms"`
		Error      string
	}
	err := json.Unmarshal(raw, &v)
	if v.TookMS <= 0 {
		err = errors.Join(err, errors.New("a source without time"))
	}
	*a = account{v.Name, v.Candidates, v.Error != ""}
	return err
}

type answer struct {
	Source, Origin string
	Version        int64
	Verified       bool
}

func (a *answer) UnmarshalJSON(raw []byte) error {
	var v struct {
		Source, Origin, Reason string
		AtMS                   float64 `json:"at_ms"`
		Version                int64   `json:"manifest_version"`
		Verified               bool
	}
	err := json.Unmarshal(raw, &v)
	if v.AtMS <= 0 || v.Verified == (v.Reason != "") {
		err = errors.Join(err, errors.New("an answer without time, or without reason"))
	}
	*a = answer{v.Source, v.Origin, v.Version, v.Verified}
	return err
}

func has[T any](list []T, ok func(T) bool) bool {
	for _, v := range list {
		if ok(v) {
			return true
		}
	}
	return false
}

// command runs phase-discover, which must succeed.
func command(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := steps.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Now: time.Now}
	if code := steps.Discover(args, env, nets()); code != 0 {
		t.Fatalf("%v: exit %d\n%s%s", args, code, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

// provider serves a pointer on the network and returns the port.
func provider(t *testing.T, pointer []byte) int {
	t.Helper()
	l, err := net.Listen("tcp", lan+":0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(pointer) })}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
	return l.Addr().(*net.TCPAddr).Port
}
