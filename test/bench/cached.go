package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/phasebased/phase/internal/lab"
)

// cachedFigures boots one medium in Local mode over the network and then, with all
// its artifacts in the cache, from there: what the seed itself needs until it lets
// go of the machine. The reference is what it took over the network, in the same
// run. The provider is there each time, and says that there is nothing newer.
func cachedFigures(ctx context.Context, pairs int, accel string) ([]Figure, error) {
	b, _, _, err := prepare(ctx, accel)
	if err != nil {
		return nil, err
	}
	defer b.provider.Stop()
	medium := filepath.Join(b.run, "local.img")
	var cold, warm []*lab.Outcome
	for i := range pairs {
		_, err := b.lab.Image(ctx, lab.ImageOptions{Out: medium, Mode: "local", Options: "phase.provider=" + b.base})
		if err != nil {
			return nil, err
		}
		for _, into := range []*[]*lab.Outcome{&cold, &warm} {
			outcome, err := b.keep(ctx, medium)
			if err != nil {
				return nil, err
			}
			*into = append(*into, outcome)
		}
		fmt.Fprintf(os.Stderr, "pair %d: from the seed's init to the hand-over %.2f s over the network, %.2f s from the cache\n",
			i+1, cold[i].Seed.Seconds(), warm[i].Seed.Seconds())
	}
	showWalk(warm[len(warm)-1])
	seconds := func(o *lab.Outcome) float64 { return o.Seed.Seconds() }
	value, reference := medianOf(warm, seconds), medianOf(cold, seconds)
	return []Figure{{"seed's init to hand-over, from the cache", value, "s", reference, value / reference, "<= 3 s"}}, nil
}

// keep boots a medium that keeps what is written to it.
func (b *bench) keep(ctx context.Context, image string) (*lab.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, bootWithin)
	defer cancel()
	machine, err := b.lab.Boot(ctx, lab.BootOptions{Image: image, Run: b.run, Accel: b.accel})
	if err != nil {
		return nil, err
	}
	defer machine.Quit(context.WithoutCancel(ctx))
	outcome, err := lab.Follow(ctx, machine, lab.ReceiptDelivered)
	switch {
	case err != nil:
		return nil, err
	case outcome.Failure != nil:
		return nil, fmt.Errorf("the machine stopped: %s", outcome.Failure.Text)
	case outcome.Seed == 0:
		return nil, errors.New("the seed did not say when it let go")
	}
	return outcome, nil
}

// showWalk prints where the time goes.
func showWalk(o *lab.Outcome) {
	table := tabwriter.NewWriter(os.Stderr, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "kernel\tstage\tfrom s\ttook s\t")
	for _, s := range o.Stages {
		fmt.Fprintf(table, "%s\t%s\t%.2f\t%.2f\t%s\n", s.Kernel, s.Name, s.Start.Seconds(), (s.End - s.Start).Seconds(), s.Note)
	}
	table.Flush()
}
