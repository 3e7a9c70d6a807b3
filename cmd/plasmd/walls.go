package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/phasebased/phase/internal/wasm"
)

// allWalls is the value of required_walls that stands for each wall there is.
const allWalls = "all"

// checkWalls looks at required_walls.
func (c config) checkWalls() error {
	for _, name := range c.RequiredWalls {
		if name != allWalls && !slices.Contains(wasm.AllWalls[:], name) {
			return fmt.Errorf("%.80q is no wall; docs/jobs.md names them", name)
		}
	}
	if c.JobsPerJail > 1 && slices.Contains(c.requiredWalls(), wasm.WallFresh) {
		return errors.New(wasm.WallFresh + " cannot stand where jobs_per_jail is more than 1")
	}
	return nil
}

// requiredWalls are the walls without which no job is run, by name.
func (c config) requiredWalls() []string {
	if slices.Contains(c.RequiredWalls, allWalls) {
		return wasm.AllWalls[:]
	}
	return c.RequiredWalls
}

// tryWalls builds the walls once, before anybody may give this node a job: where one
// is missing that has to stand, the node does not start. One that goes missing later
// costs the jobs that come then (wasm.Sandbox.Required).
func (d *daemon) tryWalls(ctx context.Context) error {
	if len(d.box.Required) == 0 {
		return nil
	}
	err := d.node.Probe(ctx)
	var lacks *wasm.WallsError
	if errors.As(err, &lacks) {
		return lacks
	}
	return err
}

// lookAtRequired compares the walls that stood around a job with those that have to.
// Those of control groups only the service has.
func lookAtRequired(cfg config, walls []string, grouped bool) finding {
	required := cfg.requiredWalls()
	if len(required) == 0 {
		return finding{"required walls", fine, "none: jobs run behind those that can be built", ""}
	}
	lacks := wasm.Lacking(required, walls)
	unseen := slices.DeleteFunc(slices.Clone(lacks), func(w string) bool { return grouped || !strings.HasPrefix(w, "cgroup-") })
	switch {
	case len(lacks) > len(unseen):
		return finding{"required walls", faulty, (&wasm.WallsError{Lacks: lacks}).Error(), "Mend what the lines on these walls say, or take them out of required_walls: the node does not start."}
	case len(unseen) > 0:
		return finding{"required walls", noted, "cannot be seen from here: " + strings.Join(unseen, ", "), "The service has a control group; if a wall is missing there, it does not start and says so (NODE-014)."}
	}
	return finding{"required walls", fine, fmt.Sprintf("all %d of required_walls stand", len(required)), ""}
}
