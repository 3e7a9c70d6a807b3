package sysinit

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// PTY opens a pseudo terminal: our side, and the one that a program takes for its
// terminal. A program must not have a console itself: when the leader of a session
// ends, the kernel hangs up its terminal, for everybody who has it open.
func PTY() (ours, program *os.File, err error) {
	ours, err = openTTY("/dev/ptmx")
	if err != nil {
		return nil, nil, fmt.Errorf("pseudo terminal: %w", err)
	}
	var n int
	err = Console{File: ours}.control(func(fd int) (err error) {
		if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		}
		return err
	})
	if err == nil {
		program, err = openProgramTTY(fmt.Sprintf("/dev/pts/%d", n))
	}
	if err != nil {
		ours.Close()
		return nil, nil, fmt.Errorf("pseudo terminal: %w", err)
	}
	return ours, program, nil
}

// openProgramTTY opens a terminal that waits in read and write, as programs expect.
func openProgramTTY(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}
