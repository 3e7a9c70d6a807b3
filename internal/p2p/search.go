package p2p

import (
	"context"
	"errors"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
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
	offer(n.host.ID(), own)
	failures, answers := n.fetch(ctx, q.Key(), offer)
	if len(answers) == 0 && own == nil {
		return n.unreachable(ctx, failures)
	}
	return nil
}

// fetch asks the network for key, passes on what each peer holds, and returns
// who failed and who answered, the nearest first.
func (n *Node) fetch(ctx context.Context, key string, held func(peer.ID, []byte)) (failures, []peer.ID) {
	ask := func(ctx context.Context, p peer.ID) (r reply) {
		messenger, err := pb.NewProtocolMessenger(sender{n.host, &r.at})
		if err != nil {
			return reply{err: err}
		}
		rec, closer, err := messenger.GetValue(ctx, p, key)
		r.value, r.closer, r.err = rec.GetValue(), closer, err
		return r
	}
	failed := failures{}
	answers := n.walk(ctx, []byte(key), ask, func(r reply) {
		if r.err != nil {
			failed[r.label()] = r.err
			n.log.Debug("peer failed", "peer", r.label(), "error", plain(r.err))
			return
		}
		held(r.from, r.value)
	})
	return failed, answers
}

// local is the record this node itself stores under key, nil if none.
func (n *Node) local(ctx context.Context, key string) []byte {
	if n.values == nil {
		return nil
	}
	rec, err := n.values.Get(ctx, key)
	if err != nil {
		n.log.Warn("own record store", "error", err)
	}
	return rec.GetValue()
}
