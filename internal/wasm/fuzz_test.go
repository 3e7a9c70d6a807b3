package wasm

import (
	"bytes"
	"errors"
	"testing"

	"github.com/phasebased/phase/internal/job"
)

// FuzzInspect: any bytes are judged within bounds, and a refusal has a code.
func FuzzInspect(f *testing.F) {
	f.Fuzz(func(t *testing.T, module []byte) {
		err := Inspect(module, job.DefaultLimits)
		var r *job.Refusal
		if err != nil && (!errors.As(err, &r) || r.Code() == "NODE-000" || r.Detail == "") {
			t.Errorf("%v is not a refusal with a code", err)
		}
	})
}

// FuzzCollect plays a runner that is in the guest's hands.
func FuzzCollect(f *testing.F) {
	limits := job.Limits{StdoutBytes: 10, StderrBytes: 5}
	f.Fuzz(func(t *testing.T, stream []byte) {
		c := newCollector(limits)
		msg, err := c.collect(bytes.NewReader(stream))
		res := c.result()
		if int64(len(res.Stdout)) > limits.StdoutBytes || int64(len(res.Stderr)) > limits.StderrBytes {
			t.Errorf("kept %d and %d bytes", len(res.Stdout), len(res.Stderr))
		}
		if err == nil {
			if err := msg.applyTo(&res); (err != nil) != (res.State == job.Refused) {
				t.Errorf("state %s with %v", res.State, err)
			}
		}
	})
}
