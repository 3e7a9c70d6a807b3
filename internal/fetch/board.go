package fetch

import (
	"sync"
	"time"

	"github.com/phasebased/phase/blob"
)

// A board says which chunks of a blob are here and who reads which. Spans are
// given out from the front, so that the whole can be hashed behind them.
type board struct {
	list blob.Chunks

	mu       sync.Mutex
	here     []bool
	missing  int             // chunks that are not here
	frontier int             // all chunks before it are here
	spans    map[*span]bool  // that are being read
	reached  func(off int64) // called with mu held when frontier moves
}

// A span is chunks that one connection reads, in order. Its end may come nearer
// while it is read: somebody faster took the rest.
type span struct {
	peer   *peer
	began  time.Time
	cancel func(error) // ends the reading

	// Guarded by the board's mutex.
	next, end int   // chunks still to come
	got       int64 // bytes that arrived, right or not
}

func newBoard(list blob.Chunks, reached func(int64)) *board {
	return &board{list: list, here: make([]bool, list.Len()), missing: list.Len(), spans: map[*span]bool{}, reached: reached}
}

func (b *board) left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.missing
}

// bytes are how many are here, and how many of unfinished chunks have arrived.
func (b *board) bytes() (here, coming int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	here = b.list.Size() - int64(b.missing)*blob.ChunkSize
	if last := len(b.here) - 1; last >= 0 && !b.here[last] {
		_, n := b.list.Bounds(last)
		here += blob.ChunkSize - n
	}
	for s := range b.spans {
		coming += s.got % blob.ChunkSize
	}
	return here, coming
}

// took says that chunk i is here and right; false if it was before.
func (b *board) took(i int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.here[i] {
		return false
	}
	b.here[i] = true
	b.missing--
	for s := range b.spans { // others that read nothing but this one
		if s.next == i && s.end == i+1 && s.cancel != nil {
			s.cancel(errEnough)
		}
	}
	moved := b.frontier
	for moved < len(b.here) && b.here[moved] {
		moved++
	}
	if moved > b.frontier {
		b.frontier = moved
		b.reached(min(int64(moved)*blob.ChunkSize, b.list.Size()))
	}
	return true
}

func (b *board) has(i int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.here[i]
}

// step says that the reader of s is done with one chunk, and whether there is
// another one for it.
func (b *board) step(s *span) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.next++
	return s.next < s.end
}

func (b *board) arrived(s *span, n int) {
	b.mu.Lock()
	s.got += int64(n)
	b.mu.Unlock()
}

// take gives p the first chunks that nobody reads, at most n of them; nil if
// there are none. A peer that only sends wholes gets all from the beginning.
func (b *board) take(p *peer, n int) *span {
	b.mu.Lock()
	defer b.mu.Unlock()
	from := b.frontier
	for from < len(b.here) && !b.free(from) {
		from++
	}
	if from == len(b.here) {
		return nil
	}
	to := from + 1
	for to < len(b.here) && to-from < n && b.free(to) {
		to++
	}
	if p.wholes {
		from, to = 0, len(b.here)
	}
	return b.add(p, from, to)
}

func (b *board) free(i int) bool {
	if b.here[i] {
		return false
	}
	for s := range b.spans {
		if s.next <= i && i < s.end {
			return false
		}
	}
	return true
}

func (b *board) add(p *peer, from, to int) *span {
	s := &span{peer: p, next: from, end: to, began: time.Now()}
	b.spans[s] = true
	return s
}

// hedge gives p a part of what the slowest reader still has to read, so that
// both end at the same time; or the reader's last chunk a second time, if p gives
// it much earlier. nil: not worth it. rate is p's, in bytes per second.
func (b *board) hedge(p *peer, rate float64) *span {
	if p.wholes {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var slowest *span
	var longest float64
	for s := range b.spans {
		if s.peer == p && s.end-s.next == 1 || b.readers(s.next) > 1 || time.Since(s.began) < minHedge {
			continue
		}
		if eta := b.eta(s); eta > longest {
			slowest, longest = s, eta
		}
	}
	if slowest == nil || longest < minHedge.Seconds() {
		return nil
	}
	if rest := slowest.end - slowest.next - 1; rest > 0 {
		n := min(rest, max(1, int(float64(rest)*rate/(rate+slowest.rate()))))
		slowest.end -= n
		return b.add(p, slowest.end, slowest.end+n)
	}
	if longest < 2*blob.ChunkSize/rate+2*minHedge.Seconds() {
		return nil
	}
	return b.add(p, slowest.next, slowest.next+1)
}

// endSlowest ends the slowest reading of those of which may says so by how long
// they have gone on and how many bytes per second they give.
func (b *board) endSlowest(may func(age time.Duration, rate float64) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var slowest *span
	for s := range b.spans {
		if s.cancel != nil && (slowest == nil || s.rate() < slowest.rate()) && may(time.Since(s.began), s.rate()) {
			slowest = s
		}
	}
	if slowest != nil {
		slowest.cancel(errEnough)
	}
}

// minHedge is how long a reader must still need before others help it.
const minHedge = 250 * time.Millisecond

func (b *board) readers(i int) (n int) {
	for s := range b.spans {
		if s.next <= i && i < s.end {
			n++
		}
	}
	return n
}

// eta is how many seconds s still needs, as it has gone so far.
func (b *board) eta(s *span) float64 {
	first, _ := b.list.Bounds(s.next)
	last, n := b.list.Bounds(s.end - 1)
	return (float64(last+n-first) - float64(s.got%blob.ChunkSize)) / s.rate()
}

// rate is in bytes per second. One that has given nothing yet is taken to give
// its first byte now.
func (s *span) rate() float64 {
	return float64(s.got+1) / max(time.Since(s.began).Seconds(), 1e-3)
}

// drop ends the reading of s.
func (b *board) drop(s *span) {
	b.mu.Lock()
	delete(b.spans, s)
	b.mu.Unlock()
}

// part is what a source is asked for to read s.
func (b *board) part(d blob.Digest, s *span) Part {
	b.mu.Lock()
	defer b.mu.Unlock()
	off, _ := b.list.Bounds(s.next)
	last, n := b.list.Bounds(s.end - 1)
	p := Part{Blob: d, Size: b.list.Size(), Offset: off, Length: last + n - off}
	for i := s.next; i < s.end; i++ {
		p.Chunks = append(p.Chunks, b.list.Digest(i))
	}
	return p
}

func (b *board) cancellable(s *span, cancel func(error)) {
	b.mu.Lock()
	s.cancel = cancel
	b.mu.Unlock()
}

// flowing says that somebody who is not of last resort gives at least rate bytes
// per second, or has only begun.
func (b *board) flowing(rate int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.spans {
		if !s.peer.last && (time.Since(s.began) < spanTime || s.rate() >= float64(rate)) {
			return true
		}
	}
	return false
}
