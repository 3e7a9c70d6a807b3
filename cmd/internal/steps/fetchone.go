package steps

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/manifest"
)

// A fetchOne is one artifact on its way into one file.
type fetchOne struct {
	plan     *fetchPlan
	verified *manifest.Verified
	name     string
	artifact manifest.Artifact
	path     string
}

// run fetches the artifact, unless it is there, and writes its checksum file.
func (o *fetchOne) run(ctx context.Context) (fetchedArtifact, error) {
	done := fetchedArtifact{Name: o.name, Hash: o.artifact.Hash.String(), Size: o.artifact.Size, Path: o.path, Status: "failed"}
	there, err := o.there(ctx)
	switch {
	case err != nil:
		return done, err
	case there:
		done.Status, done.Kept = "present", o.artifact.Size
	default:
		if err := o.fetch(ctx, &done); err != nil {
			return done, err
		}
	}
	if err := o.checksum(); err != nil {
		done.Status = "failed"
		return done, &fetch.LocalError{Artifact: o.name + ".sha256", Err: err}
	}
	return done, nil
}

func (o *fetchOne) fetch(ctx context.Context, done *fetchedArtifact) error {
	f := *o.plan.fetcher
	f.Report = func(r fetch.Report) {
		done.Kept, done.Seconds, done.Sources = r.Kept, r.Seconds, r.Sources
		if r.Patch != nil {
			done.Delta = &fetchedDelta{From: r.Patch.From.String(), Size: r.Patch.Size}
		}
	}
	if err := f.ArtifactTo(ctx, o.verified, o.name, o.plan.bases, o.path); err != nil {
		return err
	}
	done.Status = "fetched"
	if f.Store != nil && !f.Store.Has(o.artifact.Hash) {
		done.Remark = "there is no copy of it in the cache, which has no room or cannot be written"
	}
	return nil
}

// there says that the file is in its place, every byte of it.
func (o *fetchOne) there(ctx context.Context) (bool, error) {
	info, err := os.Lstat(o.path)
	if err != nil || !info.Mode().IsRegular() || info.Size() != o.artifact.Size {
		return false, nil // what cannot be replaced is an error of the one who tries
	}
	f, err := os.Open(o.path)
	if err != nil {
		return false, nil
	}
	defer f.Close()
	d, err := digestOf(ctx, f)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return err == nil && d == o.artifact.Hash, nil
}

// checksum writes NAME.sha256 as sha256sum does, if it is not there yet.
func (o *fetchOne) checksum() error {
	sum := fmt.Appendf(nil, "%s  %s\n", o.artifact.Hash.Hex(), o.name)
	path := o.path + ".sha256"
	if old, err := readFile(path, nil, int64(len(sum))); err == nil && bytes.Equal(old, sum) {
		return nil
	}
	return durable.WriteFile(path, sum, 0o644)
}

// digestOf reads r to its end, or until ctx ends.
func digestOf(ctx context.Context, r io.Reader) (blob.Digest, error) {
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for ctx.Err() == nil {
		n, err := r.Read(buf)
		h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return blob.FromSum([sha256.Size]byte(h.Sum(nil))), nil
		}
		if err != nil {
			return blob.Digest{}, err
		}
	}
	return blob.Digest{}, context.Cause(ctx)
}

// olderFiles finds artifacts of an older release by their content. Files are
// hashed when somebody first asks, which is when a release has a patch. It is for
// one goroutine.
type olderFiles struct {
	paths  []string
	looked bool
	files  map[blob.Digest]*os.File
}

// find is what fetch.Fetcher.Old wants.
func (o *olderFiles) find(d blob.Digest) (io.ReaderAt, int64, bool) {
	if !o.looked {
		o.looked, o.files = true, map[blob.Digest]*os.File{}
		for _, path := range o.paths {
			o.look(path)
		}
	}
	f, ok := o.files[d]
	if !ok {
		return nil, 0, false
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, false
	}
	return f, info.Size(), true
}

// look hashes a file. One that cannot be read is no older release.
func (o *olderFiles) look(path string) {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		return
	}
	d, err := digestOf(context.Background(), f)
	if err != nil || o.files[d] != nil {
		f.Close()
		return
	}
	o.files[d] = f
}

// Close closes the files.
func (o *olderFiles) Close() {
	for _, f := range o.files {
		f.Close()
	}
}

// checkOlder refuses a --delta-from that is not there: a mistyped name would cost
// a whole download.
func (o fetchOptions) checkOlder() error {
	for _, at := range o.older {
		if _, err := os.Stat(at); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("--delta-from %q: there is no such file or folder", at)
		}
	}
	return nil
}
