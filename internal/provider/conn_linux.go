package provider

import (
	"cmp"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// sendAtOnce bounds one sendfile(2), so that a client as fast as this machine
// does not keep a thread for itself.
const sendAtOnce = 4 << 20 // bytes

// maxUnsent bounds what the kernel keeps for a client beyond what is on its way
// (TCP_NOTSENT_LOWAT in tcp(7)), so that thousands of slow clients do not fill the
// memory that the kernel has for all connections.
const maxUnsent = 256 << 10 // bytes

// hold sets whether maxUnsent holds for the client. It costs fast clients dearly:
// the kernel calls for more in small pieces.
func (c *conn) hold(on bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return // closed already
	}
	most := math.MaxInt32
	if on {
		most = maxUnsent
	}
	// An old kernel that has no such option works as before.
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, most)
	})
}

// send moves up to limit bytes from the file's position to the socket, inside
// the kernel, until the file ends, the socket is full (errFull) or fails.
func (c *conn) send(f *os.File, limit int64) (n int64, err error) {
	socket, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	file, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var inner, sending error
	outer := socket.Control(func(to uintptr) {
		inner = file.Control(func(from uintptr) { n, sending = sendfile(int(to), int(from), limit) })
	})
	return n, cmp.Or(outer, inner, sending)
}

func sendfile(to, from int, limit int64) (n int64, err error) {
	for n < limit {
		m, err := unix.Sendfile(to, from, nil, int(min(limit-n, sendAtOnce)))
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return n, errFull
		case err != nil:
			return n, os.NewSyscallError("sendfile", err)
		case m == 0:
			return n, nil // the file is shorter than it was
		default:
			n += int64(m)
		}
	}
	return n, nil
}

// writable waits until the socket takes more, fails, or its deadline passes. It
// asks the kernel itself: the poller may have told of room already, before.
func (c *conn) writable() error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Write(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(fds, 0)
		return n > 0 || err != nil && err != unix.EINTR
	})
}

// unacknowledged is how many of the bytes sent the client's machine has not
// confirmed.
func (c *conn) unacknowledged() (n int64) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if queued, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
			n = int64(queued)
		}
	})
	return n
}
