package boot

import (
	"context"
	"fmt"

	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/handover"
)

// files are the artifacts of one release, complete and hashed.
type files struct {
	kernel, initramfs *fetch.File
	rootfs            *fetch.File // nil where the release has none
}

// Close releases the memory behind the files. It may be called on nil, and again
// after the hand-over has taken them.
func (f *files) Close() {
	if f == nil {
		return
	}
	for _, file := range []*fetch.File{f.kernel, f.initramfs, f.rootfs} {
		if file != nil {
			file.Close()
		}
	}
}

// fetch gets every artifact of the release, after making sure that this
// machine has the memory to boot it: a person should not wait for a download
// that cannot be used.
func (c *Corridor) fetch(ctx context.Context, r *release) (*files, error) {
	c.Observe.Begin(StageFetch)
	f, total, err := c.fetchAll(ctx, r)
	c.Observe.End(StageFetch, fmt.Sprintf("%.1f MiB", float64(total)/(1<<20)), err)
	return f, err
}

func (c *Corridor) fetchAll(ctx context.Context, r *release) (*files, int64, error) {
	m := r.verified.Manifest()
	available, err := c.Memory()
	if err != nil {
		return nil, 0, err
	}
	if err := handover.CheckMemory(m, available); err != nil {
		return nil, 0, err
	}
	fetcher := *c.Fetcher
	fetcher.Progress = c.Observe.Progress
	f := &files{}
	var total int64
	for _, part := range []struct {
		name string
		into **fetch.File
	}{{"kernel", &f.kernel}, {"initramfs", &f.initramfs}, {"rootfs", &f.rootfs}} {
		if _, named := m.Artifact(part.name); !named {
			continue
		}
		file, err := fetcher.Artifact(ctx, r.verified, part.name, r.bases)
		if err != nil {
			f.Close()
			return nil, total, err
		}
		*part.into = file
		total += file.Size()
	}
	return f, total, nil
}
