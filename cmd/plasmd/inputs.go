package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
)

// localInputs are files that a person named, as inputs of a job: copies in memory, as the
// files may change while the job runs.
type localInputs struct {
	inputs map[string]job.Input
	files  map[string]*os.File // those that are not empty
}

// readInputs takes in NAME=FILE of each of args, of at most most bytes together.
func readInputs(args []string, most int64) (_ *localInputs, err error) {
	l := &localInputs{map[string]job.Input{}, map[string]*os.File{}}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	for _, arg := range args {
		name, path, ok := strings.Cut(arg, "=")
		switch _, twice := l.inputs[name]; {
		case !ok || !job.IsInputName(name):
			return nil, usageError{fmt.Errorf("--input %.80q is not NAME=FILE", arg)}
		case twice:
			return nil, usageError{fmt.Errorf("--input %s is given twice", name)}
		}
		file, in, err := sealedCopy(path, most)
		if err != nil {
			return nil, fmt.Errorf("--input %s: %w", name, err)
		}
		most -= in.Size
		if l.inputs[name] = in; in.Size > 0 {
			l.files[name] = file
		} else {
			file.Close()
		}
	}
	return l, nil
}

// open serves as node.Config.Input.
func (l *localInputs) open(_ context.Context, d blob.Digest, size int64) (*os.File, error) {
	for name, in := range l.inputs {
		if in.Digest == d && in.Size == size && size > 0 {
			fd, err := unix.FcntlInt(l.files[name].Fd(), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				return nil, os.NewSyscallError("fcntl", err)
			}
			return os.NewFile(uintptr(fd), name), nil
		}
	}
	return nil, fs.ErrNotExist
}

func (l *localInputs) close() {
	for _, f := range l.files {
		f.Close()
	}
}

// sealedCopy copies a file into memory that nobody can write to any more, not even this
// process. Source: memfd_create(2), fcntl(2) "File Sealing".
func sealedCopy(path string, most int64) (_ *os.File, in job.Input, err error) {
	from, err := os.Open(path)
	if err != nil {
		return nil, in, err
	}
	defer from.Close()
	fd, err := unix.MemfdCreate("input", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, in, os.NewSyscallError("memfd_create", err)
	}
	to := os.NewFile(uintptr(fd), "input")
	defer to.Close()
	if in.Size, err = io.Copy(to, io.LimitReader(from, most+1)); err != nil {
		return nil, in, err
	}
	if in.Size > most {
		return nil, in, &job.Refusal{Reason: job.TooBig, Detail: "the inputs have more bytes than this node takes"}
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(to.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, in, os.NewSyscallError("fcntl", err)
	}
	sealed, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", to.Fd()))
	if err != nil {
		return nil, in, err
	}
	in.Digest, err = digestOf(sealed, in.Size)
	if err != nil {
		sealed.Close()
		return nil, in, err
	}
	return sealed, in, nil
}

func digestOf(f *os.File, size int64) (blob.Digest, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, size)); err != nil {
		return blob.Digest{}, err
	}
	return blob.FromSum([32]byte(h.Sum(nil))), nil
}
