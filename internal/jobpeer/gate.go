package jobpeer

import (
	"slices"
	"sync"
	"time"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/peer"
)

// Bounds on what strangers may cost a server. A key is free and an address is not,
// so both count; whoever shares an address with a crowd is served all the same, as
// those who have not said yet what they want make room for newcomers.
const (
	maxVisits      = 256 // streams at once
	maxPlaceVisits = 192 // of one place
	maxPeerVisits  = 32  // of one key
	maxRequests    = 16 << 20
	smallRequest   = 32 << 10 // bytes; smaller ones are not counted in maxRequests

	// A key that asked in vain maxStrikes times within strikeTime is not heard until
	// that is over. maxStruck of them are remembered.
	maxStrikes = 128
	maxStruck  = 4096
	strikeTime = time.Minute
)

// gate admits streams, and knows who is still to say what they want.
type gate struct {
	now func() time.Time

	mu      sync.Mutex
	visits  int
	places  map[string]int
	peers   map[string]int
	unread  []*visit // oldest first
	bytes   int      // of large requests that are being read
	struck  map[string]int
	strikes time.Time // when the first of struck was
}

// visit is a stream that was admitted.
type visit struct {
	gate   *gate
	who    peer.Caller
	evict  func()
	bytes  int
	unread bool
}

func newGate(now func() time.Time) *gate {
	return &gate{now: now, places: map[string]int{}, peers: map[string]int{}, struck: map[string]int{}}
}

func busy(detail string, retry time.Duration) error {
	return &job.Refusal{Reason: job.Busy, Detail: detail, RetryAfter: retry}
}

// enter admits a stream that evict ends, or refuses it. leave has to follow.
func (g *gate) enter(c peer.Caller, evict func()) (*visit, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forgive()
	switch {
	case g.struck[c.ID] >= maxStrikes:
		return nil, busy("you have asked in vain too often", strikeTime)
	case g.peers[c.ID] >= maxPeerVisits:
		return nil, busy("you have as many conversations with this node as one may have", time.Second)
	case g.places[c.Place] >= maxPlaceVisits && !g.makeRoom(c.Place):
		return nil, busy("this node has as many conversations with your address as one may have", time.Second)
	case g.visits >= maxVisits && !g.makeRoom(""):
		return nil, busy("this node has as many conversations as it can", time.Second)
	}
	v := &visit{gate: g, who: c, evict: evict, unread: true}
	g.visits++
	g.places[c.Place]++
	g.peers[c.ID]++
	g.unread = append(g.unread, v)
	return v, nil
}

// makeRoom ends the oldest visit of a place, "" for any, that has not said yet
// what it wants, and reports whether there was one. Its place is free at once.
func (g *gate) makeRoom(place string) bool {
	i := slices.IndexFunc(g.unread, func(v *visit) bool { return place == "" || v.who.Place == place })
	if i < 0 {
		return false
	}
	v := g.unread[i]
	v.release()
	go v.evict() // which may wait for the network
	return true
}

// release takes a visit off the books. The caller holds the lock.
func (v *visit) release() {
	g := v.gate
	if v.who.ID == "" {
		return // was before
	}
	g.settle(v)
	g.visits--
	count(g.places, v.who.Place)
	count(g.peers, v.who.ID)
	v.who = peer.Caller{}
}

func count(m map[string]int, key string) {
	if m[key]--; m[key] <= 0 {
		delete(m, key)
	}
}

// settle notes that a request was read, or never will be.
func (g *gate) settle(v *visit) {
	g.bytes -= v.bytes
	v.bytes = 0
	if v.unread {
		v.unread = false
		i := slices.Index(g.unread, v)
		g.unread = slices.Delete(g.unread, i, i+1)
	}
}

func (v *visit) leave() {
	v.gate.mu.Lock()
	defer v.gate.mu.Unlock()
	v.release()
}

// read notes that the visit has said what it wants. From now on nobody evicts it.
func (v *visit) read() {
	v.gate.mu.Lock()
	defer v.gate.mu.Unlock()
	v.gate.settle(v)
}

// take admits a request of size bytes, or refuses it, before it is read.
func (v *visit) take(size int) error {
	if size <= smallRequest {
		return nil
	}
	g := v.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.bytes+size > maxRequests {
		return busy("this node is reading as many large requests as it can", time.Second)
	}
	if v.unread {
		g.bytes += size
		v.bytes = size
	}
	return nil
}

// strike notes that a caller has asked in vain.
func (g *gate) strike(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.struck) == 0 {
		g.strikes = g.now()
	}
	if _, known := g.struck[id]; known || len(g.struck) < maxStruck {
		g.struck[id]++
	}
}

func (g *gate) forgive() {
	if len(g.struck) > 0 && g.now().Sub(g.strikes) >= strikeTime {
		clear(g.struck)
	}
}
