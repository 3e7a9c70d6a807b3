package wasm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
)

// inputsOf writes files and opens them for reading.
func inputsOf(t *testing.T, contents map[string][]byte) (map[string]job.Input, map[string]*os.File) {
	t.Helper()
	inputs, files := map[string]job.Input{}, map[string]*os.File{}
	for name, data := range contents {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		inputs[name], files[name] = job.Input{Digest: blob.Of(data), Size: int64(len(data))}, f
	}
	return inputs, files
}

// tail is a guest that writes the last bytes of an input.
func tail(t *testing.T, name string, size int) []byte {
	return script(t, []step{
		open(name, 0, rightRead, eOK), {"fd_seek", []any{4, -size, 2, 200}, eOK}, {"fd_read", []any{4, atIovs, 1, 208}, eOK},
	})
}

func TestJailedGuestReadsInputs(t *testing.T) {
	s := testSandbox(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16) // more than a heap of the runner's, were it copied
	copy(big[len(big)-8:], "the end.")
	inputs, files := inputsOf(t, map[string][]byte{"big": big, "a": []byte("first"), "empty": nil, "z": []byte("last")})
	delete(files, "empty") // not needed
	for name, want := range map[string]string{"big": "the end.", "a": "irst", "z": "last"} {
		module := tail(t, name, len(want))
		j := newJob(t, module, func(spec *job.Spec) { spec.Inputs = inputs })
		res, err := s.RunWith(t.Context(), "somebody", j, module, files)
		if err != nil || res.State != job.Exited || !bytes.Contains(res.Stdout, []byte(want)) {
			t.Fatalf("%s: %+v, %v", name, res.State+": "+job.State(res.Detail), err)
		}
		for _, wall := range []string{WallFresh, WallSeccomp} {
			if !slices.Contains(res.Walls, wall) && slices.Contains(wallsOf(t, s), wall) {
				t.Errorf("%s: the wall %s is missing around a job with inputs: %q", name, wall, res.Walls)
			}
		}
	}
}

// TestAsManyInputsAsAJobMayHave are more than the files that a jail may have open.
func TestAsManyInputsAsAJobMayHave(t *testing.T) {
	s := testSandbox(t)
	contents := map[string][]byte{}
	for i := range job.MaxInputs {
		contents[fmt.Sprintf("f%02d", i)] = fmt.Appendf(nil, "this is %02d", i)
	}
	inputs, files := inputsOf(t, contents)
	var steps []step
	for i := range job.MaxInputs {
		steps = append(steps, open(fmt.Sprintf("f%02d", i), 0, rightRead, eOK), step{"fd_pread", []any{4 + i, atIovs, 1, 0, 200}, eOK})
	}
	module := script(t, steps)
	for range 2 {
		res, err := s.RunWith(t.Context(), "", newJob(t, module, func(spec *job.Spec) { spec.Inputs = inputs }), module, files)
		if err != nil || res.State != job.Exited || !bytes.HasPrefix(res.Stdout[atBuffer:], []byte("this is 15")) {
			t.Fatalf("%s %s, %v", res.State, res.Detail, err)
		}
	}
}

// wallsOf are those around a job without inputs.
func wallsOf(t *testing.T, s *Sandbox) []string {
	module := assemble(t, `(module (func (export "_start")))`)
	res, err := s.Run(t.Context(), newJob(t, module, nil), module)
	if err != nil || res.State != job.Exited {
		t.Fatalf("%+v, %v", res, err)
	}
	return res.Walls
}

func TestInputsThatDoNotFit(t *testing.T) {
	s := testSandbox(t)
	module := tail(t, "a", 1)
	inputs, files := inputsOf(t, map[string][]byte{"a": []byte("first"), "b": []byte("second")})
	j := newJob(t, module, func(spec *job.Spec) { spec.Inputs = inputs })
	folder, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	for name, given := range map[string]map[string]*os.File{
		"none": nil, "one": {"a": files["a"]}, "exchanged": {"a": files["b"], "b": files["a"]}, "a folder": {"a": folder, "b": files["b"]},
	} {
		if res, err := s.RunWith(t.Context(), "", j, module, given); err != nil || res.State != job.InfraError {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
}

// A file that is cut short under a guest ends the job as the node's failure; nobody gets
// to see other bytes.
func TestInputThatVanishes(t *testing.T) {
	s := testSandbox(t)
	path := filepath.Join(t.TempDir(), "file")
	data := make([]byte, 64<<10)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	module := tail(t, "a", 1)
	j := newJob(t, module, func(spec *job.Spec) {
		spec.Inputs = map[string]job.Input{"a": {Digest: blob.Of(data), Size: int64(len(data))}}
	})
	born, err := bornWith(j, map[string]*os.File{"a": f})
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.startAlone(t.Context(), j.Limits(), born)
	if err != nil {
		t.Fatal(err)
	}
	defer r.release()
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	res, err := r.work(t.Context(), j, module)
	if err != nil || res.State != job.InfraError || len(res.Stdout) != 0 {
		t.Errorf("%+v, %v", res, err)
	}
}

// While a guest reads, its process has no file open, and its mapping of the input can
// neither be written nor made writable.
func TestJailHoldsNoFile(t *testing.T) {
	s := testSandbox(t)
	inputs, files := inputsOf(t, map[string][]byte{"a": []byte("first")})
	module := tail(t, "a", 1)
	j := newJob(t, module, func(spec *job.Spec) { spec.Inputs = inputs })
	born, err := bornWith(j, files)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.startAlone(context.Background(), j.Limits(), born)
	if err != nil {
		t.Fatal(err)
	}
	defer r.release()
	dir := fmt.Sprintf("/proc/%d/", r.cmd.Process.Pid)
	fds, err := os.ReadDir(dir + "fd")
	maps, err2 := os.ReadFile(dir + "maps")
	if err != nil || err2 != nil {
		t.Skipf("/proc does not show the jail's files to this user: %v, %v", err, err2)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(dir + "fd/" + fd.Name()); err == nil && strings.HasPrefix(to, "/") {
			t.Errorf("the jail has %s open", to)
		}
	}
	found := false
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, files["a"].Name()) {
			found = true
			if !strings.Contains(line, " r--s ") {
				t.Errorf("mapped as %s", line)
			}
		}
	}
	if !found {
		t.Error("the input is not mapped")
	}
	// The same kind of mapping in this process, as no guest can be asked to try.
	data, err := unix.Mmap(int(files["a"].Fd()), 0, 5, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(data)
	if err := unix.Mprotect(data, unix.PROT_READ|unix.PROT_WRITE); err != unix.EACCES {
		t.Errorf("making it writable: %v", err)
	}
}

// A jail that holds a job's inputs serves no other job.
func TestJailWithInputsIsNotUsedAgain(t *testing.T) {
	s := testSandbox(t)
	s.Reuse, s.Spare = 4, 1
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	inputs, files := inputsOf(t, map[string][]byte{"a": []byte("first")})
	module := tail(t, "a", 1)
	j := newJob(t, module, func(spec *job.Spec) { spec.Inputs = inputs })
	for range 2 {
		res, err := s.RunWith(ctx, "somebody", j, module, files)
		if err != nil || res.State != job.Exited || !slices.Contains(res.Walls, WallFresh) {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	s.spares.mu.Lock()
	defer s.spares.mu.Unlock()
	if len(s.spares.used) != 0 {
		t.Error("a jail with inputs waits for another job")
	}
}
