package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/vm"
)

// inGuest reports that this process runs in a guest that is ready.
func inGuest() bool {
	_, err := os.Stat(doneFile)
	return err == nil
}

// isInit reports that this process is the init of a guest.
func isInit() bool {
	if os.Getpid() != 1 {
		return false
	}
	_, err := os.Stat(specFile)
	return err == nil
}

// serve is the life of process 1. It does not return: the host pulls the plug
// when it knows the outcome, and the guest turns itself off where the host is
// slow. What cannot even be reported is printed on the console, where the host
// finds it when no outcome comes.
func serve() {
	port, err := ready()
	if err == nil {
		err = runTest(port)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "guest: %v\n", err)
		if port != nil {
			_ = port.send(message{Failure: err.Error()}) // the console has it too
		}
	}
	if err := sysinit.PowerOff(time.Second); err != nil {
		fmt.Fprintf(os.Stderr, "guest: %v\n", err)
	}
	select {}
}

// reporter is the way to the host.
type reporter struct {
	file *os.File
	spec spec
}

func (r *reporter) send(m message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = r.file.Write(append(line, '\n'))
	return err
}

// ready makes the machine what the tests expect: mounted, with its modules and a
// loopback. The port comes first, so that everything else can be reported.
func ready() (*reporter, error) {
	if err := mount(); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(specFile)
	if err != nil {
		return nil, err
	}
	r := &reporter{}
	if err := json.Unmarshal(data, &r.spec); err != nil {
		return nil, err
	}
	for _, m := range r.spec.Modules {
		if err := m.load(); err != nil {
			return r.opened(err)
		}
		if r.file == nil {
			// An error means that the port's own module has not been loaded yet.
			r.file, _ = sysinit.ReportPort(vm.ReportPort)
		}
	}
	if r.file == nil {
		if r.file, err = sysinit.ReportPort(vm.ReportPort); err != nil {
			return nil, err
		}
	}
	return r, errors.Join(loopbackUp(), sysinit.SetHostname("guest"), links(), os.Rename(specFile, doneFile))
}

// mount mounts the early file systems, except over folders that may hold what came
// with the initramfs: it lies in memory anyway, and the test's working folder may
// well be below /tmp.
func mount() error {
	table := slices.DeleteFunc(sysinit.Early(), func(f sysinit.Filesystem) bool { return f.Target == "/tmp" || f.Target == "/run" })
	if err := sysinit.RequiredOnly(sysinit.MountAll("/", table)); err != nil {
		return err
	}
	return os.Chmod("/tmp", 0o777|fs.ModeSticky)
}

// opened returns the reporter if there is one yet.
func (r *reporter) opened(err error) (*reporter, error) {
	if r.file == nil {
		return nil, err
	}
	return r, err
}

func (m module) load() error {
	f, err := os.Open(m.File)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), m.Params, 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load %s %s: %w", filepath.Base(m.File), m.Params, err)
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return nil
}

// links are what udev makes in /dev.
func links() error {
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(target, "/dev/"+name); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// runTest runs the test binary once more and reports what it prints and how it
// ends. Whatever the test has left running is killed with it.
func runTest(r *reporter) error {
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	if err := r.send(message{Started: true}); err != nil {
		return err
	}
	s := sysinit.NewSupervisor(nil)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = s.Run(ctx) }() // ends with ctx
	child, err := s.Start(sysinit.Command{Path: "/proc/self/exe", Args: r.spec.Args, Env: r.spec.Env, Dir: r.spec.Dir, Files: []*os.File{nil, in, in}})
	if err != nil {
		return err
	}
	if err := in.Close(); err != nil {
		return err
	}
	copied := make(chan error, 1)
	go func() { copied <- r.copyFrom(out) }()
	exit, err := child.Wait(ctx)
	if err != nil {
		return err
	}
	if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return errors.Join(<-copied, r.send(message{Exit: exit.String()}))
}

// copyFrom reports output in pieces that fit a report line.
func (r *reporter) copyFrom(out io.Reader) error {
	buf := make([]byte, 16<<10)
	for {
		n, err := out.Read(buf)
		if n > 0 {
			if err := r.send(message{Output: buf[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
