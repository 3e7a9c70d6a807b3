package wasm

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/phasebased/phase/internal/job"
)

// collector gathers a guest's output as it arrives. The runner caps the
// output too; this side does not rely on it, because a runner may be in the
// guest's hands.
type collector struct {
	out, err limitedBuffer
}

func newCollector(l job.Limits) *collector {
	return &collector{limitedBuffer{most: l.StdoutBytes}, limitedBuffer{most: l.StderrBytes}}
}

// collect reads frames up to the outcome.
func (c *collector) collect(r io.Reader) (outcomeMessage, error) {
	for {
		kind, body, err := readFrame(r, answerLimit)
		if err != nil {
			return outcomeMessage{}, noEOF(err)
		}
		switch kind {
		case frameStdout:
			_, _ = c.out.Write(body)
		case frameStderr:
			_, _ = c.err.Write(body)
		default:
			var msg outcomeMessage
			if err := readJSON(body, &msg); err != nil {
				return outcomeMessage{}, fmt.Errorf("outcome: %w", err)
			}
			return msg, nil
		}
	}
}

// answerLimit bounds the frames a runner may send once it works.
func answerLimit(k frameKind) int64 {
	switch k {
	case frameStdout, frameStderr:
		return maxOutput
	case frameOutcome:
		return maxControl
	}
	return -1
}

func (c *collector) result() job.Result {
	return job.Result{
		Stdout: c.out.Bytes(), StdoutTruncated: c.out.over,
		Stderr: c.err.Bytes(), StderrTruncated: c.err.over,
	}
}

var errUnknownState = errors.New("the runner reported an unknown state")

// applyTo completes a result with the runner's last word. It returns a
// *job.Refusal if the module was not run.
func (m outcomeMessage) applyTo(res *job.Result) error {
	res.State, res.Detail, res.Engine = m.State, m.Detail, m.Engine
	res.ExitCode, res.PeakMemoryBytes = int(m.ExitCode), max(0, m.PeakBytes)
	res.FuelUsed = max(0, m.FuelUsed)
	res.Timings.Compile, res.Timings.Run = nanoseconds(m.CompileNS), nanoseconds(m.RunNS)
	switch m.State {
	case job.OutputCap:
		// The stream that is full is the one that was cut.
		res.StdoutTruncated = res.StdoutTruncated || m.Detail == stdoutName
		res.StderrTruncated = res.StderrTruncated || m.Detail == stderrName
		res.Detail = "wrote more than its limit to " + m.Detail
	case job.Exited, job.Trapped, job.OutOfFuel, job.OutOfMemory:
	case job.InfraError:
		res.FuelUsed = 0 // nothing that others would find
	case job.Refused:
		return &job.Refusal{Reason: m.Reason, Detail: m.Detail, Directions: m.Directions}
	default:
		*res = job.Result{State: job.InfraError, Detail: errUnknownState.Error()}
	}
	return nil
}

// limitedBuffer keeps the first most bytes written to it and notes whether
// there were more. It is safe for concurrent use.
type limitedBuffer struct {
	most int64
	mu   sync.Mutex
	kept []byte
	over bool
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	room := b.most - int64(len(b.kept))
	if int64(len(p)) > room {
		b.over = true
		b.kept = append(b.kept, p[:room]...)
		return len(p), nil
	}
	b.kept = append(b.kept, p...)
	return len(p), nil
}

// Bytes gives what was kept; the caller must not write to the buffer any more.
func (b *limitedBuffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept
}
