package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/internal/version"
	"github.com/phasebased/phase/internal/wasm"
)

// systemState is where a node system keeps what it must not lose.
const systemState = "/var/lib/plasm"

// defaultState is systemState for root and a folder of their own for others.
func defaultState() string {
	home, err := os.UserHomeDir()
	if os.Geteuid() == 0 || err != nil {
		return systemState
	}
	return filepath.Join(home, ".local", "state", "plasm")
}

// stateFlag adds --state. Its help says the same to everybody.
func stateFlag(cmd *cobra.Command, dir *string, what string) {
	cmd.Flags().StringVar(dir, "state", defaultState(), what+" (default "+systemState+" for root, ~/.local/state/plasm for others)")
	cmd.Flags().Lookup("state").DefValue = ""
}

// state is the node's folder: node.key, receipts/, blobs/ and tmp/ (modules, inputs), jobs/, empty/.
type state struct {
	dir       string
	ephemeral bool // the identity is never stored
}

// openState makes the folder where it is missing. What jobs work on and what they were
// is for the node's own user: other users of the machine are other submitters.
func openState(dir string, ephemeral bool) (*state, error) {
	s := &state{dir, ephemeral}
	for _, sub := range []struct {
		name string
		mode fs.FileMode
	}{{".", 0o700}, {"receipts", 0o700}, {"empty", 0o555}, {"jobs", 0o700}, {"blobs", 0o700}, {"tmp", 0o700}} {
		path := filepath.Join(dir, sub.name)
		err := os.MkdirAll(path, sub.mode)
		if err == nil && sub.name != "." { // which may be somebody's, for other things as well
			err = os.Chmod(path, sub.mode)
		}
		if err != nil {
			return nil, fmt.Errorf("state: %w (choose another folder with --state)", err)
		}
	}
	left, err := os.ReadDir(s.empty())
	if err == nil && len(left) != 0 {
		err = fmt.Errorf("state: %s is the root of every guest and must be empty", s.empty())
	}
	return s, err
}

func (s *state) empty() string { return filepath.Join(s.dir, "empty") }

// key is the node's identity.
func (s *state) key() (ed25519.PrivateKey, error) {
	if s.ephemeral {
		return node.EphemeralKey()
	}
	return node.LoadOrCreateKey(filepath.Join(s.dir, "node.key"))
}

// Bounds of what the node keeps, in bytes.
const (
	maxModules = 4 << 30
	maxOutputs = 1 << 30
	leaveFree  = 256 << 20 // at most; see spared
)

// spared is how much of dir's file system is left to others: a sixteenth, as a cache
// partition may be smaller than what is fair on a machine's own disk. What cannot be
// measured is taken for large.
func spared(dir string) int64 {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil || s.Blocks == 0 { // as ramfs says
		return leaveFree
	}
	return min(int64(s.Blocks)*int64(s.Bsize)/16, leaveFree)
}

// modules is where modules and inputs are kept: room for those of four jobs at least,
// and of those that one submitter brings for two.
func (s *state) modules(limits job.NodeLimits) (*node.Keeper, error) {
	most := max(maxModules, 4*limits.MaxUpload())
	kept, err := store.OpenLimited(s.dir, store.Limit{Bytes: most, Free: spared(s.dir)})
	if err != nil {
		return nil, err
	}
	return &node.Keeper{Store: kept, Share: most / 2}, nil
}

// jobs is where the desk keeps its journal and large outputs.
func (s *state) jobs() string { return filepath.Join(s.dir, "jobs") }

func (s *state) outputs() (*store.Store, error) {
	return store.OpenLimited(s.jobs(), store.Limit{Bytes: maxOutputs, Free: spared(s.dir)})
}

func (s *state) receipts() (*node.ReceiptLog, error) {
	return node.OpenReceiptLog(filepath.Join(s.dir, "receipts"))
}

// saveReceipt keeps a receipt under its job's name; running the same job again
// replaces it.
func (s *state) saveReceipt(r node.Report) (string, error) {
	path := filepath.Join(s.dir, "receipts", r.JobID.Hex()+".json")
	return path, durable.WriteFile(path, r.Receipt, 0o644)
}

// sandbox jails guests in plasm-jail where this program has it, else in copies of
// itself.
func sandbox(emptyDir string) (*wasm.Sandbox, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	empty, err := filepath.Abs(emptyDir)
	if err != nil {
		return nil, err
	}
	bin := filepath.Dir(exe)
	for _, path := range []string{filepath.Join(bin, "..", "lib", "plasm", jailProgram), filepath.Join(bin, jailProgram)} {
		if wasm.Speaks(context.Background(), path, version.Version) {
			return &wasm.Sandbox{Exe: path, EmptyDir: empty}, nil
		}
	}
	return &wasm.Sandbox{Exe: exe, Args: []string{runnerCommand}, EmptyDir: empty}, nil
}

// jailProgram is cmd/plasm-jail.
const jailProgram = "plasm-jail"

// readBounded reads a whole regular file of at most most bytes.
func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, &sizeError{path, most}
	}
	return data, nil
}

// sizeError says that a file is larger than what is read of it.
type sizeError struct {
	path string
	most int64
}

func (e *sizeError) Error() string { return fmt.Sprintf("%s is larger than %d bytes", e.path, e.most) }

// readModule reads a module from a file a person named.
func readModule(path string) ([]byte, error) {
	module, err := readBounded(path, job.MaxModuleBytes)
	var big *sizeError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &job.Refusal{
			Reason: job.Unavailable, Detail: "there is no such module", Err: err, Directions: "Check the path.",
		}
	case errors.As(err, &big):
		return nil, &job.Refusal{
			Reason: job.TooBig, Detail: "the module is too large", Err: err, Directions: "No node takes a larger module.",
		}
	}
	return module, err
}
