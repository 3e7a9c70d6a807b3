package p2p

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
)

const (
	// gather is how long Run waits after a new peer appeared before it publishes
	// again, so that a crowd of arrivals costs one publication.
	gather = 5 * time.Second
	// A node without peers tries its bootstrap peers again after firstRetry, and
	// twice as long after each failure, up to lastRetry.
	firstRetry, lastRetry = 2 * time.Second, 5 * time.Minute
)

// Run connects to the bootstrap peers, connects again whenever no peer is left,
// and keeps alive what Publish published. It blocks until ctx is done and then
// returns nil; it fails only if the node cannot watch its own network.
func (n *Node) Run(ctx context.Context) error {
	sub, err := n.host.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted),
		new(event.EvtPeerConnectednessChanged),
	})
	if err != nil {
		return fmt.Errorf("p2p: watch the network: %w", err)
	}
	defer sub.Close()

	republish := time.NewTimer(republishEvery)
	defer republish.Stop()
	due := time.Now().Add(republishEvery)
	wait := firstRetry
	reconnect := time.NewTimer(0)
	defer reconnect.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-reconnect.C:
			if n.Peers() == 0 && len(n.bootstrap) > 0 {
				n.reconnect(ctx)
				reconnect.Reset(wait)
				wait = min(2*wait, lastRetry)
			}
		case e := <-sub.Out():
			switch e := e.(type) {
			case event.EvtPeerIdentificationCompleted:
				wait = firstRetry
				if soon := time.Now().Add(gather); slices.Contains(e.Protocols, protoKad) && soon.Before(due) {
					due = soon
					republish.Reset(gather)
				}
			case event.EvtPeerConnectednessChanged:
				if e.Connectedness != network.Connected && n.Peers() == 0 {
					reconnect.Reset(wait)
				}
			}
		case <-republish.C:
			due = time.Now().Add(republishEvery)
			republish.Reset(republishEvery)
			n.republish(ctx)
		}
	}
}

func (n *Node) reconnect(ctx context.Context) {
	connected, failures := n.connect(ctx)
	for _, f := range failures {
		n.log.Warn("bootstrap peer not reached", "peer", f.Peer, "error", plain(f.Err))
	}
	n.log.Info("bootstrap", "connected", connected, "failed", len(failures))
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
