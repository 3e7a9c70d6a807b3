// Package peer is what two nodes are to each other, in words that need no network:
// a peer to call, a caller to answer, a stream between them. Package p2p makes
// them over libp2p; whoever speaks over streams imports this and not that.
//
// A Caller's key is proven by the handshake of the connection. It says who carries
// the bytes, and nothing about whose jobs they are: those are signed by themselves.
package peer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"time"
)

// A Stream is a conversation between two nodes in both directions. Close ends it in
// order, Reset at once and for both ends, also while others read or write.
type Stream interface {
	io.ReadWriteCloser
	// CloseWrite says that nothing more will be written.
	CloseWrite() error
	Reset() error
	// Deadlines end what waits, and what begins to wait later; zero is none.
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// A Caller is who opened a stream to this node.
type Caller struct {
	ID  string // "12D3Koo…"
	Key ed25519.PublicKey
	// Place is the address, or the IPv6 network, that one machine is likely to hold
	// whole. Keys are free, so those who count callers count places as well.
	Place string
}

// A Peer is a node that can be called.
type Peer struct {
	// ID and Key name the same node; one of them is enough.
	ID  string
	Key ed25519.PublicKey
	// Addrs are multiaddrs, with or without /p2p/<id>; empty for a node to which
	// there is a connection already.
	Addrs []string
}

// Handler answers a stream. It is called in a goroutine of its own; the stream is
// closed when it returns. ctx ends with the node.
type Handler func(ctx context.Context, c Caller, s Stream)

// ErrProtocol says that a peer does not speak the protocol it was called with.
var ErrProtocol = errors.New("the peer does not speak this protocol")

// Opener opens a stream to p. A protocol that the other end does not speak may show
// only with the first bytes read, as an ErrProtocol.
type Opener func(ctx context.Context, p Peer, protocol string) (Stream, error)
