package boot

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/logproof"
	"github.com/phasebased/phase/manifest"
)

const (
	// parallel is how many places are asked for one manifest at a time, and
	// headStart how long each waits for the one before it, as in RFC 8305.
	parallel  = 4
	headStart = 250 * time.Millisecond
	// placeLimit bounds the attempt to get a manifest, of at most 64 KiB, and
	// its log proof from one place.
	placeLimit = 5 * time.Second
)

// begin starts the pursuit of a group's manifest. The state is locked.
func (h *hunt) begin(g *group) {
	ctx, cancel := context.WithCancel(h.ctx)
	g.running, g.cancel = true, cancel
	h.working++
	h.tasks.Go(func() { h.pursue(ctx, g) })
}

// pursue looks for a group's manifest until one place gave it, or the search
// has ended and no place is left, or nobody wants it any more.
func (h *hunt) pursue(ctx context.Context, g *group) {
	var workers sync.WaitGroup
	for i := range parallel {
		workers.Go(func() {
			err := guard(func() error { h.work(ctx, g, time.Duration(i)*headStart); return nil })
			if err != nil {
				h.update(func() { h.condemn(g, err) })
			}
		})
	}
	workers.Wait()
	h.update(func() {
		g.cancel()
		g.running = false
		h.working--
		late := errors.Is(h.ctx.Err(), context.DeadlineExceeded)
		if h.useful(g) && !g.reported && (late || h.searched && !g.pending()) {
			g.reported = true
			h.reject(g.found.Origin, g.describe(g.failure()))
		}
	})
}

// work asks one place after the other, beginning after a delay.
func (h *hunt) work(ctx context.Context, g *group, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	for ctx.Err() == nil {
		var p *place
		h.wait(ctx, func() bool {
			p = g.pick()
			return p != nil || h.searched
		})
		if p == nil {
			return
		}
		h.ask(ctx, g, p)
	}
}

// ask tries to get the manifest, and where the medium asks for one its log
// proof, from one place, once.
func (h *hunt) ask(ctx context.Context, g *group, p *place) {
	raw, proof, err := h.download(ctx, g, p)
	h.update(func() {
		if g.manifest == nil {
			g.manifest = raw
		}
		switch {
		case g.dropped || g.verified != nil:
		case err != nil && errors.Is(ctx.Err(), context.Canceled):
			p.asked = time.Time{} // it was not the place's fault
		case err != nil:
			g.fail(p, err)
		default:
			h.take(g, p, proof)
		}
	})
}

func (h *hunt) download(ctx context.Context, g *group, p *place) (raw, proof []byte, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, h.corridor.budget(placeLimit), fetch.ErrTimeout)
	defer cancel()
	h.mu.Lock()
	raw = g.manifest
	h.mu.Unlock()
	if raw == nil {
		fetcher := *h.corridor.Fetcher
		fetcher.Retries, fetcher.Progress = 1, nil
		if raw, err = fetcher.Small(ctx, "manifest", g.hash, g.size, p.urls); err != nil {
			return nil, nil, err
		}
	}
	if h.corridor.Log == nil {
		return raw, nil, nil
	}
	if p.proof == "" {
		return raw, nil, &manifest.Error{Rule: manifest.RuleLog, Object: "manifest", Detail: "there is no log proof beside it"}
	}
	proof, err = h.corridor.Fetcher.Get(ctx, p.proof, logproof.MaxProofSize)
	if err != nil {
		err = &manifest.Error{Rule: manifest.RuleLog, Object: "manifest", Detail: "its log proof could not be fetched", Err: err}
	}
	return raw, proof, err
}

// take judges what a place gave. The manifest's bytes are the right ones, so
// that another place cannot help if they are refused, but it can with another
// proof. The state is locked.
func (h *hunt) take(g *group, p *place, proof []byte) {
	verified, err := h.verify(g, proof)
	switch {
	case err == nil:
		g.verified, g.proof = verified, proof
		g.deliver(p)
	case ruleOf(err).Rule == manifest.RuleLog:
		g.fail(p, err)
	default:
		g.proof = proof
		h.condemn(g, err)
	}
}

// verify judges a group's manifest. The state is locked.
func (h *hunt) verify(g *group, proof []byte) (verified *manifest.Verified, err error) {
	err = h.judge(func(v manifest.Verifier, now time.Time) (err error) {
		verified, err = v.Manifest(g.manifest, proof, g.pointer, now)
		return err
	})
	return verified, err
}

// condemn ends a group that cannot become a release, unless roots or clock
// move. The state is locked.
func (h *hunt) condemn(g *group, err error) {
	before := g.refused
	g.verified, g.refused = nil, err
	if before == nil || ruleOf(before).Rule != ruleOf(err).Rule {
		h.reject(g.found.Origin, g.describe(err))
	}
}

// review judges a group again. The state is locked.
func (h *hunt) review(g *group) {
	err := h.judge(func(v manifest.Verifier, now time.Time) (err error) {
		g.pointer, err = v.Pointer(g.found.Pointer, now)
		return err
	})
	if err != nil { // the candidate is judged again, and waits or is rejected
		h.drop(g)
		h.consider(g.candidate(), true)
		return
	}
	if g.verified == nil && g.refused == nil {
		return // its manifest, or a proof, is still looked for
	}
	verified, err := h.verify(g, g.proof)
	if err != nil {
		h.condemn(g, err)
		return
	}
	g.verified, g.refused = verified, nil
}

func (g *group) describe(err error) error {
	return fmt.Errorf("manifest of release %d from %s: %w", g.version, g.found.Origin, err)
}
