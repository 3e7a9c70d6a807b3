package sysinit

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Loop is a file as a read-only block device.
type Loop struct {
	Device string // "/dev/loop0"
	file   *os.File
}

// AttachLoop makes a file a read-only block device. The device frees itself
// when its last user is gone: mount it, then Close. The module "loop" must be
// loaded. The file may be deleted afterwards.
func AttachLoop(path string) (*Loop, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("loop device: %w", err)
	}
	defer f.Close()
	var loop *Loop
	// Another process may take the free device before it is configured.
	for range 16 {
		if loop, err = attach(f); !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("loop device for %s: %w", path, err)
	}
	return loop, nil
}

// Close lets the device be freed with its last mount.
func (l *Loop) Close() error { return l.file.Close() }

func attach(f *os.File) (*Loop, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, err
	}
	device := fmt.Sprintf("/dev/loop%d", n)
	loop, err := os.OpenFile(device, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	config := unix.LoopConfig{Fd: uint32(f.Fd())}
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR
	err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
	if err != nil {
		loop.Close()
		return nil, err
	}
	return &Loop{Device: device, file: loop}, nil
}
