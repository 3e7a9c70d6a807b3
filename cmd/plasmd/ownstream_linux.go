package main

import (
	"errors"
	"net"
	"os"
	"syscall"

	"github.com/phasebased/phase/internal/peer"
)

// streamPair makes the two ends of a conversation within this process. The kernel
// holds what was said and not yet heard, as a network does.
func streamPair() (ours, theirs peer.Stream, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	a, err := ownEnd(fds[0])
	b, err2 := ownEnd(fds[1])
	if err := errors.Join(err, err2); err != nil {
		for _, end := range []*ownStream{a, b} {
			if end != nil {
				end.Close()
			}
		}
		return nil, nil, err
	}
	return a, b, nil
}

// ownEnd takes fd over, also when it fails.
func ownEnd(fd int) (*ownStream, error) {
	f := os.NewFile(uintptr(fd), "stream")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return &ownStream{c.(*net.UnixConn)}, nil
}

// ownStream is an end of such a conversation.
type ownStream struct{ *net.UnixConn }

// Reset ends the conversation for both ends.
func (s *ownStream) Reset() error { return s.Close() }
