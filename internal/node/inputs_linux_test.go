package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/internal/wasm/wasmtest"
	"github.com/phasebased/phase/receipt"
)

// firstBytes is a guest that writes the first 5 bytes of the input a.
func firstBytes(t *testing.T) []byte {
	t.Helper()
	module, err := wasmtest.Assemble(`(module
		(import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
		(import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
		(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
		(memory (export "memory") 1) (data (i32.const 64) "a")
		(func (export "_start")
			i32.const 0 i32.const 128 i32.store i32.const 4 i32.const 5 i32.store
			i32.const 3 i32.const 0 i32.const 64 i32.const 1 i32.const 0 i64.const 2 i64.const 0 i32.const 0 i32.const 32 call $open drop
			i32.const 4 i32.const 0 i32.const 1 i32.const 32 call $read drop
			i32.const 1 i32.const 0 i32.const 1 i32.const 32 call $write drop))`)
	if err != nil {
		t.Fatal(err)
	}
	return module
}

func openStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t *testing.T, s *store.Store, data []byte) {
	t.Helper()
	if err := s.Put(blob.Of(data), int64(len(data)), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}

func TestReceiptNamesInputs(t *testing.T) {
	module, data := firstBytes(t), []byte("hello, input")
	s := openStore(t)
	put(t, s, data)
	source := &Inputs{Store: s}
	n := newNode(t, func(c *Config) { c.Input = source.Open }, module)
	inputs := map[string]job.Input{"a": {Digest: blob.Of(data), Size: int64(len(data))}, "nothing": {Digest: blob.Of(nil)}}
	report, err := n.Execute(t.Context(), newJob(t, job.Spec{Module: blob.Of(module), Inputs: inputs}))
	if err != nil {
		t.Fatal(err)
	}
	if report.Result.State != job.Exited || string(report.Result.Stdout) != "hello" {
		t.Fatalf("%s %s, stdout %q", report.Result.State, report.Result.Detail, report.Result.Stdout)
	}
	st, err := receipt.Verify(report.Receipt, n.Public())
	if err != nil {
		t.Fatal(err)
	}
	if got := st.Result.Inputs; len(got) != 2 || got["a"] != receipt.Input(inputs["a"]) || got["nothing"] != receipt.Input(inputs["nothing"]) {
		t.Errorf("the receipt names %v", got)
	}
}

func TestInputsThatCannotBeHad(t *testing.T) {
	module, data := firstBytes(t), []byte("hello, input")
	d, size := blob.Of(data), int64(len(data))
	j := newJob(t, job.Spec{Module: blob.Of(module), Inputs: map[string]job.Input{"a": {Digest: d, Size: size}}})
	s := openStore(t)
	missing := &Inputs{Store: s}
	failing := &Inputs{Store: s, Download: func(context.Context, blob.Digest, int64) error { return errors.New("the network is down") }}
	liar := &Inputs{Store: s, Download: func(context.Context, blob.Digest, int64) error { return nil }}
	for name, c := range map[string]struct {
		change func(*Config)
		reason job.Reason
		text   string
	}{
		"no source":       {func(*Config) {}, job.Unsupported, "no jobs with inputs"},
		"a simple runner": {func(c *Config) { c.Runner, c.Input = &namesRunner{}, missing.Open }, job.Unsupported, "no jobs with inputs"},
		"too large":       {func(c *Config) { c.Input, c.Limits.InputBytes = missing.Open, size-1 }, job.TooBig, "inputs of 12 bytes"},
		"missing":         {func(c *Config) { c.Input = missing.Open }, job.Unavailable, "no provider is known"},
		"failing":         {func(c *Config) { c.Input = failing.Open }, job.Unavailable, "the network is down"},
		"nothing comes":   {func(c *Config) { c.Input = liar.Open }, job.Unavailable, "input a"},
	} {
		_, err := newNode(t, c.change, module).Execute(t.Context(), j)
		var r *job.Refusal
		if !errors.As(err, &r) || r.Reason != c.reason || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What lies in the store is read for every job: a copy that has rotted, or to which
// others may write, is not used, and a rotten one makes room for a right one.
func TestStoredInputsAreVerified(t *testing.T) {
	data := []byte("hello, input")
	d, size := blob.Of(data), int64(len(data))
	s := openStore(t)
	put(t, s, data)
	downloads := 0
	source := &Inputs{Store: s, Download: func(context.Context, blob.Digest, int64) error {
		downloads++
		return s.Put(d, size, bytes.NewReader(data))
	}}
	check := func(what string, want int) {
		t.Helper()
		f, err := source.Open(t.Context(), d, size)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer f.Close()
		if got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20)); err != nil || !bytes.Equal(got, data) || downloads != want {
			t.Errorf("%s: %q, %v, %d downloads", what, got, err, downloads)
		}
		if _, err := f.WriteAt([]byte("x"), 0); err == nil {
			t.Errorf("%s: the file can be written to", what)
		}
	}
	check("stored", 0)
	if err := os.WriteFile(s.Path(d), []byte("jello, input"), 0o644); err != nil {
		t.Fatal(err)
	}
	check("rotten", 1)
	if err := os.Remove(s.Path(d)); err != nil {
		t.Fatal(err)
	}
	check("gone", 2)
	if err := os.Chmod(s.Path(d), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Open(t.Context(), d, size); !errors.Is(err, errOthers) {
		t.Errorf("one that everybody may write to: %v", err)
	}
	if err := os.Chmod(s.Path(d), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Open(t.Context(), d, size-1); err == nil || !s.Has(d) {
		t.Errorf("asked for with another size, which must not cost others their input: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := source.Open(ctx, d, size); !errors.Is(err, context.Canceled) {
		t.Errorf("though nobody waits: %v", err)
	}
}
