package fetch

import (
	"context"
	"io"

	"github.com/phasebased/phase/blob"
)

// A Part is a stretch of a blob that a Source is asked for. With a chunk list
// it begins at a chunk and ends with one.
type Part struct {
	Blob           blob.Digest
	Size           int64         // of the whole blob, in bytes
	Offset, Length int64         // of the part, in bytes; Length is at least 1 unless the blob is empty
	Chunks         []blob.Digest // of the part's chunks of blob.ChunkSize bytes (the blob's last may be shorter); nil: unknown
}

// Whole says that the part is all of the blob.
func (p Part) Whole() bool { return p.Offset == 0 && p.Length == p.Size }

// A Source is one place that may have blobs: a mirror, a neighbour, a gateway,
// a folder. It is not trusted.
type Source interface {
	// String names the source for people, and tells it from others.
	String() string
	// Read writes exactly the bytes of p to w, in order, or fails. It ends soon
	// after ctx does, and with w's error as soon as a Write fails: that is how it
	// learns that its bytes are wrong, or no longer wanted. An error that
	// errors.Is ErrAbsent means that it does not have the blob. w waits for
	// the disk and may implement io.ReaderFrom. Read is safe for concurrent use.
	Read(ctx context.Context, p Part, w io.Writer) error
}

// A LastResort is a Source that is asked only while no other gives anything:
// one that is slow, or costs others a lot.
type LastResort interface {
	Source
	LastResort() bool
}

// A Finder looks for further sources of a blob while it is transferred.
type Finder interface {
	// Find calls found for each source, from any goroutine, at any time before
	// it returns. It ends when it has found all that it can, or soon after ctx.
	Find(ctx context.Context, d blob.Digest, found func(Source)) error
}
