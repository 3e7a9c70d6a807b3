package p2p

import (
	"os"

	"github.com/phasebased/phase/blob"
)

// An Offer is what a node lends to others.
type Offer struct {
	// Open opens a blob as a regular file, which its caller closes, and whose
	// length does not change. It fails if the blob is not lent, and may be called
	// concurrently.
	Open func(blob.Digest) (*os.File, error)
	// HTTPPort is where the same blobs are served over HTTP, on the addresses of
	// this node; 0: nowhere.
	HTTPPort uint16
}

// Lend gives blobs to whoever asks this node for them, from now on, in place of
// what it lent before; the zero Offer lends nothing. What it lends nobody knows:
// see Hold. Only a node with Config.Server can be asked.
func (n *Node) Lend(o Offer) { n.lent.Store(&o) }
