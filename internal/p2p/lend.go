package p2p

import (
	"errors"
	"io"

	"github.com/phasebased/phase/blob"
)

// An Offer is what a node lends to others.
type Offer struct {
	// Open opens a blob of which as many bytes are lent as it says; the caller closes
	// it. It fails with ErrLater, or anything else if the blob is not lent, and may be
	// called concurrently.
	Open func(blob.Digest) (content Content, size int64, err error)
	// HTTPPort is where the same blobs are served over HTTP, on the addresses of
	// this node; 0: nowhere.
	HTTPPort uint16
}

// Content is an open blob.
type Content interface {
	io.ReaderAt
	io.Closer
}

// ErrLater says that a blob cannot be lent yet.
var ErrLater = errors.New("not yet")

// Lend gives blobs to whoever asks this node for them, from now on, in place of
// what it lent before; the zero Offer lends nothing. What it lends nobody knows:
// see Hold. Only a node with Config.Server can be asked.
func (n *Node) Lend(o Offer) { n.lent.Store(&o) }
