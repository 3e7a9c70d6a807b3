// Package trust remembers what a machine must not forget between boots, and
// decides which time to believe.
//
// A State is the memory of one medium, on its cache partition:
//
//   - the version floor of every channel: the newest release ever booted, so
//     that nobody can offer an older one, however validly it was signed;
//   - the latest time that certainly has passed, for machines whose clock died;
//   - the successors of the root that the medium was made with;
//   - the releases that were booted last, for a boot without a network.
//
// The power may be cut at any moment, and a medium may rot. So a small value is
// kept in two slots (see slots) and every file is replaced, never changed; what
// is found damaged is said, and never taken for nothing.
//
// Only the floors and the time are believed as they are stored: to change them
// takes hands on the medium, and such hands could exchange the medium's root as
// well. Roots and releases come back as bytes without trust, to be verified
// again.
//
// The clock of a machine is a hint. See Clock.
package trust

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/manifest"
)

// State is the memory of one medium, a directory. It is safe for concurrent
// use, by several processes as well. A nil State is the memory of a medium that
// keeps none: it loads nothing, saves nothing, and never fails.
type State struct{ dir string }

// OpenState returns the state kept in dir. It touches nothing: what does not
// exist was never stored, and the first save creates the directory.
func OpenState(dir string) *State { return &State{dir} }

// prefix starts the names of the files that are about want.
func prefix(want manifest.Want) string { return want.Channel + "-" + want.Arch + "." }

func (s *State) path(file string) string { return filepath.Join(s.dir, file) }

// locked runs do while no other process writes to the state. It creates the
// directory if need be, and refuses one that is a symbolic link.
func (s *State) locked(do func() error) error {
	if err := durable.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	unlock, err := lock(s.dir, syscall.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unlock()
	return do()
}

// lock takes an exclusive lock on a directory, opened with flags. It ends with
// the process, or with unlock, and leaves no file behind.
func lock(dir string, flags int) (unlock func(), err error) {
	file, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|flags, 0)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { file.Close() }, nil
}

// readSmall reads a file of at most limit bytes. It follows no symbolic link
// and waits for no pipe.
func readSmall(path string, limit int) ([]byte, error) {
	return durable.ReadSmall(path, limit, durable.RefuseLinks)
}

// sweep removes what keep does not want, and what a crash left behind. Failure
// costs space and nothing else. The caller holds the lock.
func (s *State) sweep(unwanted func(file string) bool) error {
	dir, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(128)
		if len(names) == 0 || err != nil {
			if err == io.EOF {
				err = nil
			}
			return err
		}
		for _, file := range names {
			if strings.HasPrefix(file, durable.TempPrefix) || unwanted(file) {
				if err := os.Remove(s.path(file)); err != nil {
					return err
				}
			}
		}
	}
}

// checkWant keeps names that reach the file system to the known ones.
func checkWant(want manifest.Want) error {
	if err := manifest.CheckChannel(want.Channel); err != nil {
		return err
	}
	if arch, err := manifest.ParseArch(want.Arch); err != nil || arch != want.Arch {
		return fmt.Errorf("unknown architecture %.40q", want.Arch)
	}
	return nil
}
