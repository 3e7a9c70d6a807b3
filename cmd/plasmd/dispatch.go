package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"sync"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/manifest"
)

// reach is this node's way to others, for those at its job socket. What they ask
// for is signed with their own keys, which the node never sees; it carries bytes.
type reach struct {
	node *p2p.Node // set before the socket is served
}

// Search asks the network who runs jobs on machines of arch; "" is any.
func (r *reach) Search(ctx context.Context, arch string, found func(peer.Peer)) error {
	arches := []string{arch}
	switch arch {
	case manifest.ArchX8664, manifest.ArchARM64:
	case "":
		arches = []string{manifest.ArchX8664, manifest.ArchARM64}
	default:
		return &job.Refusal{Reason: job.Malformed, Detail: fmt.Sprintf("there is no architecture %.40q", arch)}
	}
	var searches sync.WaitGroup
	var mu sync.Mutex // found is called by one at a time
	failed := make([]error, len(arches))
	for i, arch := range arches {
		searches.Go(func() {
			failed[i] = r.node.Workers(ctx, arch, func(p peer.Peer) {
				mu.Lock()
				defer mu.Unlock()
				found(p)
			})
		})
	}
	searches.Wait()
	for _, err := range failed {
		if err == nil {
			return nil
		}
	}
	return failed[0]
}

// For asks other nodes about jobs of submitter.
func (r *reach) For(submitter ed25519.PublicKey) jobapi.Peers {
	return &jobpeer.Client{Open: r.node.Open, Submitter: submitter}
}
