package vm

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Tap makes an Ethernet device of this machine, in the network namespace of the
// calling thread, and returns what is behind it: each Read gives a frame that the
// machine sends, each Write one that it receives. The device goes with the file.
// It needs the right to administer the network.
func Tap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make the network device %s: %w", name, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err})
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make the network device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
