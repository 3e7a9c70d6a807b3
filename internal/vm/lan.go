package vm

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
)

// LAN is a closed Ethernet segment between machines: a hub in this process, with
// no way out of it, no router and no server. The zero value is ready to use. Every
// frame reaches every other port; one that a port has no room for is lost, as on
// a real network, and holds up nobody.
type LAN struct {
	// Watch, if set before the first machine starts, sees each frame that a port
	// sends, one at a time and before anybody has it. It must neither keep nor
	// change it, nor take long: the segment waits.
	Watch func(frame []byte)

	mu    sync.Mutex
	ports []*lanPort
}

const (
	// maxFrame bounds one frame; QEMU's own limit is a little higher.
	maxFrame = 64 << 10
	// minFrame is the length of an Ethernet header.
	minFrame = 14
	// framesWaiting is how many frames wait for a slow port: about 6 MB of full
	// ones, more than a TCP connection of a guest has under way.
	framesWaiting = 4096
)

// lanPort is one socket in the wall. Frames in its queue are shared: read-only.
type lanPort struct{ queue chan []byte }

// join adds a port; the caller calls leave in the end.
func (l *LAN) join() (p *lanPort, leave func()) {
	p = &lanPort{make(chan []byte, framesWaiting)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ports = append(l.ports, p)
	return p, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ports = slices.DeleteFunc(l.ports, func(other *lanPort) bool { return other == p })
		close(p.queue)
	}
}

// send gives a frame, which nobody changes any more, to all ports but its own.
func (l *LAN) send(from *lanPort, frame []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Watch != nil {
		l.Watch(frame)
	}
	for _, p := range l.ports {
		if p == from {
			continue
		}
		select {
		case p.queue <- frame:
		default:
		}
	}
}

// Attach connects a network device of this machine, such as one that [Tap] made,
// of which each Read gives one frame and each Write takes one. It returns when
// the device is closed or fails, with the reason.
func (l *LAN) Attach(device io.ReadWriter) error {
	return l.serve(func(frame []byte) ([]byte, error) {
		n, err := device.Read(frame[:maxFrame])
		return frame[:n], err
	}, func(frame []byte, _ bool) error {
		_, _ = device.Write(frame) // a frame that finds no room is lost
		return nil
	})
}

// attachQEMU connects QEMU's end of a stream, on which each frame follows its
// length in four bytes. It returns when the stream ends.
func (l *LAN) attachQEMU(stream io.ReadWriter) error {
	in, out := bufio.NewReaderSize(stream, maxFrame), bufio.NewWriterSize(stream, maxFrame)
	return l.serve(func(frame []byte) ([]byte, error) {
		return readFrame(in, frame)
	}, func(frame []byte, last bool) error {
		// An error stays until Flush.
		_, _ = out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(frame))))
		_, _ = out.Write(frame)
		if last {
			return out.Flush()
		}
		return nil
	})
}

// readFrame reads a frame with its length in front into buf, of maxFrame bytes.
func readFrame(r io.Reader, buf []byte) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes, at most %d are allowed", n, maxFrame)
	}
	_, err := io.ReadFull(r, buf[:n])
	return buf[:n], err
}

// serve works a port until read fails. write is told whether it has no other
// frame to write at the moment.
func (l *LAN) serve(read func([]byte) ([]byte, error), write func(frame []byte, last bool) error) error {
	p, leave := l.join()
	var writing sync.WaitGroup
	writing.Go(func() {
		var failed error
		for frame := range p.queue {
			if failed == nil {
				failed = write(frame, len(p.queue) == 0)
			}
		}
	})
	defer writing.Wait()
	defer leave()
	buf := make([]byte, maxFrame)
	for {
		frame, err := read(buf)
		if err != nil {
			return err
		}
		if len(frame) >= minFrame {
			l.send(p, slices.Clone(frame))
		}
	}
}
