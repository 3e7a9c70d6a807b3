package sysinit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Watcher receives the kernel's uevents. One goroutine at a time may use it.
type Watcher struct {
	file *os.File
	raw  syscall.RawConn
	buf  [maxUevent + 1]byte
}

// ErrLost says that events came faster than they were read. What they told must
// be looked up in /sys.
var ErrLost = errors.New("uevents were lost")

// NewWatcher opens a netlink socket to the kernel's uevents. Events are kept
// from now on, so that a caller who looks at /sys afterwards misses nothing.
func NewWatcher() (*Watcher, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("uevent socket: %w", err)
	}
	// A busy cold plug makes hundreds of events while one module loads.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
	file := os.NewFile(uintptr(fd), "uevents")
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		file.Close()
		return nil, fmt.Errorf("uevent socket: %w", err)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("uevent socket: %w", err)
	}
	return &Watcher{file: file, raw: raw}, nil
}

// Close ends the watching.
func (w *Watcher) Close() error { return w.file.Close() }

// Next waits for the next event of the kernel. It returns ctx's error when that
// ends first, and ErrLost when the socket ran over.
func (w *Watcher) Next(ctx context.Context) (Uevent, error) {
	if err := w.file.SetReadDeadline(time.Time{}); err != nil {
		return Uevent{}, fmt.Errorf("uevent socket: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = w.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		u, err := w.receive(true)
		switch {
		case errors.Is(err, errUevent):
			continue
		case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
			return Uevent{}, context.Cause(ctx)
		}
		return u, err
	}
}

// Pending gives an event that is there already; ok is false if there is none.
func (w *Watcher) Pending() (u Uevent, ok bool, err error) {
	for {
		u, err := w.receive(false)
		switch {
		case errors.Is(err, errUevent):
			continue
		case errors.Is(err, unix.EAGAIN):
			return Uevent{}, false, nil
		}
		return u, err == nil, err
	}
}

// receive reads one message. Only the kernel's own (port 0) are taken: any
// process may send to this group.
func (w *Watcher) receive(wait bool) (Uevent, error) {
	var n int
	var from unix.Sockaddr
	var err error
	rerr := w.raw.Read(func(fd uintptr) bool {
		n, from, err = unix.Recvfrom(int(fd), w.buf[:], unix.MSG_DONTWAIT)
		return !wait || !errors.Is(err, unix.EAGAIN)
	})
	switch {
	case rerr != nil:
		return Uevent{}, rerr
	case errors.Is(err, unix.ENOBUFS):
		return Uevent{}, ErrLost
	case errors.Is(err, unix.EINTR):
		return Uevent{}, errUevent // read again
	case err != nil:
		return Uevent{}, err
	}
	if nl, ok := from.(*unix.SockaddrNetlink); !ok || nl.Pid != 0 {
		return Uevent{}, fmt.Errorf("%w: not from the kernel", errUevent)
	}
	return parseUevent(w.buf[:n])
}
