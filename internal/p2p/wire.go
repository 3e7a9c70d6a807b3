package p2p

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-msgio/pbio"
	msmux "github.com/multiformats/go-multistream"
)

const (
	// maxReply bounds one answer: a record and 20 peers with their addresses
	// stay far below.
	maxReply = 256 << 10
	// maxRequest bounds one message a stranger sends to a server: a record of 2
	// KiB, or a provider with its addresses.
	maxRequest = 32 << 10
)

// sender exchanges one DHT message over a stream of its own. kad-dht's sender
// keeps streams open and waits for identify first; a search asks each peer once,
// so here the protocol is proposed together with the request, a round trip
// earlier.
type sender struct {
	host host.Host
	at   *netip.Addr // if not nil, receives where the peer is
}

var _ pb.MessageSender = sender{}

// SendRequest sends a message and returns the reply.
func (s sender) SendRequest(ctx context.Context, p peer.ID, msg *pb.Message) (*pb.Message, error) {
	reply := new(pb.Message)
	err := s.exchange(ctx, p, msg, reply)
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// SendMessage sends a message that has no reply.
func (s sender) SendMessage(ctx context.Context, p peer.ID, msg *pb.Message) error {
	return s.exchange(ctx, p, msg, nil)
}

func (s sender) exchange(ctx context.Context, p peer.ID, msg, reply *pb.Message) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := s.host.Network().NewStream(ctx, p)
	if err != nil {
		return err
	}
	defer stream.Close()
	if s.at != nil {
		*s.at = ipOf(stream.Conn().RemoteMultiaddr())
	}
	// Streams know deadlines, not contexts.
	stop := context.AfterFunc(ctx, func() { _ = stream.Reset() })
	defer stop()
	if err := s.talk(stream, msg, reply); err != nil {
		_ = stream.Reset()
		if ctx.Err() != nil {
			return fmt.Errorf("peer did not answer: %w", ctx.Err())
		}
		return err
	}
	return nil
}

func (s sender) talk(stream network.Stream, msg, reply *pb.Message) error {
	if err := stream.SetProtocol(protoKad); err != nil {
		return err
	}
	rw := msmux.NewMSSelect[protocol.ID](stream, protoKad)
	if err := pbio.NewDelimitedWriter(rw).WriteMsg(msg); err != nil {
		return fmt.Errorf("send request: %w", err)
	}
	if reply == nil {
		// Closing for writing and awaiting the other end's close makes sure that
		// the message was handled, not lost with the connection.
		return s.drain(stream, rw)
	}
	if err := pbio.NewDelimitedReader(rw, maxReply).ReadMsg(reply); err != nil {
		return fmt.Errorf("read reply: %w", err)
	}
	return nil
}

func (s sender) drain(stream network.Stream, rw msmux.LazyConn) error {
	if err := stream.CloseWrite(); err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	var one [1]byte
	if n, err := rw.Read(one[:]); n != 0 || err == nil {
		return errors.New("unexpected reply")
	} else if !isEOF(err) {
		return fmt.Errorf("message refused: %w", err)
	}
	return nil
}

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
