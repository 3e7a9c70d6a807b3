package p2p

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"github.com/phasebased/phase/blob"
)

const (
	// MaxHeld is how many blobs one node announces: a release with its chunk lists
	// and patches has far fewer.
	MaxHeld = 64
	// HoldLife is how long an announcement is believed. A machine that was switched
	// off is asked in vain for as long.
	HoldLife = 45 * time.Minute
	// holdEvery renews it twice before.
	holdEvery = 20 * time.Minute
)

// A Holding is a blob that the node announces, with what is known of that.
type Holding struct {
	Blob blob.Digest
	// At is when it was announced last; zero: not yet.
	At time.Time
	// AcknowledgedBy are the IDs of the nodes that, asked afterwards who holds the
	// blob, named this one. This node is among them, as seeds may ask it.
	AcknowledgedBy []string
	// Err is why the latest attempt failed, nil if it did not.
	Err error
}

// Expires is until when the announcement is believed.
func (h Holding) Expires() time.Time { return h.At.Add(HoldLife) }

// announcing is what a node announces.
type announcing struct {
	mu      sync.Mutex
	list    []Holding
	changed chan struct{}
}

// Hold sets which blobs this node announces that it has, in place of those that it
// announced before, most important first; what is beyond MaxHeld is left out. The
// announcements are made by Run, at once and every 20 minutes, and when new peers
// appear. They are believed for 45 minutes: what is not held any more is not renewed.
// A node that does not listen has nothing to announce and gets an error.
func (n *Node) Hold(blobs []blob.Digest) error {
	if n.server == nil {
		return errors.New("p2p: hold: this node does not listen")
	}
	h := &n.held
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []Holding
	for _, d := range blobs {
		if len(list) == MaxHeld || slices.ContainsFunc(list, func(o Holding) bool { return o.Blob == d }) {
			continue
		}
		item := Holding{Blob: d}
		if i := slices.IndexFunc(h.list, func(o Holding) bool { return o.Blob == d }); i >= 0 {
			item = h.list[i]
		}
		list = append(list, item)
	}
	h.list = list
	signal(h.changed)
	return nil
}

// Held are the blobs that this node announces, in the order of Hold.
func (n *Node) Held() []Holding {
	n.held.mu.Lock()
	defer n.held.mu.Unlock()
	return slices.Clone(n.held.list)
}

// keepHeld announces what is held: what is new at once, the rest when it is due,
// and all of it soon after peers appeared, as long as few know of it. What could not
// be announced is tried again sooner.
func (n *Node) keepHeld(ctx context.Context, arrived <-chan struct{}) {
	next := time.NewTimer(holdEvery)
	defer next.Stop()
	wait, gathering := firstRetry, false
	due := time.Time{} // what was announced before this is announced again
	for {
		select {
		case <-ctx.Done():
			return
		case <-arrived:
			if !gathering && n.littleKnown() {
				gathering, due = true, n.now()
				next.Reset(n.gather)
			}
			continue
		case <-n.held.changed:
		case <-next.C:
			gathering = false
		}
		if before := n.now().Add(-holdEvery + time.Minute); before.After(due) {
			due = before
		}
		if n.announceHeld(ctx, due) {
			wait = firstRetry
			if !gathering {
				next.Reset(holdEvery)
			}
			continue
		}
		next.Reset(wait)
		wait = min(2*wait, lastRetry)
	}
}

// littleKnown reports whether newcomers make a difference: whether there is a blob
// of which fewer nodes know than are told of it.
func (n *Node) littleKnown() bool {
	return slices.ContainsFunc(n.Held(), func(h Holding) bool { return len(h.AcknowledgedBy) < closest })
}

// announceHeld announces what was not since due, and reports whether all of it
// could be.
func (n *Node) announceHeld(ctx context.Context, due time.Time) bool {
	for _, item := range n.Held() {
		if ctx.Err() != nil {
			return true
		}
		if item.Err == nil && item.At.After(due) {
			continue
		}
		acknowledged, err := n.announceBlob(ctx, item.Blob)
		if ctx.Err() != nil {
			return true
		}
		n.note(item.Blob, acknowledged, err)
		if err != nil { // it would not be otherwise with the next
			n.log.Debug("blob not announced", "blob", item.Blob, "error", plain(err))
			return false
		}
	}
	return true
}

// note records an attempt, unless the blob is not held any more.
func (n *Node) note(d blob.Digest, acknowledged []string, err error) {
	n.held.mu.Lock()
	defer n.held.mu.Unlock()
	for i := range n.held.list {
		if item := &n.held.list[i]; item.Blob == d {
			if item.Err = err; err == nil {
				item.At, item.AcknowledgedBy = n.now(), acknowledged
			}
		}
	}
}

// blobHash is how the DHT names a blob: as IPFS would name it, were it one block.
func blobHash(d blob.Digest) (multihash.Multihash, error) {
	sum, err := hex.DecodeString(d.Hex())
	if err != nil {
		return nil, err
	}
	return multihash.Encode(sum, multihash.SHA2_256)
}

// announceBlob tells the nodes nearest to a blob's place, and those to start from,
// that this one has it, and returns those that say so themselves afterwards.
func (n *Node) announceBlob(ctx context.Context, d blob.Digest) ([]string, error) {
	hash, err := blobHash(d)
	if err == nil {
		err = n.server.Provides(ctx, hash)
	}
	if err != nil {
		return nil, fmt.Errorf("p2p: announce %s: %w", d, err)
	}
	answers, err := n.providers(ctx, hash, func([]peer.AddrInfo) {})
	if err != nil {
		return nil, fmt.Errorf("p2p: announce %s: %w", d, err)
	}
	if len(answers) == 0 && len(n.bootstrap) > 0 {
		return nil, fmt.Errorf("p2p: announce %s: no other node answered", d)
	}
	var to []peer.ID
	for i, p := range answers {
		if i < closest || n.knows(p) {
			to = append(to, p)
		}
	}
	told := n.each(to, func(p peer.ID) error { return n.announceTo(ctx, p, hash) })
	return append([]string{n.ID()}, told...), nil
}

// errNotNoted is of a peer that took an announcement and does not pass it on.
var errNotNoted = errors.New("took the announcement and does not pass it on")

// announceTo tells one peer, and asks it back.
func (n *Node) announceTo(ctx context.Context, p peer.ID, hash multihash.Multihash) error {
	messenger, err := pb.NewProtocolMessenger(sender{swarm: n.swarm, limit: n.cfg.limit(requestTimeout)})
	if err != nil {
		return err
	}
	self := n.swarm.LocalPeer()
	if err := messenger.PutProviderAddrs(ctx, p, hash, peer.AddrInfo{ID: self, Addrs: n.server.Addrs()}); err != nil {
		return err
	}
	known, _, err := messenger.GetProviders(ctx, p, hash)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(known, func(i *peer.AddrInfo) bool { return i.ID == self }) {
		return errNotNoted
	}
	return nil
}
