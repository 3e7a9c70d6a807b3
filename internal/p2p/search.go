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

// maxSigned bounds the distinct records under each key that names its signer: there
// is one, and what is left of those before it.
const maxSigned = 4

// maxSigners bounds the keys that name a signer in one search.
const maxSigners = 4

// Search asks the bootstrap peers and the peers closest to the key for the
// pointer and yields every distinct one that passes this node's checks, naming
// the first peer that gave it. It runs to completion: with 40 of 50 nodes stale,
// stopping at the first answer missed the newest record in 9 of 30 tries.
//
// Beside the key of the channel and architecture it asks for those that name one of
// Config.Signers, at the same peers: what is found there that signer has signed.
//
// It fails with *UnreachableError if nobody answered.
func (n *Node) Search(ctx context.Context, q discover.Query, found func(discover.Candidate)) error {
	if err := q.Validate(); err != nil {
		return err
	}
	keys := []string{q.Key()}
	if n.cfg.Signers != nil {
		for _, signer := range n.cfg.Signers() {
			if len(keys) <= maxSigners {
				keys = append(keys, q.SignedKey(signer))
			}
		}
	}
	seen := map[string]bool{}
	strangers := map[string]int{}
	offer := func(from peer.ID, key string, value []byte) {
		if value == nil || seen[string(value)] {
			return
		}
		// A record that seems to be long expired is handed on: it may be our
		// clock that is ahead, and who asks can find out and say so.
		if err := n.validator.Validate(key, value); err != nil && !errors.Is(err, errStale) {
			n.log.Debug("record refused", "peer", from, "bytes", len(value), "error", err)
			return
		}
		most := maxSigned
		if key == q.Key() {
			most = maxStrangers
		}
		if key != q.Key() || !n.knows(from) {
			if strangers[key]++; strangers[key] > most {
				return
			}
		}
		seen[string(value)] = true
		found(discover.Candidate{Pointer: value, Origin: "dht " + from.String()})
	}
	held := false
	for _, key := range keys {
		own := n.local(ctx, key)
		held = held || own != nil
		offer(n.swarm.LocalPeer(), key, own)
	}
	failures, answers := n.fetch(ctx, keys, offer)
	if len(answers) == 0 && !held {
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
