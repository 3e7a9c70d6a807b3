package fetch

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/delta"
	"github.com/phasebased/phase/manifest"
)

// patchFor is the smallest patch from something that this machine has, if it is
// smaller than what is missing; else nil.
func (d *download) patchFor(missing int64) *manifest.Delta {
	var best *manifest.Delta
	for i, p := range d.job.deltas {
		if p.Size < missing && (best == nil || p.Size < best.Size) && d.hasOld(p.From) {
			best = &d.job.deltas[i]
		}
	}
	return best
}

func (d *download) hasOld(from blob.Digest) bool {
	if d.f.Store != nil && d.f.Store.Has(from) {
		return true
	}
	if d.f.Old == nil {
		return false
	}
	_, _, ok := d.f.Old(from)
	return ok
}

// patched makes the artifact from an older one and a patch. When it fails only
// the log says so: then everything is downloaded that is still missing.
func (d *download) patched(ctx context.Context, p *manifest.Delta) bool {
	if err := d.patch(ctx, *p); err != nil {
		d.log.Warn("the patch does not help, going on without", "from", p.From, "err", err)
		return false
	}
	d.log.Info("made from an older release", "from", p.From, "patch", p.Size)
	d.kept, d.made = d.job.size-p.Size, &PatchReport{From: p.From, Size: p.Size}
	return true
}

func (d *download) patch(ctx context.Context, p manifest.Delta) error {
	old, size, done, err := d.openOld(p.From)
	if err != nil {
		return err
	}
	defer done()
	side, err := d.scratch(p)
	if err != nil {
		return err
	}
	defer side.Close()
	if err := d.side().fetch(ctx, d.job.beside("patch", p.Hash, p.Size), side); err != nil {
		return err
	}
	return d.fill(ctx, "patch", func(w io.Writer) error {
		return delta.Apply(w, old, size, io.NewSectionReader(side, 0, p.Size), d.job.size)
	})
}

// scratch is a nameless file where the target is one: beside it, or in memory.
func (d *download) scratch(p manifest.Delta) (*os.File, error) {
	if t, ok := d.dst.(*temp); ok {
		return namelessBeside(t.path)
	}
	mem, err := newMemory("patch", p.Size)
	if err != nil {
		return nil, err
	}
	return mem.file, nil
}

// openOld opens something older. Nobody checks it: the result is.
func (d *download) openOld(from blob.Digest) (io.ReaderAt, int64, func(), error) {
	if d.f.Store != nil && d.f.Store.Has(from) {
		info, err := os.Lstat(d.f.Store.Path(from))
		if err != nil {
			return nil, 0, nil, err
		}
		file, err := d.f.Store.OpenUnverified(from, info.Size())
		if err != nil {
			return nil, 0, nil, err
		}
		return file, info.Size(), func() { file.Close() }, nil
	}
	if d.f.Old != nil {
		if r, size, ok := d.f.Old(from); ok {
			return r, size, func() {}, nil
		}
	}
	return nil, 0, nil, fmt.Errorf("%s is gone", from)
}
