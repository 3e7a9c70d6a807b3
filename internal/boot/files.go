package boot

import (
	"context"
	"fmt"
	"sync"

	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/timeline"
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
func (c *Corridor) fetch(ctx context.Context, r *candidate) (*files, error) {
	c.Observe.Begin(timeline.StageFetch)
	f, total, err := c.fetchAll(ctx, r)
	c.Observe.End(timeline.StageFetch, fmt.Sprintf("%.1f MiB", float64(total)/(1<<20)), err)
	return f, err
}

// fetchAll gets the artifacts side by side: while one is hashed another can
// arrive. The first failure ends the others.
func (c *Corridor) fetchAll(ctx context.Context, r *candidate) (*files, int64, error) {
	m := r.verified.Manifest()
	available, err := c.Memory()
	if err != nil {
		return nil, 0, err
	}
	if err := handover.CheckMemory(m, available); err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &files{}
	parts := []struct {
		name string
		into **fetch.File
	}{{"kernel", &f.kernel}, {"initramfs", &f.initramfs}, {"rootfs", &f.rootfs}}
	sum := &sum{show: c.Observe.Progress, done: map[string]int64{}}
	for _, part := range parts {
		artifact, _ := m.Artifact(part.name)
		sum.total += artifact.Size
	}
	fetcher := *c.Fetcher
	fetcher.Progress = sum.add
	var tasks sync.WaitGroup
	for _, part := range parts {
		if _, named := m.Artifact(part.name); !named {
			continue
		}
		tasks.Go(func() {
			file, err := fetcher.Artifact(ctx, r.verified, part.name, r.bases)
			if err != nil {
				cancel(err)
				return
			}
			*part.into = file
		})
	}
	tasks.Wait()
	if err := context.Cause(ctx); err != nil {
		f.Close()
		return nil, sum.total, err
	}
	return f, sum.total, nil
}

// sum adds the progress of several artifacts up to that of the release.
type sum struct {
	show func(fetch.Progress)

	mu    sync.Mutex
	done  map[string]int64
	total int64
}

func (s *sum) add(p fetch.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done[p.Name] = p.Done
	p.Name, p.Done, p.Total = "download", 0, s.total
	for _, done := range s.done {
		p.Done += done
	}
	s.show(p)
}
