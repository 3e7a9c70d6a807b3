package dispatch

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"sync"
	"time"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/peer"
)

// run is one job on its way.
type run struct {
	peers Peers
	job   Job
	o     Options

	mu       sync.Mutex
	able     []*candidate // that may get the job, in the order of choice
	attempts []Attempt
	searched error // of Search
	evidence evidence
}

// candidate is a node that takes the job by what it says of itself.
type candidate struct {
	peer     peer.Peer
	capacity jobpeer.Capacity
	busy     int       // how often it was
	after    time.Time // not to be asked before
}

func (c *candidate) name() string { return job.FormatKey(c.peer.Key) }

// gather looks for nodes and asks each what it can, until the search has ended or
// its time is over. What it finds is in the order of choice.
func (r *run) gather(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.o.SearchTime+r.o.AskTime)
	defer cancel()
	var asks sync.WaitGroup
	slots := make(chan struct{}, maxAsked)
	seen := map[string]bool{}
	var mu sync.Mutex
	found := func(p peer.Peer) {
		mu.Lock()
		full := len(seen) >= maxFound && !r.o.Known(p.Key) // strangers keep nobody out who is known
		known := seen[string(p.Key)] || full || len(p.Key) != ed25519.PublicKeySize
		if !known {
			seen[string(p.Key)] = true
		}
		mu.Unlock()
		if known {
			return
		}
		asks.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			r.ask(ctx, p)
		})
	}
	for _, p := range r.o.Nodes {
		found(p)
	}
	if r.o.Search != nil {
		searching, stop := context.WithTimeout(ctx, r.o.SearchTime)
		if err := r.o.Search(searching, found); err != nil && searching.Err() == nil {
			r.searched = err
		}
		stop()
	}
	asks.Wait()
	r.order()
}

// ask puts p among those who are able, or writes down why not.
func (r *run) ask(ctx context.Context, p peer.Peer) {
	ctx, cancel := context.WithTimeout(ctx, r.o.AskTime)
	defer cancel()
	c := &candidate{peer: p}
	var err error
	if c.capacity, err = r.peers.Capacity(ctx, p); err != nil {
		r.note(attemptOf(ctx, c, 0, fmt.Errorf("asked what it can: %w", err)))
		return
	}
	if why := unsuitable(r.job, c.capacity, r.o.Replicas > 1); why != "" {
		r.note(Attempt{Node: c.name(), Outcome: Unsuitable, Text: why})
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.able = append(r.able, c)
	r.o.Tell(Event{Node: c.name(), What: "takes the job"})
}

// note writes down what came of a node.
func (r *run) note(a Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempts = append(r.attempts, a)
	r.o.Tell(Event{Node: a.Node, Round: a.Round, What: string(a.Outcome)})
}

func (r *run) tell(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.o.Tell(e)
}
