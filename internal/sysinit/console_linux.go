package sysinit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Console is one active console of the kernel, open for reading and writing.
type Console struct {
	Name string // "ttyS0", "tty0"
	// VT is true for the machine's own screen and keyboard. Its font may lack
	// everything beyond ASCII.
	VT   bool
	File *os.File
}

// Consoles opens the consoles that are active, as the kernel lists them. They
// are opened without waiting for a carrier and without becoming the terminal
// that controls this process; writes to them go through Go's poller, so that a
// goroutine may block on one but a thread does not. A console that cannot be
// opened is reported beside those that can.
func Consoles() ([]Console, error) {
	names, err := ActiveConsoles(os.DirFS("/sys"))
	if err != nil {
		return nil, err
	}
	var consoles []Console
	var errs []error
	for _, name := range names {
		f, err := openTTY(filepath.Join("/dev", name))
		if err != nil {
			errs = append(errs, fmt.Errorf("console: %w", err))
			continue
		}
		consoles = append(consoles, Console{Name: name, VT: isVT(name), File: f})
	}
	return consoles, errors.Join(errs...)
}

// ActiveConsoles lists the names of the active consoles.
func ActiveConsoles(sys fs.FS) ([]string, error) {
	var names []string
	for _, name := range strings.Fields(readLine(sys, "class/tty/console/active")) {
		if plainName(name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, errors.New("console: none is active")
	}
	return names, nil
}

func openTTY(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
}

// isVT recognises tty0, tty1, …, but not ttyS0, ttyAMA0, hvc0.
func isVT(name string) bool {
	rest, ok := strings.CutPrefix(name, "tty")
	return ok && rest != "" && strings.Trim(rest, "0123456789") == ""
}

// SetRaw lets keys be read one by one, without echo, and still turns "\n" into
// a new line on output. What was typed before is dropped: it was not meant for
// the question that is asked now. What is still to be written is not waited for:
// a console that nobody listens to would hold up the others. The returned function
// sets the terminal back.
func (c Console) SetRaw() (restore func(), err error) {
	var old *unix.Termios
	err = c.control(func(fd int) error {
		if old, err = unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
			return err
		}
		raw := *old
		raw.Iflag &^= unix.ISTRIP | unix.IXON
		raw.Iflag |= unix.ICRNL
		raw.Lflag &^= unix.ICANON | unix.ECHO | unix.ISIG | unix.IEXTEN
		raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
		if err = unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
			return err
		}
		return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH)
	})
	if err != nil {
		return nil, fmt.Errorf("console %s: %w", c.Name, err)
	}
	return func() {
		_ = c.control(func(fd int) error { return unix.IoctlSetTermios(fd, unix.TCSETS, old) })
	}, nil
}

// Reset gives the terminal the modes of a new one. Whoever had it before (a
// program that was killed, a shell) may have left it without line ends or echo.
func (c Console) Reset() error {
	err := c.control(func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		t.Iflag |= unix.ICRNL
		t.Iflag &^= unix.INLCR | unix.IGNCR | unix.ISTRIP
		t.Oflag |= unix.OPOST | unix.ONLCR
		t.Lflag |= unix.ICANON | unix.ISIG | unix.IEXTEN | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHOCTL | unix.ECHOKE
		t.Cc[unix.VINTR], t.Cc[unix.VERASE], t.Cc[unix.VKILL], t.Cc[unix.VEOF] = 3, 0x7f, 21, 4
		return unix.IoctlSetTermios(fd, unix.TCSETS, t)
	})
	if err != nil {
		return fmt.Errorf("console %s: %w", c.Name, err)
	}
	return nil
}

// control calls f with the descriptor without taking it out of the poller.
func (c Console) control(f func(fd int) error) error {
	raw, err := c.File.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

// OpenKmsg opens the kernel's log for writing as the given name, and asks the
// kernel not to limit its rate: PID 1's lines are few, and each may be the one
// that explains a failure.
func OpenKmsg(name string) (*Kmsg, error) {
	_ = os.WriteFile("/proc/sys/kernel/printk_devkmsg", []byte("on\n"), 0)
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("kernel log: %w", err)
	}
	return NewKmsg(f, 6, name), nil
}

// QuietKernel keeps the kernel's own messages off the consoles, except errors
// worse than level (4 lets only errors and worse through); they stay in its log.
func QuietKernel(level int) error {
	if err := os.WriteFile("/proc/sys/kernel/printk", fmt.Appendf(nil, "%d\n", level), 0); err != nil {
		return fmt.Errorf("quiet the kernel: %w", err)
	}
	return nil
}

// ReportPort opens the virtio-serial port of that name, over which a virtual
// machine tells its host how it is doing. The error wraps fs.ErrNotExist where
// there is none, as on every real machine. Put a Queue before it.
func ReportPort(name string) (*os.File, error) {
	device, err := ReportDevice(os.DirFS("/sys"), name)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("report port: %w", err)
	}
	return f, nil
}

// ReportDevice is the device of the virtio-serial port of that name, as ReportPort
// finds it. sys is /sys. The device is the kernel's: nobody has to make it first.
func ReportDevice(sys fs.FS, name string) (string, error) {
	ports, err := fs.ReadDir(sys, "class/virtio-ports")
	if err != nil {
		return "", fmt.Errorf("report port: %w", err)
	}
	for _, port := range ports {
		if readLine(sys, path.Join("class/virtio-ports", port.Name(), "name")) == name && !strings.ContainsAny(port.Name(), " \t\n\"'\\$") {
			return "/dev/" + port.Name(), nil
		}
	}
	return "", fmt.Errorf("report port %s: %w", name, fs.ErrNotExist)
}
