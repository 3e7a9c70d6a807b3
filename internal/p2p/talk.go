package p2p

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	msmux "github.com/multiformats/go-multistream"

	ours "github.com/phasebased/phase/internal/peer"
)

// talks are the conversations that others began with this node.
type talks struct {
	ctx context.Context
	end context.CancelFunc

	mu        sync.Mutex
	closed    bool
	answering sync.WaitGroup
}

func (t *talks) open() { t.ctx, t.end = context.WithCancel(context.Background()) }

// enter admits one more conversation until the node is closed.
func (t *talks) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.answering.Add(1)
	return true
}

// close ends all conversations; wait is for when their streams are gone.
func (t *talks) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.end()
}

func (t *talks) wait() { t.answering.Wait() }

// Handle answers the streams that others open under a protocol, from now on, until
// the node is closed; it is for before Run, and for a node with Config.Server, since
// no other can be called. How many streams there are, of one peer and of all, and
// the memory of their buffers is bounded (limits.go); what is done with them is for
// h to bound, which runs in a goroutine for each.
func (n *Node) Handle(name string, h ours.Handler) error {
	if n.server == nil {
		return fmt.Errorf("p2p: handle %s: this node does not listen", name)
	}
	n.server.Handle(protocol.ID(name), func(s network.Stream) {
		caller, err := callerOf(s.Conn())
		if err != nil || !n.talks.enter() {
			_ = s.Reset()
			return
		}
		defer n.talks.answering.Done()
		defer s.Close()
		h(n.talks.ctx, caller, s)
	})
	return nil
}

// callerOf is who is at the other end, as the handshake has proven.
func callerOf(c network.Conn) (ours.Caller, error) {
	key, err := rawKey(c.RemotePublicKey())
	if err != nil {
		return ours.Caller{}, err
	}
	at := ipOf(c.RemoteMultiaddr()).WithZone("")
	place := at.String()
	if at.Is6() && reachOf(at) == anywhere {
		place = networkOf(at).String()
	}
	return ours.Caller{ID: c.RemotePeer().String(), Key: key, Place: place}, nil
}

var errKeyType = errors.New("the peer's key is not of Ed25519")

// rawKey is a key of libp2p's as everybody else writes it.
func rawKey(key crypto.PubKey) (ed25519.PublicKey, error) {
	if key == nil || key.Type() != crypto.Ed25519 {
		return nil, errKeyType
	}
	raw, err := key.Raw()
	if err != nil {
		return nil, err
	}
	if len(raw) != ed25519.PublicKeySize {
		return nil, errKeyType
	}
	return raw, nil
}

// Open opens a stream to a peer, over the connection that there is or a new one,
// which only the holder of the peer's key can accept. The protocol is proposed with
// the first bytes that are written; that the peer does not speak it shows when
// something is read, as a peer.ErrProtocol. ctx bounds the opening
// alone.
func (n *Node) Open(ctx context.Context, p ours.Peer, name string) (ours.Stream, error) {
	info, err := contactOf(p)
	if err != nil {
		return nil, fmt.Errorf("p2p: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.limit(requestTimeout))
	defer cancel()
	if n.swarm.Connectedness(info.ID) != network.Connected {
		n.forgetFailures(info.ID)
		n.swarm.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.TempAddrTTL)
	}
	s, err := n.swarm.NewStream(ctx, info.ID)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("peer %s: %w", shortID(info.ID.String()), ctx.Err())
		}
		return nil, fmt.Errorf("peer %s: %s", shortID(info.ID.String()), plain(err))
	}
	if err := s.SetProtocol(protocol.ID(name)); err != nil {
		_ = s.Reset()
		return nil, fmt.Errorf("peer %s: %w", shortID(info.ID.String()), err)
	}
	return &talk{s, msmux.NewMSSelect[protocol.ID](s, protocol.ID(name))}, nil
}

// talk is a stream whose protocol is negotiated with the first bytes.
type talk struct {
	network.Stream
	lazy msmux.LazyConn
}

func (t *talk) Read(b []byte) (int, error) {
	n, err := t.lazy.Read(b)
	return n, explainTalk(err)
}

func (t *talk) Write(b []byte) (int, error) {
	n, err := t.lazy.Write(b)
	return n, explainTalk(err)
}

func explainTalk(err error) error {
	var reset *network.StreamError
	if errors.As(err, &reset) && reset.ErrorCode == network.StreamProtocolNegotiationFailed ||
		errors.Is(err, msmux.ErrNotSupported[protocol.ID]{}) {
		return fmt.Errorf("%w: %w", ours.ErrProtocol, err)
	}
	return err
}

// contactOf is a peer in libp2p's words. Addresses that are no single machine's are
// left out.
func contactOf(p ours.Peer) (info peer.AddrInfo, err error) {
	if info.ID, err = agreedID(p); err != nil {
		return info, err
	}
	for _, text := range p.Addrs[:min(len(p.Addrs), maxPeerAddrs)] {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			return info, fmt.Errorf("address %.100q: %w", text, err)
		}
		at, id := peer.SplitAddr(a)
		if id != "" && id != info.ID {
			return info, fmt.Errorf("address %.200q is another peer's", text)
		}
		if at != nil && dialable(at) {
			info.Addrs = append(info.Addrs, at)
		}
	}
	return info, nil
}

// agreedID is the ID that a peer's ID and key agree on.
func agreedID(p ours.Peer) (peer.ID, error) {
	want := p.ID
	if p.Key != nil {
		byKey, err := PeerID(p.Key)
		if err != nil {
			return "", err
		}
		if want != "" && want != byKey {
			return "", fmt.Errorf("peer %.80q has another key", want)
		}
		want = byKey
	}
	id, err := peer.Decode(want)
	if err != nil {
		return "", fmt.Errorf("peer %.80q: %w", want, err)
	}
	return id, nil
}
