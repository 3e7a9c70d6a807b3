package sdnotify

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Probe asks one part of a daemon for an answer.
type Probe struct {
	Name string
	// Ask returns when the part has answered; an error is an answer as well. One
	// that hangs may not even follow ctx.
	Ask func(ctx context.Context) error
}

// A Watchdog looks whether all parts of a daemon answer. What it catches is a daemon
// that hangs, which a new start cures. A part that answers with an error is alive;
// starting it again and again would not help, so that is only told.
type Watchdog struct {
	Every    time.Duration // between two looks
	Patience time.Duration // for the answer of a part
	Probes   []Probe
	// Alive is called after a look at which all parts have answered; trouble joins
	// their errors.
	Alive func(trouble error)
	// Hangs is called after a look at which some have not, with their names.
	Hangs func(parts []string)
}

// Run looks until ctx ends, at first at once.
func (w *Watchdog) Run(ctx context.Context) {
	pending := make([]chan error, len(w.Probes))
	tick := time.NewTicker(w.Every)
	defer tick.Stop()
	for {
		hangs, trouble := w.look(ctx, pending)
		switch {
		case ctx.Err() != nil:
			return
		case len(hangs) > 0:
			w.Hangs(hangs)
		default:
			w.Alive(trouble)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look asks all parts at once. One that still owes the last answer is not asked again:
// pending has what its goroutine will say.
func (w *Watchdog) look(ctx context.Context, pending []chan error) (hangs []string, trouble error) {
	ctx, cancel := context.WithTimeout(ctx, w.Patience)
	defer cancel()
	for i, p := range w.Probes {
		if pending[i] == nil {
			answer := make(chan error, 1)
			pending[i] = answer
			go func() { answer <- p.Ask(ctx) }()
		}
	}
	for i, p := range w.Probes {
		err, answered := await(ctx, pending[i])
		if !answered {
			hangs = append(hangs, p.Name)
			continue
		}
		pending[i] = nil
		if err != nil {
			trouble = errors.Join(trouble, fmt.Errorf("%s: %w", p.Name, err))
		}
	}
	return hangs, trouble
}

// await prefers an answer to the end of the patience.
func await(ctx context.Context, answer <-chan error) (err error, answered bool) {
	select {
	case err = <-answer:
		return err, true
	case <-ctx.Done():
	}
	select {
	case err = <-answer:
		return err, true
	default:
		return nil, false
	}
}
