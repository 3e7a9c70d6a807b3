package p2p

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/manifest"
)

// Published is the outcome of one publication, as measured.
type Published struct {
	// Key is the DHT key.
	Key string
	// At is when it was done.
	At time.Time
	// AcknowledgedBy are the IDs of the nodes that gave these very bytes when asked
	// for the record. A server that is alone names only itself: seeds that ask it will
	// find the record, nobody else will.
	AcknowledgedBy []string
	// Size is that of the record in bytes.
	Size int
}

// A Publication is a record that the node keeps alive, with what is known of it.
type Publication struct {
	// Last is the latest successful publication.
	Last Published
	// Expires is the end of the pointer's life; it is not published after that.
	Expires time.Time
	// Err is why the latest attempt failed, nil if it did not.
	Err error

	pointer []byte
}

// Publish stores a signed pointer under the key of its own channel and
// architecture: on this node if it is a server, on the peers closest to each of
// the key's places, and on all bootstrap peers. It succeeds if at least one node
// holds it. A
// pointer that this node's checks refuse, or that is older than one it holds, is
// an error. If this node has a root, the pointer is stored once more, at the same
// places, under the key that names who signed it: there nobody's forgery is kept, also
// not by nodes without a root. While Run runs, the pointer is published again every 6 hours, and
// when new peers appear, until it expires or a newer one is published.
func (n *Node) Publish(ctx context.Context, pointer []byte) (Published, error) {
	if len(pointer) > MaxRecord {
		return Published{}, fmt.Errorf("p2p: publish: %w", errSize)
	}
	p, err := manifest.InspectPointer(pointer)
	if err != nil {
		return Published{}, fmt.Errorf("p2p: publish: %w", err)
	}
	key := discover.Query{Channel: p.Channel, Arch: p.Arch}.Key()
	if err := n.validator.Validate(key, pointer); err != nil {
		return Published{}, fmt.Errorf("p2p: publish %s: %w", key, err)
	}
	done, err := n.publish(ctx, key, p, pointer)
	if err != nil {
		return Published{}, err
	}
	for _, signed := range n.signedKeys(p) {
		if n.validator.Validate(signed, pointer) != nil {
			continue // another key of the role has signed
		}
		if _, err := n.publish(ctx, signed, p, pointer); err != nil {
			n.log.Warn("publish", "key", signed, "error", plain(err))
		}
	}
	return done, nil
}

// publish stores a checked record and remembers to keep it alive.
func (n *Node) publish(ctx context.Context, key string, p manifest.Pointer, pointer []byte) (Published, error) {
	done, err := n.put(ctx, key, bytes.Clone(pointer))
	if err != nil {
		return Published{}, fmt.Errorf("p2p: publish %s: %w", key, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.published[key] = &Publication{Last: done, Expires: p.ExpiresAt, pointer: bytes.Clone(pointer)}
	return done, nil
}

// signedKeys are the keys that name a timestamp key of this node's root, under which
// a pointer may stand beside that of its channel and architecture.
func (n *Node) signedKeys(p manifest.Pointer) (keys []string) {
	root := n.root.Load()
	if root == nil {
		return nil
	}
	role, _ := root.Keys(manifest.RoleTimestamp)
	for _, signer := range role.Keys {
		keys = append(keys, discover.Query{Channel: p.Channel, Arch: p.Arch}.SignedKey(signer))
	}
	return keys
}

// Publications are the records this node keeps alive, ordered by key; of those under
// keys that name who signed nothing is told.
func (n *Node) Publications() []Publication {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []Publication
	for _, key := range slices.Sorted(maps.Keys(n.published)) {
		if _, signer, _ := parseKey(key); signer == nil {
			out = append(out, *n.published[key])
		}
	}
	return out
}

// put stores a checked record and counts who holds it.
func (n *Node) put(ctx context.Context, key string, value []byte) (Published, error) {
	var holders []string
	if n.server != nil {
		if err := n.server.Store(ctx, key, value); err != nil {
			return Published{}, err
		}
		holders = append(holders, n.ID())
	}
	var lacking []peer.ID
	failed, answers := n.fetch(ctx, []string{key}, func(from peer.ID, _ string, held []byte) {
		if bytes.Equal(held, value) {
			holders = append(holders, from.String())
		} else {
			lacking = append(lacking, from)
		}
	})
	holders = append(holders, n.offer(ctx, key, value, lacking)...)
	switch {
	case len(holders) > 0:
		return Published{Key: key, At: n.now(), AcknowledgedBy: holders, Size: len(value)}, nil
	case len(answers) == 0:
		return Published{}, n.unreachable(ctx, failed)
	}
	return Published{}, fmt.Errorf("%d peers answered, none accepted the record", len(answers))
}

// offer asks peers to store a record and returns those that then hold it.
func (n *Node) offer(ctx context.Context, key string, value []byte, peers []peer.ID) []string {
	return n.each(peers, func(p peer.ID) error { return n.give(ctx, p, key, value) })
}

// each tells peers something, several at the same time, and returns those that
// took it.
func (n *Node) each(peers []peer.ID, tell func(peer.ID) error) []string {
	refusals := make([]error, len(peers))
	var telling sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for i, p := range peers {
		telling.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			refusals[i] = tell(p)
		})
	}
	telling.Wait()
	var accepted []string
	for i, err := range refusals {
		if err != nil {
			n.log.Debug("record not accepted", "peer", peers[i], "error", plain(err))
			continue
		}
		accepted = append(accepted, peers[i].String())
	}
	return accepted
}

// errNotKept is of a peer that confirmed a record and does not serve it.
var errNotKept = errors.New("confirmed the record and did not keep it")

// give asks one peer to store a record, and for it back: confirming costs
// nothing.
func (n *Node) give(ctx context.Context, p peer.ID, key string, value []byte) error {
	messenger, err := pb.NewProtocolMessenger(sender{swarm: n.swarm, limit: n.cfg.limit(requestTimeout)})
	if err != nil {
		return err
	}
	if err := messenger.PutValue(ctx, p, record.MakePutRecord(key, value)); err != nil {
		return err
	}
	kept, _, err := messenger.GetValue(ctx, p, key)
	if err != nil {
		return err
	}
	if !bytes.Equal(kept.GetValue(), value) {
		return errNotKept
	}
	return nil
}
