package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/quorum"
	"github.com/phasebased/phase/receipt"
)

// startWithSocket starts a node that listens to nobody else, and returns a client of
// its socket.
func startWithSocket(t *testing.T, submitters string) (*jobapi.Client, ed25519.PublicKey) {
	t.Helper()
	dir, err := os.MkdirTemp("", "plasmd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	own := startPlain(t, fmt.Sprintf(`{"listen_addrs":[],"job_socket":%q,"submitters":[%s]}`, socket, submitters))
	c := jobapi.NewClient(socket)
	t.Cleanup(c.Close)
	return c, own.Key
}

// Those at the socket can ask their own node as one among others: it takes signed jobs
// and commits itself, though it listens to nobody.
func TestOwnNodeAmongOthers(t *testing.T) {
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile("../../examples/hello/hello.wasm")
	if err != nil {
		t.Fatal(err)
	}
	c, node := startWithSocket(t, fmt.Sprintf("%q", job.FormatKey(public)))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	remote, at := c.Remote(public), peer.Peer{Key: node}
	capacity, err := remote.Capacity(ctx, at)
	if err != nil || !capacity.Accepts || !capacity.Quorum || capacity.Node != job.FormatKey(node) {
		t.Fatalf("%+v, %v", capacity, err)
	}
	j, err := job.New(job.Spec{Version: job.SpecVersion, Module: blob.Of(module), Args: []string{"abc"}})
	if err != nil {
		t.Fatal(err)
	}
	plan := quorum.Plan{
		JobID: j.ID(), Submitter: public, Nodes: []quorum.Node{{Key: node}, {Key: public}},
		Replicas: 2, Quorum: 2, MaxNodes: 2, CostTable: capacity.CostTable, Nonce: "0123456789abcdef",
	}
	digest, err := plan.Digest()
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := job.SignReplica(j, digest, node, time.Now().Add(time.Hour), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Push(ctx, at, envelope, blob.Of(module), int64(len(module)), bytes.NewReader(module)); err != nil {
		t.Fatal(err)
	}
	commitment, err := remote.Commit(ctx, at, envelope, nil)
	if err != nil {
		t.Fatal(err)
	}
	set, err := quorum.SignSet(plan, nil, [][]byte{commitment}, key)
	if err != nil {
		t.Fatal(err)
	}
	a, err := remote.Reveal(ctx, at, j.ID(), set)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := receipt.Verify(a.Receipt, node); err != nil || s.Result.Stdout.Digest != blob.Of(a.Stdout) || len(a.Stdout) == 0 {
		t.Errorf("%q, %v", a.Stdout, err)
	}
}

func TestOwnNodeWithoutSubmitters(t *testing.T) {
	c, node := startWithSocket(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var refusal *job.Refusal
	if _, err := c.Remote(nil).Capacity(ctx, peer.Peer{Key: node}); !errors.As(err, &refusal) || refusal.Reason != job.Unauthorised {
		t.Errorf("%v", err)
	}
}

func TestStreamsToOnePeer(t *testing.T) {
	r := &reach{}
	var leave func()
	for range maxPeerStreams {
		var err error
		if leave, err = r.enter(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.enter(t.Context(), "b"); err != nil {
		t.Errorf("another peer: %v", err)
	}
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	if _, err := r.enter(ctx, "a"); !errors.Is(err, enough) {
		t.Errorf("one more: %v", err)
	}
	come := make(chan func())
	go func() {
		more, err := r.enter(t.Context(), "a")
		if err != nil {
			t.Error(err)
		}
		come <- more
	}()
	leave()
	(<-come)()
	if l := r.streams["a"]; l.users != maxPeerStreams-1 || len(l.places) != l.users {
		t.Errorf("%d places, %d users", len(l.places), l.users)
	}
}
