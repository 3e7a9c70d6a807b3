package p2p

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-msgio/pbio"
	msmux "github.com/multiformats/go-multistream"
)

// maxReply bounds one answer: a record and 20 peers with their addresses stay far
// below.
const maxReply = 256 << 10

// sender exchanges one DHT message over a stream of its own. kad-dht's sender
// keeps streams open and waits for identify first; a search asks each peer once,
// so here the protocol is proposed together with the request, a round trip
// earlier.
type sender struct {
	swarm *swarm.Swarm
	at    *netip.Addr   // if not nil, receives where the peer is
	limit time.Duration // of one exchange
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
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	stream, err := s.swarm.NewStream(ctx, p)
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
