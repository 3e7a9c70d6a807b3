package boot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/manifest"
)

// files are the artifacts of one release, complete and hashed.
type files struct {
	kernel, initramfs *fetch.File
	rootfs            *fetch.File // nil where the release has none, or it is kept
	kept              *fetch.Kept // the rootfs, where it stays in the cache
	release           func()      // gives up what is kept
}

// Close releases the memory behind the files. It may be called on nil, and again
// after the hand-over has taken them.
func (f *files) Close() {
	if f == nil {
		return
	}
	for _, part := range f.parts() {
		if *part != nil {
			(*part).Close()
		}
	}
	if f.release != nil {
		f.release()
		f.release = nil
	}
}

// errGaveWay ends the fetching of a release when a newer one is verified, or
// this one is refused after all.
var errGaveWay = errors.New("gave way to another release")

// Patience is how long artifacts of which nobody is left to give more are still
// hoped for, while somebody looks for others who have them.
const Patience = SettleBudget

// maxRounds bounds how often artifacts are looked for with further bases.
const maxRounds = 4

// fetch gets every artifact of the release, after making sure that this
// machine has the memory to boot it: a person should not wait for a download
// that cannot be used.
func (c *Corridor) fetch(ctx context.Context, h *hunt, g *group) (*files, error) {
	verified, file := h.verified(g)
	return c.fetchStage(verified.Manifest(), func(f *files) error {
		if !verified.Valid() {
			return errGaveWay
		}
		c.pin(verified.Manifest(), file)
		return c.fetchRounds(ctx, h, g, verified, f)
	})
}

// fetchStage is the stage fetch around what gets the artifacts of m.
func (c *Corridor) fetchStage(m manifest.Manifest, get func(*files) error) (*files, error) {
	c.Observe.Begin(timeline.StageFetch)
	f := &files{}
	err := c.Fits(m, c.keeps(m))
	if err == nil {
		err = get(f)
	}
	if errors.Is(err, errGaveWay) {
		c.Observe.End(timeline.StageFetch, errGaveWay.Error(), nil)
	} else {
		c.Observe.End(timeline.StageFetch, fmt.Sprintf("%.1f MiB", float64(total(m))/(1<<20)), err)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// pin keeps the cache from dropping what is going to be booted to make room. A
// download that its medium cannot keep goes on without. What the last good boot pinned
// stays so until the next one is good: a medium is not written for nothing.
func (c *Corridor) pin(m manifest.Manifest, file []byte) {
	blobs := handover.Blobs(m, file)
	if c.Fetcher.Store == nil || c.Fetcher.Store.Protects(blobs) {
		return
	}
	if err := c.Fetcher.Store.Pin(handover.PinBooting, blobs); err != nil {
		c.Observe.Note(timeline.StageFetch, fmt.Sprintf("WARNING: the cache may lose parts of this release again: %v", err))
	}
}

// fetchRounds tries the bases known so far, and when they fail, those that the
// search has found since or still finds. It does not wait for that where no
// other base can help.
func (c *Corridor) fetchRounds(ctx context.Context, h *hunt, g *group, verified *manifest.Verified, f *files) error {
	ctx, end := h.untilOther(ctx, g)
	defer end()
	fetcher := *c.Fetcher
	fetcher.Patience = Patience
	for round := 1; ; round++ {
		bases := h.bases(g)
		trail := h.newTrail(g, bases)
		fetcher.Finders = nil
		for _, finder := range slices.Concat(h.reach.Finders, []fetch.Finder{trail}) {
			fetcher.Finders = append(fetcher.Finders, careful{finder, c.Fetcher})
		}
		fetcher.Progress = c.progress("download", verified.Manifest(), f)
		fetcher.Report = func(r fetch.Report) {
			a, _ := verified.Manifest().Artifact(r.Name)
			h.update(func() { g.judge(a.Hash, r) })
			c.Observe.Fetched(r)
		}
		err := c.fetchAll(ctx, fetcher, verified, bases, f)
		var failed *fetch.Error
		if !errors.As(err, &failed) {
			return err // nil; local; given up
		}
		more := h.more(ctx, g, trail.bases())
		if h.newest() != g {
			return errGaveWay
		}
		if !more || round == maxRounds || ctx.Err() != nil {
			return err
		}
	}
}

// fetchAll gets the artifacts that f does not have yet, side by side: while one
// is hashed another can arrive. The first failure ends the others.
func (c *Corridor) fetchAll(ctx context.Context, fetcher fetch.Fetcher, verified *manifest.Verified, bases []string, f *files) error {
	m := verified.Manifest()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var tasks sync.WaitGroup
	for name, into := range f.parts() {
		if _, named := m.Artifact(name); !named || *into != nil || name == "rootfs" && f.kept != nil {
			continue
		}
		tasks.Go(func() {
			err := guard(func() (err error) {
				if name == "rootfs" && c.keeps(m) {
					return c.keep(ctx, fetcher, verified, bases, f)
				}
				*into, err = fetcher.Artifact(ctx, verified, name, bases)
				return err
			})
			if err != nil {
				cancel(err)
			}
		})
	}
	tasks.Wait()
	return context.Cause(ctx)
}

// parts are the files by their names in a manifest.
func (f *files) parts() map[string]**fetch.File {
	return map[string]**fetch.File{"kernel": &f.kernel, "initramfs": &f.initramfs, "rootfs": &f.rootfs}
}

// sizes are those of the parts that are here, in bytes.
func (f *files) sizes() map[string]int64 {
	sizes := map[string]int64{}
	for name, part := range f.parts() {
		if *part != nil {
			sizes[name] = (*part).Size()
		}
	}
	if f.kept != nil {
		sizes["rootfs"] = f.kept.Size()
	}
	return sizes
}

// total is the size of all artifacts in bytes.
func total(m manifest.Manifest) (n int64) {
	for name := range (&files{}).parts() {
		artifact, _ := m.Artifact(name)
		n += artifact.Size
	}
	return n
}

// progress tells the observer about all artifacts as one, by a name.
func (c *Corridor) progress(name string, m manifest.Manifest, f *files) func(fetch.Progress) {
	return (&sum{show: c.Observe.Progress, name: name, done: f.sizes(), total: total(m)}).add
}

// sum adds the progress of several artifacts up to that of the release.
type sum struct {
	show func(fetch.Progress)
	name string

	mu    sync.Mutex
	done  map[string]int64
	total int64
}

func (s *sum) add(p fetch.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done[p.Name] = p.Done
	p.Name, p.Done, p.Total = s.name, 0, s.total
	for _, done := range s.done {
		p.Done += done
	}
	s.show(p)
}
