package wasm

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/phasebased/phase/internal/job"
)

// pool keeps jails: those that nobody has used yet, and, where the sandbox
// allows it, those that wait for another job of the submitter who used them.
type pool struct {
	mu    sync.Mutex
	open  bool          // Serve runs
	fresh []*runner     // the next one last
	used  []parked      // the longest unused one first
	taken chan struct{} // a value: a fresh one was taken
}

// parked is a used jail with the one who used it.
type parked struct {
	submitter string
	*runner
}

// take gives a job its jail: a used one of its submitter's, a spare one, or one
// made for it, in this order. The jail is ready.
func (s *Sandbox) take(ctx context.Context, submitter string, j *job.Job, born gift) (*runner, error) {
	if born.bytes > 0 {
		return s.startAlone(ctx, j.Limits(), born)
	}
	for {
		r := s.spares.take(submitter, j.Limits())
		if r == nil {
			return s.startAlone(ctx, j.Limits(), gift{})
		}
		if r.isAlive() {
			if r.jobs == 0 && s.Reuse <= 1 {
				r.tighten(j.Limits())
			}
			return r, nil
		}
		if r.replace != nil {
			r.replace()
		}
		_ = r.end()
	}
}

// startAlone makes a jail whose process is the child of a thread of its own.
func (s *Sandbox) startAlone(ctx context.Context, fits job.Limits, born gift) (*runner, error) {
	type answer struct {
		r   *runner
		err error
	}
	started := make(chan answer, 1)
	go func() {
		// no_new_privs and the parent-death signal belong to this thread: it is
		// never unlocked, so the Go runtime discards it with the goroutine, and
		// it lives as long as the runner.
		runtime.LockOSThread()
		r, err := s.start(fits, born)
		if err != nil {
			started <- answer{nil, err}
			return
		}
		gone := make(chan struct{})
		r.gone = func() { close(gone) }
		started <- answer{r, nil}
		<-gone
	}()
	a := <-started
	if a.err != nil {
		return nil, a.err
	}
	return a.r, a.r.makeReady(ctx)
}

// giveBack ends a jail after its job, unless it may serve its submitter again: it
// came to an orderly end, and so will the next.
func (s *Sandbox) giveBack(r *runner, submitter string, end job.State) {
	orderly := end == job.Exited || end == job.Trapped || end == job.OutOfFuel || end == job.OutputCap
	if !orderly || submitter == "" || r.jobs >= s.Reuse || r.born.bytes > 0 {
		r.release()
		return
	}
	if r.jobs == 1 {
		r.walls = slices.DeleteFunc(slices.Clone(r.walls), func(w string) bool { return w == WallFresh })
	}
	if late := s.spares.park(parked{submitter, r}, max(1, s.Spare)); late != nil {
		late.release()
	}
}

// retryAfter is how long Serve waits after it could not start a process.
const retryAfter = time.Second

// Serve keeps Spare jails ready until ctx is done. It then ends those that wait,
// lets running jobs end as their own contexts say, and returns when the last of
// its processes has ended. While it does not run, every job waits for a jail of
// its own. It must not be called twice at once.
func (s *Sandbox) Serve(ctx context.Context) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // see startAlone
		done <- s.serve(ctx)
	}()
	return <-done
}

var errServed = errors.New("the sandbox is served already")

func (s *Sandbox) serve(ctx context.Context) error {
	taken, ok := s.spares.begin(s.Spare)
	if !ok {
		return errServed
	}
	var alive sync.WaitGroup
	defer alive.Wait()
	defer s.spares.end()
	for missing := s.Spare; ; {
		for ; missing > 0 && ctx.Err() == nil; missing-- {
			r, err := s.start(s.largest(), gift{})
			if err != nil {
				break
			}
			alive.Add(1)
			r.gone, r.served = alive.Done, true
			go s.stock(ctx, r)
		}
		var again <-chan time.Time
		if missing > 0 {
			again = time.After(retryAfter)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-taken:
			missing++
		case <-again:
		}
	}
}

// Ready is how many spare jails wait for a job now.
func (s *Sandbox) Ready() int {
	s.spares.mu.Lock()
	defer s.spares.mu.Unlock()
	return len(s.spares.fresh)
}

// stock makes a started runner a spare jail. For one that does not become ready
// another is tried later; why, a job learns that finds no spare one.
func (s *Sandbox) stock(ctx context.Context, r *runner) {
	if err := r.makeReady(ctx); err != nil {
		time.AfterFunc(retryAfter, s.spares.miss)
		return
	}
	if !s.spares.put(r) {
		_ = r.end()
	}
}

// largest is what a spare jail must have room for.
func (s *Sandbox) largest() job.Limits {
	l, most := s.Largest, job.DefaultNodeLimits.Limits
	if l.MemoryBytes == 0 {
		l.MemoryBytes = most.MemoryBytes
	}
	if l.DeadlineMS == 0 {
		l.DeadlineMS = most.DeadlineMS
	}
	return l
}

// begin opens the pool; the channel has a value for each fresh jail taken.
func (p *pool) begin(size int) (taken chan struct{}, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open {
		return nil, false
	}
	p.open, p.taken = true, make(chan struct{}, max(1, size))
	return p.taken, true
}

// end closes the pool and ends what waits in it.
func (p *pool) end() {
	p.mu.Lock()
	fresh, used := p.fresh, p.used
	p.open, p.fresh, p.used = false, nil, nil
	p.mu.Unlock()
	for _, r := range fresh {
		_ = r.end()
	}
	for _, r := range used {
		_ = r.end()
	}
}

// put adds a fresh jail, unless the pool has closed.
func (p *pool) put(r *runner) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open {
		p.fresh = append(p.fresh, r)
	}
	return p.open
}

// take removes a jail that fits, or gives nil.
func (p *pool) take(submitter string, l job.Limits) *runner {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, u := range slices.Backward(p.used) {
		if submitter != "" && u.submitter == submitter && u.hasRoomFor(l) {
			p.used = slices.Delete(p.used, i, i+1)
			return u.runner
		}
	}
	n := len(p.fresh)
	if n == 0 || !p.fresh[n-1].hasRoomFor(l) {
		return nil
	}
	r := p.fresh[n-1]
	p.fresh = p.fresh[:n-1]
	taken := p.taken
	r.replace = sync.OnceFunc(func() { taken <- struct{}{} }) // has room: there are no more values than spare jails
	if len(p.fresh) == 0 {
		r.replace()
	}
	return r
}

// replaceAfter is how long a job has the machine to itself, while there is another
// spare jail, before the one that it took is made again. A small job ends before, and
// its answer is written and verified.
const replaceAfter = 5 * time.Millisecond

// replaceLater makes a jail that was taken again soon.
func (r *runner) replaceLater() {
	if r.replace != nil && r.jobs == 0 {
		time.AfterFunc(replaceAfter, r.replace)
	}
}

// miss asks for another fresh jail.
func (p *pool) miss() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open {
		p.taken <- struct{}{}
	}
}

// park keeps a used jail, and gives back what is then too much.
func (p *pool) park(u parked, most int) *runner {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.open {
		return u.runner
	}
	p.used = append(p.used, u)
	if len(p.used) <= most {
		return nil
	}
	late := p.used[0].runner
	p.used = slices.Delete(p.used, 0, 1)
	return late
}

// hasRoomFor compares what a resource limit bounds.
func (r *runner) hasRoomFor(l job.Limits) bool {
	return l.MemoryBytes <= r.fits.MemoryBytes && l.DeadlineMS <= r.fits.DeadlineMS
}
