package fetch

import (
	"context"
	"crypto/sha256"
	"io"

	"github.com/phasebased/phase/blob"
)

// resume looks for right chunks in what is here: in the target and in the
// cache's unfinished copy. What was once written is not believed but hashed, so
// nothing needs to be remembered about it. The follower hashes what is there.
func (d *download) resume(ctx context.Context) (*follower, error) {
	whole := follow(d.dst, d.job.size)
	d.board = newBoard(*d.list, whole.advance)
	err := scan(ctx, d.dst, d.board, d.alsoCache)
	if err == nil {
		err = scan(ctx, d.out.cache, d.board, d.alsoTarget)
	}
	if err != nil {
		whole.stop()
		return nil, err
	}
	if d.kept, _ = d.board.bytes(); d.kept > 0 {
		d.log.Info("some of it is here already", "bytes", d.kept)
	}
	return whole, nil
}

// scan marks the chunks of r that are right, after telling of them.
func scan(ctx context.Context, r io.ReaderAt, b *board, also func(p []byte, off int64) error) error {
	if b.left() == 0 {
		return nil
	}
	buf := make([]byte, min(blob.ChunkSize, b.list.Size()))
	for i := range b.list.Len() {
		if ctx.Err() != nil {
			return errNoSource
		}
		off, n := b.list.Bounds(i)
		if b.has(i) {
			continue
		}
		if got, err := r.ReadAt(buf[:n], off); int64(got) < n {
			if err == io.EOF && got == 0 {
				return nil // there is no more
			}
			continue
		}
		if blob.FromSum(sha256.Sum256(buf[:n])) != b.list.Digest(i) {
			continue
		}
		if also != nil {
			if err := also(buf[:n], off); err != nil {
				return err
			}
		}
		b.took(i)
	}
	return nil
}

func (d *download) alsoCache(p []byte, off int64) error {
	d.out.cache.write(p, off)
	return nil
}

func (d *download) alsoTarget(p []byte, off int64) error {
	if _, err := d.dst.WriteAt(p, off); err != nil {
		return localError{err}
	}
	return nil
}
