package jobpeer_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/internal/wasm/wasmtest"
	"github.com/phasebased/phase/receipt"
)

// readsInput writes the first 5 bytes of the input a.
const readsInput = `(module
	(import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
	(import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
	(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
	(memory (export "memory") 1) (data (i32.const 64) "a")
	(func (export "_start")
		i32.const 0 i32.const 128 i32.store i32.const 4 i32.const 5 i32.store
		i32.const 3 i32.const 0 i32.const 64 i32.const 1 i32.const 0 i64.const 2 i64.const 0 i32.const 0 i32.const 32 call $open drop
		i32.const 4 i32.const 0 i32.const 1 i32.const 32 call $read drop
		i32.const 1 i32.const 0 i32.const 1 i32.const 32 call $write drop))`

func withInput(t *testing.T, module []byte, in job.Input) *job.Job {
	t.Helper()
	j, err := job.New(job.Spec{Version: job.SpecVersion, Module: blob.Of(module), Inputs: map[string]job.Input{"a": in}})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// TestPushedInput: a submitter brings module and input, and the job reads it.
func TestPushedInput(t *testing.T) {
	module, err := wasmtest.Assemble(readsInput)
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("hello, input. "), 20_000) // several blocks
	in := job.Input{Digest: blob.Of(data), Size: int64(len(data))}
	source := &node.Inputs{}
	s := open(t, sandbox(t), func(c *node.Config, p *jobpeer.Config) {
		c.Input = source.Open
		p.MaxInputBytes = in.Size
	})
	source.Store = s.blobs
	c := client(t, carrier)
	j := withInput(t, module, in)
	envelope := sign(t, j, owner)
	push := func(envelope, bytesOf []byte, d blob.Digest, size int64) error {
		return c.Push(soon(t), s.peer, envelope, d, size, bytes.NewReader(bytesOf))
	}
	bigger := append([]byte("x"), data...)
	for name, p := range map[string]struct {
		envelope []byte
		data     []byte
		reason   job.Reason
	}{
		"of no job":         {envelope, []byte("other"), job.Unauthorised},
		"of a job without":  {sign(t, newJob(t, module), owner), data, job.Unauthorised},
		"of a stranger":     {sign(t, j, stranger), data, job.Unauthorised},
		"larger than taken": {sign(t, withInput(t, module, job.Input{Digest: blob.Of(bigger), Size: in.Size + 1}), owner), bigger, job.TooBig},
		"of another size":   {sign(t, withInput(t, module, job.Input{Digest: in.Digest, Size: in.Size - 1}), owner), data, job.Unauthorised},
	} {
		var r *job.Refusal
		if err := push(p.envelope, p.data, blob.Of(p.data), int64(len(p.data))); !errors.As(err, &r) || r.Reason != p.reason {
			t.Errorf("an input %s: %v, want %s", name, err, p.reason)
		}
	}
	for range 2 { // the second time the node has them
		if err := errors.Join(push(envelope, module, blob.Of(module), int64(len(module))), push(envelope, data, in.Digest, in.Size)); err != nil {
			t.Fatal(err)
		}
	}
	a, err := c.Submit(soon(t), s.peer, envelope, nil)
	if err != nil {
		t.Fatal(err)
	}
	st, err := receipt.Verify(a.Receipt, s.peer.Key)
	if err != nil || string(a.Stdout) != "hello" || st.Result.Inputs["a"] != receipt.Input(in) {
		t.Errorf("stdout %q, inputs %v, %v", a.Stdout, st.Result.Inputs, err)
	}
}
