package p2p

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/phasebased/phase/manifest"
)

const (
	// gather is how long Run waits after a new peer appeared before it publishes
	// again, so that a crowd of arrivals costs one publication. Tests wait less.
	gather = 30 * time.Second
	// A node without bootstrap peers tries them again after firstRetry, and twice
	// as long after each failure, up to lastRetry.
	firstRetry, lastRetry = 2 * time.Second, 5 * time.Minute
)

// Run connects to the bootstrap peers, looks up their names and connects again
// when it lost all of them, announces what Hold says, and keeps alive what Publish
// published and, if it has a root, what it stores for others. It blocks until ctx
// is done and then returns nil; it fails only if the node cannot watch its own
// network.
func (n *Node) Run(ctx context.Context) error {
	sub, err := n.bus.Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted),
		new(event.EvtPeerConnectednessChanged),
	})
	if err != nil {
		return fmt.Errorf("p2p: watch the network: %w", err)
	}
	defer sub.Close()

	// The network waits for its watchers, so the work is done elsewhere.
	left, records, blobs := make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	arrived := func() { signal(records); signal(blobs) }
	var working sync.WaitGroup
	defer working.Wait()
	working.Go(func() { n.stayConnected(ctx, left, arrived) })
	working.Go(func() { n.keepAlive(ctx, records) })
	working.Go(func() { n.keepHeld(ctx, blobs) })
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-sub.Out():
			switch e := e.(type) {
			case event.EvtPeerIdentificationCompleted:
				if slices.Contains(e.Protocols, protoKad) {
					arrived()
				}
			case event.EvtPeerConnectednessChanged:
				if e.Connectedness != network.Connected {
					signal(left)
				}
			}
		}
	}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is pending already
	}
}

// stayConnected reaches the bootstrap peers at once, and again when the last of
// them left.
func (n *Node) stayConnected(ctx context.Context, left <-chan struct{}, arrived func()) {
	if len(n.bootstrap) == 0 {
		return
	}
	wait := firstRetry
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-left:
			retry.Reset(wait)
		case <-retry.C:
			if n.attached() {
				wait = firstRetry
				continue
			}
			if n.reconnect(ctx) > 0 {
				arrived()
				continue
			}
			retry.Reset(wait)
			wait = min(2*wait, lastRetry)
		}
	}
}

// attached reports whether the node is connected to a bootstrap peer.
func (n *Node) attached() bool {
	return slices.ContainsFunc(n.starters(), func(p peer.ID) bool {
		return n.swarm.Connectedness(p) == network.Connected
	})
}

// reconnect looks up the names of bootstrap peers, tries all of them, and returns
// how many it reached.
func (n *Node) reconnect(ctx context.Context) int {
	connected, failures := n.connect(ctx)
	for _, f := range failures {
		n.log.Warn("bootstrap peer not reached", "peer", f.Peer, "error", plain(f.Err))
	}
	n.log.Info("bootstrap", "connected", connected, "failed", len(failures))
	return connected
}

// keepAlive publishes again every republishEvery, and soon after nodes appeared
// that can store records. What it holds for others it renews as often.
func (n *Node) keepAlive(ctx context.Context, arrived <-chan struct{}) {
	next, renewal := time.NewTimer(republishEvery), time.NewTimer(spread())
	defer next.Stop()
	defer renewal.Stop()
	gathering := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-arrived:
			if !gathering {
				gathering = true
				next.Reset(n.gather)
			}
		case <-next.C:
			gathering = false
			next.Reset(republishEvery)
			n.republish(ctx)
		case <-renewal.C:
			renewal.Reset(spread())
			n.renewHeld(ctx)
		}
	}
}

// spread is when to renew next what others published.
func spread() time.Duration { return republishEvery + rand.N(renewSpread) }

// renewHeld renews the records that others published and this node stores, so
// that they outlive a publisher who left, until they expire. Only a node with a
// root does that, and only with its publisher's: otherwise it would help forgeries
// along.
func (n *Node) renewHeld(ctx context.Context) {
	root := n.root.Load()
	if n.server == nil || root == nil {
		return
	}
	role, _ := root.Keys(manifest.RoleTimestamp)
	for _, key := range n.server.Records() {
		n.mu.Lock()
		_, own := n.published[key]
		n.mu.Unlock()
		_, signer, err := parseKey(key)
		ours := signer == nil || slices.ContainsFunc(role.Keys, func(k ed25519.PublicKey) bool { return k.Equal(signer) })
		if own || !ours || err != nil || ctx.Err() != nil {
			continue
		}
		if err := n.renew(ctx, key); err != nil {
			n.log.Debug("renew", "key", key, "error", plain(err))
		}
	}
}

// renew offers the best valid record under key, this node's or another's, to
// those without it. So a node that missed a newer one while the network was cut
// catches up.
func (n *Node) renew(ctx context.Context, key string) error {
	values := [][]byte{n.local(ctx, key)}
	n.fetch(ctx, []string{key}, func(_ peer.ID, _ string, held []byte) {
		if n.validator.Validate(key, held) == nil && !slices.ContainsFunc(values, func(v []byte) bool { return bytes.Equal(v, held) }) {
			values = append(values, held)
		}
	})
	best, err := n.validator.Select(key, values)
	if err != nil {
		return err
	}
	_, err = n.put(ctx, key, values[best])
	return err
}

// republish publishes again what has not expired and drops the rest.
func (n *Node) republish(ctx context.Context) {
	n.mu.Lock()
	todo := maps.Clone(n.published)
	n.mu.Unlock()
	for key, p := range todo {
		if n.now().After(p.Expires) {
			n.settle(key, p, func() { delete(n.published, key) })
			continue
		}
		done, err := n.put(ctx, key, p.pointer)
		n.settle(key, p, func() {
			if p.Err = err; err == nil {
				p.Last = done
			}
		})
		if err != nil {
			n.log.Warn("republish", "key", key, "error", plain(err))
		}
	}
}

// settle applies a change unless Publish replaced the record meanwhile.
func (n *Node) settle(key string, p *Publication, change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.published[key] == p {
		change()
	}
}
