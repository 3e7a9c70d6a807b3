package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/mdns"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/receipt"
)

// startPlain starts a node with a configuration, for as long as the test, and returns
// how others call it.
func startPlain(t *testing.T, config string) peer.Peer {
	t.Helper()
	dir := t.TempDir()
	path, events := filepath.Join(dir, "config.json"), filepath.Join(dir, "events")
	if err := errors.Join(os.WriteFile(path, []byte(config), 0o644), os.WriteFile(events, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	f := startFlags{
		config: path, events: events, state: filepath.Join(dir, "state"),
		speak:   func(mdns.Announcement) (announcer, error) { return nil, errors.New("not here") },
		service: func(log *slog.Logger) *service { return systemService(log) },
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.start(ctx, t.Output()) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for range 6000 {
		raw, _ := os.ReadFile(events)
		for line := range strings.Lines(string(raw)) {
			if e, err := timeline.ParseEvent([]byte(line)); err == nil && e.Event == timeline.EventNodeReady {
				return readyPeer(t, e)
			}
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatal("the node is not up after a minute")
	return peer.Peer{}
}

func readyPeer(t *testing.T, e timeline.Event) peer.Peer {
	t.Helper()
	var ready struct {
		PeerID string   `json:"peer_id"`
		Key    string   `json:"node_key"`
		Addrs  []string `json:"p2p_addrs"`
	}
	if err := json.Unmarshal(e.Data, &ready); err != nil {
		t.Fatal(err)
	}
	key, err := job.ParseKey(ready.Key)
	if err != nil {
		t.Fatal(err)
	}
	return peer.Peer{ID: ready.PeerID, Key: key, Addrs: ready.Addrs}
}

// caller is a node that only asks, with a bootstrap peer.
func caller(t *testing.T, through peer.Peer) *p2p.Node {
	t.Helper()
	n, err := p2p.New(p2p.Config{Bootstrap: through.Addrs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// A node with submitters is found in the DHT, takes their jobs from another node,
// and signs for them; its own limits and walls are told beforehand.
func TestJobsFromOtherNodes(t *testing.T) {
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile("../../examples/hello/hello.wasm")
	if err != nil {
		t.Fatal(err)
	}
	first := startPlain(t, `{"listen_addrs":["/ip4/127.0.0.1/tcp/0"],"job_socket":"none"}`)
	worker := startPlain(t, fmt.Sprintf(`{"listen_addrs":["/ip4/127.0.0.1/tcp/0"],"job_socket":"none","bootstrap_peers":[%q],"submitters":[%q]}`,
		first.Addrs[0], job.FormatKey(public)))
	n := caller(t, first)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if got := findWorker(ctx, t, n); got.ID != worker.ID {
		t.Errorf("%s is announced, and %s takes jobs", got.ID, worker.ID)
	}
	c := &jobpeer.Client{Open: n.Open, Submitter: public, AnswerTimeout: time.Minute, SilentTimeout: time.Minute}
	capacity, err := c.Capacity(ctx, worker)
	if err != nil || !capacity.Accepts || capacity.Arch != canonicalArch() || capacity.Engine == "" || len(capacity.Walls) == 0 || capacity.MaxRunning != 4 {
		t.Errorf("%+v, %v", capacity, err)
	}
	var e *jobpeer.Error
	if _, err := c.Capacity(ctx, first); !errors.As(err, &e) || e.Kind != jobpeer.Unreachable {
		t.Errorf("a node without submitters: %v", err)
	}

	j, err := job.New(job.Spec{Version: job.SpecVersion, Module: blob.Of(module), Args: []string{"Hello, World"}})
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := job.SignSubmission(j, worker.Key, time.Now().Add(time.Hour), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Push(ctx, worker, envelope, blob.Of(module), int64(len(module)), bytes.NewReader(module)); err != nil {
		t.Fatal(err)
	}
	a, err := c.Submit(ctx, worker, envelope, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := receipt.Verify(a.Receipt, worker.Key); err != nil || r.Result.JobID != j.ID() || r.Result.Stdout.Digest != blob.Of(a.Stdout) {
		t.Errorf("%+v, %v", r, err)
	}
	if got := strings.TrimSpace(string(a.Stdout)); got != "dlroW ,olleH" {
		t.Errorf("%q", got)
	}
}

// findWorker asks until somebody has announced themselves.
func findWorker(ctx context.Context, t *testing.T, n *p2p.Node) (got peer.Peer) {
	t.Helper()
	for got.ID == "" {
		if err := n.Workers(ctx, canonicalArch(), func(p peer.Peer) { got = p }); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
			t.Fatal("nobody is announced")
		case <-time.After(50 * time.Millisecond):
		}
	}
	return got
}
