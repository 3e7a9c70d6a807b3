package fetch

import (
	"context"
	"errors"
	"fmt"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/manifest"
)

// Kept is an artifact that stays in the store, to be used from there by somebody
// who checks each block when he reads it: the manifest has the root of its hash
// tree. Only this package makes one, and only for a verified manifest. The whole
// of it was hashed when it was stored; what has become of it since, the reader
// finds out.
type Kept struct {
	name    string
	digest  blob.Digest
	size    int64
	through bool
}

// Name is the artifact's name in its manifest.
func (k *Kept) Name() string { return k.name }

// Digest is the SHA-256 that the whole content had when it was stored.
func (k *Kept) Digest() blob.Digest { return k.digest }

// Size is the length in bytes.
func (k *Kept) Size() int64 { return k.size }

// ReadThrough reports whether the whole content was read and hashed just now.
func (k *Kept) ReadThrough() bool { return k.through }

// KeepError says that the store cannot keep an artifact. Artifact can still give
// it.
type KeepError struct {
	Artifact string
	Err      error
}

func (e *KeepError) Error() string {
	return fmt.Sprintf("the cache cannot keep the %s: %v", e.Artifact, e.Err)
}

func (e *KeepError) Unwrap() error { return e.Err }

var (
	errNoStore = errors.New("there is no cache")
	errNoTree  = errors.New("its manifest names no hash tree")
)

// Keep makes sure that the store has an artifact of a verified manifest, and
// leaves it there. One that is there already is not read but for its size or,
// with through, read as a whole and, where it is wrong, made right again. What
// arrives from elsewhere is hashed as ever. Errors are those of Artifact, and a
// *KeepError.
func (f *Fetcher) Keep(ctx context.Context, v *manifest.Verified, name string, bases []string, through bool) (*Kept, error) {
	j, err := f.artifactJob(v, name, bases)
	if err != nil {
		return nil, err
	}
	a, _ := v.Manifest().Artifact(name)
	switch {
	case f.Store == nil:
		return nil, &KeepError{name, errNoStore}
	case a.Verity == nil:
		return nil, &KeepError{name, errNoTree}
	}
	k := &Kept{name: name, digest: j.digest, size: j.size, through: through}
	if f.has(ctx, j, through) {
		return k, nil
	}
	k.through = true
	return k, f.keep(ctx, j)
}

// KeepBlob fetches a blob of which only digest and size are known from urls into the
// store, unless it is there. name is for messages. Errors are those of Keep.
func (f *Fetcher) KeepBlob(ctx context.Context, name string, d blob.Digest, size int64, urls []string) error {
	switch {
	case f.Store == nil:
		return &KeepError{name, errNoStore}
	case d.IsZero() || size < 1:
		return fmt.Errorf("fetch %s: no digest or size", name)
	case f.Store.Has(d):
		return nil
	}
	return f.keep(ctx, newJob(name, d, size, urls))
}

// has reports whether the store has the job's blob, and tells of it.
func (f *Fetcher) has(ctx context.Context, j job, through bool) bool {
	d := f.newDownload(j, nil)
	d.report.from(cacheSource)
	file, err := f.Store.OpenUnverified(j.digest, j.size)
	if err == nil {
		err = file.Close()
	}
	if err == nil && through {
		err = f.Store.Verify(ctx, j.digest)
	}
	if err != nil {
		if f.Store.Has(j.digest) {
			d.log.Warn("the cache's copy is not right", "err", err)
		}
		return false
	}
	d.kept = j.size
	d.report.final(j.size)
	d.tell(nil)
	return true
}

// keep fetches the job's blob into the store.
func (f *Fetcher) keep(ctx context.Context, j job) error {
	part, err := f.Store.Partial(j.digest, j.size)
	if err != nil {
		return &KeepError{j.name, err}
	}
	j.kept = true
	if err := f.fetch(ctx, j, part); err != nil {
		end := part.Abort
		if !j.chunks.IsZero() {
			end = part.Close // the next one goes on with it
		}
		var local *LocalError
		if errors.As(err, &local) { // what could not take the bytes is the store
			return &KeepError{j.name, errors.Join(local.Err, part.Abort())}
		}
		return errors.Join(err, end())
	}
	if err := part.CommitHashed(j.digest); err != nil {
		return &KeepError{j.name, err}
	}
	return nil
}

// storeFor is where a copy is kept of what arrives for a job; nil: nowhere, as
// where it arrives is the store.
func (d *download) storeFor() *store.Store {
	if d.job.kept {
		return nil
	}
	return d.f.Store
}
