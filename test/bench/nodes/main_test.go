package main

import (
	"context"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/manifest"
)

// A small network holds a pointer that its root vouches for, and finds it for a
// stranger; a node that is closed refuses it.
func TestNetwork(t *testing.T) {
	pointer, file, err := sign(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	root, err := manifest.ParseRoot(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	nodes, err := join(ctx, 4, "127.0.0.1")
	for _, n := range nodes {
		defer n.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	nodes[2].closed.Store(true)
	done, err := nodes[3].Publish(ctx, pointer)
	if err != nil || len(done.AcknowledgedBy) != 3 {
		t.Fatalf("%d of 3 hold it, error %v", len(done.AcknowledgedBy), err)
	}
	asker, err := p2p.New(p2p.Config{Bootstrap: nodes[2].Addrs()})
	if err != nil {
		t.Fatal(err)
	}
	defer asker.Close()
	want := manifest.Want{Channel: manifest.ChannelStable, Arch: manifest.ArchX8664}
	verified := 0
	err = asker.Search(ctx, discover.Query{Channel: want.Channel, Arch: want.Arch}, func(c discover.Candidate) {
		v, err := manifest.Verifier{Root: root, Want: want}.Pointer(c.Pointer, time.Now())
		if err != nil || v.Pointer().ManifestVersion != 1 {
			t.Errorf("found %v, error %v", v, err)
		}
		verified++
	})
	if err != nil || verified != 1 {
		t.Errorf("%d verified, error %v", verified, err)
	}
}
