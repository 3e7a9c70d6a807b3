package p2p

import (
	"context"
	"errors"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/phasebased/phase/internal/discover"
)

var _ discover.Source = (*Node)(nil)

// maxStrangers bounds the distinct records that peers other than the bootstrap
// peers contribute to one search, so that a crowd of forgers does not use up the
// candidates a source may yield.
const maxStrangers = discover.MaxCandidates / 2

// Search asks the bootstrap peers and the peers closest to the key for the
// pointer and yields every distinct one that passes this node's checks, naming
// the first peer that gave it. It runs to completion: with 40 of 50 nodes stale,
// stopping at the first answer missed the newest record in 9 of 30 tries.
//
// It fails with *UnreachableError if nobody answered.
func (n *Node) Search(ctx context.Context, q discover.Query, found func(discover.Candidate)) error {
	if err := q.Validate(); err != nil {
		return err
	}
	seen := map[string]bool{}
	strangers := 0
	offer := func(from peer.ID, value []byte) {
		if value == nil || seen[string(value)] {
			return
		}
		// A record that seems to be long expired is handed on: it may be our
		// clock that is ahead, and who asks can find out and say so.
		if err := n.validator.Validate(q.Key(), value); err != nil && !errors.Is(err, errStale) {
			n.log.Debug("record refused", "peer", from, "bytes", len(value), "error", err)
			return
		}
		if !n.knows(from) {
			if strangers++; strangers > maxStrangers {
				return
			}
		}
		seen[string(value)] = true
		found(discover.Candidate{Pointer: value, Origin: "dht " + from.String()})
	}
	own := n.local(ctx, q.Key())
	offer(n.swarm.LocalPeer(), own)
	failures, answers := n.fetch(ctx, q.Key(), offer)
	if len(answers) == 0 && own == nil {
		return n.unreachable(ctx, failures)
	}
	return nil
}

// local is the record this node itself stores under key, nil if none.
func (n *Node) local(ctx context.Context, key string) []byte {
	if n.server == nil {
		return nil
	}
	value, err := n.server.Record(ctx, key)
	if err != nil {
		n.log.Warn("own record store", "error", err)
	}
	return value
}
