package node

import (
	"context"
	"fmt"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
)

// idle is a module whose _start does nothing:
// (module (memory (export "memory") 1) (func (export "_start"))).
const idle = "\x00asm\x01\x00\x00\x00" +
	"\x01\x04\x01\x60\x00\x00" + // a type: no parameters, no results
	"\x03\x02\x01\x00" + // a function of it
	"\x05\x03\x01\x00\x01" + // a memory of one page
	"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x00" + // both exported
	"\x0a\x04\x01\x02\x00\x0b" // the function: end

// Probe runs a module that does nothing, past all queues and without a receipt, to
// see whether a runner runs anything at all, and within which walls. The error is
// what a job would have failed of; a job.Result that came of it is given as well.
func Probe(ctx context.Context, r Runner, limits job.NodeLimits) (job.Result, error) {
	module := []byte(idle)
	j, err := job.New(job.Spec{
		Version: job.SpecVersion, Module: blob.Of(module), Limits: limits.Clamp(job.Limits{}),
	})
	if err != nil {
		return job.Result{}, err
	}
	res, err := r.Run(ctx, j, module)
	if err == nil && (res.State != job.Exited || res.ExitCode != 0) {
		err = fmt.Errorf("a job that does nothing ended as %s: %s", res.State, res.Detail)
	}
	return res, err
}

// Probe asks this node's own runner.
func (n *Node) Probe(ctx context.Context) error {
	_, err := Probe(ctx, n.cfg.Runner, n.cfg.Limits)
	return err
}
