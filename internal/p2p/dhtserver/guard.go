package dhtserver

import (
	"errors"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// maxRequest bounds one message a stranger sends: a record of 2 KiB, or a
// provider with its addresses.
const maxRequest = 32 << 10

// guardedHost makes kad-dht's server read requests through a guard. By itself it
// allocates whatever length a stranger announces, up to 4 MiB for each stream.
type guardedHost struct{ host.Host }

func (g guardedHost) SetStreamHandler(id protocol.ID, handle network.StreamHandler) {
	g.Host.SetStreamHandler(id, func(s network.Stream) {
		handle(&guardedStream{Stream: s})
	})
}

// guardedStream fails as soon as the other end announces a message longer than
// maxRequest.
type guardedStream struct {
	network.Stream
	frames frames
}

func (s *guardedStream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p)
	if tooLong := s.frames.pass(p[:n]); tooLong != nil {
		return 0, tooLong
	}
	return n, err
}

var errTooLong = errors.New("announced message is too long")

// frames follows a sequence of messages, each preceded by its length as a
// varint, without keeping any of it.
type frames struct {
	body   uint64 // bytes of the current message still to come
	length uint64 // the length being read
	shift  uint   // bits of it read so far
}

// pass looks at the next bytes.
func (f *frames) pass(b []byte) error {
	for len(b) > 0 {
		if f.body > 0 {
			n := min(f.body, uint64(len(b)))
			f.body -= n
			b = b[n:]
			continue
		}
		f.length |= uint64(b[0]&0x7f) << f.shift
		f.shift += 7
		if f.length > maxRequest || f.shift > 28 {
			return errTooLong
		}
		if b[0]&0x80 == 0 {
			f.body, f.length, f.shift = f.length, 0, 0
		}
		b = b[1:]
	}
	return nil
}
