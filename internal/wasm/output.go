package wasm

import (
	"fmt"
	"io"
)

// Names of the output streams in messages.
const (
	stdoutName = "stdout"
	stderrName = "stderr"
)

// outputCapError ends a guest that wrote more to stream than it may.
type outputCapError struct{ stream string }

func (e *outputCapError) Error() string {
	return fmt.Sprintf("wrote more than its limit to %s", e.stream)
}

// cappedWriter passes at most left bytes on. The write that goes over the cap
// passes on what fits and panics with *outputCapError: an error would reach
// the guest as an errno, which it can ignore for ever, while a panic in a host
// function is how the engine lets a host end its guest (proc_exit works the
// same way). The engine recovers it and returns it as the guest's error.
type cappedWriter struct {
	w    io.Writer
	name string
	left int64
}

func (c *cappedWriter) Write(p []byte) (int, error) {
	over := int64(len(p)) > c.left
	if over {
		p = p[:c.left]
	}
	n, err := c.w.Write(p)
	c.left -= int64(n)
	if err != nil {
		return n, err
	}
	if over {
		panic(&outputCapError{c.name})
	}
	return n, nil
}
