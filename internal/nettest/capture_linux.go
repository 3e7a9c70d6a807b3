package nettest

import (
	"errors"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// maxFrames a Capture keeps; a test that sees more is told.
const maxFrames = 20000

// A Capture has seen every frame on an interface since it began.
type Capture struct {
	mu     sync.Mutex
	frames [][]byte
}

// Capture records what passes an interface, both ways, until the test ends.
func (h *Host) Capture(device string) *Capture {
	h.t.Helper()
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
	index := h.Link(device).Attrs().Index
	var file *os.File
	h.Do(func() {
		h.t.Helper()
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		Check(h.t, err)
		file = os.NewFile(uintptr(fd), "capture")
		Check(h.t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}))
	})
	c := &Capture{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.follow(h, file)
	}()
	h.t.Cleanup(func() { file.Close(); <-ended })
	return c
}

func (c *Capture) follow(h *Host, file *os.File) {
	buf := make([]byte, 65536)
	for {
		n, err := file.Read(buf)
		if errors.Is(err, unix.ENETDOWN) {
			continue // the interface was set down; said once
		}
		if err != nil {
			return
		}
		if !c.keep(slices.Clone(buf[:n])) {
			h.t.Errorf("more than %d frames", maxFrames)
			return
		}
	}
}

func (c *Capture) keep(frame []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frames = append(c.frames, frame)
	return len(c.frames) <= maxFrames
}

// Frames returns what was seen so far, Ethernet headers included.
func (c *Capture) Frames() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.frames)
}
