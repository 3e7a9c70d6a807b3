package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	msmux "github.com/multiformats/go-multistream"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/p2p/blobwire"
)

const protoBlob protocol.ID = blobwire.Protocol

const (
	// perSource is how many streams one peer is read over at the same time.
	perSource = 4
	// A peer has blockTimeout for each block of blockSize bytes, so that one that
	// drips ends as surely as one that is silent. Who calls may want more.
	blockSize    = 64 << 10
	blockTimeout = 20 * time.Second
)

// RefusalError says that a peer was asked for a blob and did not give it.
type RefusalError struct {
	Peer   string // its ID
	Status blobwire.Status
}

func (e *RefusalError) Error() string {
	return fmt.Sprintf("peer %s %s", shortID(e.Peer), e.Status)
}

// Is makes a peer without the blob an absent source.
func (e *RefusalError) Is(target error) bool {
	return target == fetch.ErrAbsent && e.Status == blobwire.StatusAbsent
}

// stream is a peer as a source of blobs over libp2p. It is slower than HTTP from
// the same machine, for everything is encrypted and multiplexed, but needs no more
// than the connection over which the peer was found: no other port, no name.
type stream struct {
	node  *Node
	peer  peer.AddrInfo
	slots chan struct{}
	block time.Duration // blockTimeout; tests wait less
}

var _ fetch.LastResort = (*stream)(nil)

func (n *Node) stream(p peer.AddrInfo) *stream {
	return &stream{node: n, peer: p, slots: make(chan struct{}, perSource), block: blockTimeout}
}

// String is the peer's ID, as in the origin of a candidate.
func (s *stream) String() string { return "p2p " + s.peer.ID.String() }

// LastResort is true.
func (s *stream) LastResort() bool { return true }

// Read asks for the part piece by piece, since one request is bounded, over at
// most four streams at the same time for all that read.
func (s *stream) Read(ctx context.Context, p fetch.Part, w io.Writer) error {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for done := int64(0); done < p.Length; {
		r := blobwire.Request{
			Kind: blobwire.Read, Blob: p.Blob, Offset: p.Offset + done, Length: min(p.Length-done, blobwire.MaxLength),
		}
		err := s.ask(ctx, r, func(in *answer) error { return in.copy(w, r.Length) })
		if err != nil {
			return err
		}
		done += r.Length
	}
	return ctx.Err()
}

// where asks the peer whether it has a blob. It returns what it says, and the
// address at which it said so.
func (s *stream) where(ctx context.Context, d blob.Digest) (place blobwire.Place, at ma.Multiaddr, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.node.cfg.limit(requestTimeout))
	defer cancel()
	err = s.ask(ctx, blobwire.Request{Kind: blobwire.Where, Blob: d}, func(in *answer) error {
		raw := make([]byte, blobwire.PlaceSize)
		if err := in.fill(raw); err != nil {
			return err
		}
		at = in.stream.Conn().RemoteMultiaddr()
		place, err = blobwire.ParsePlace(raw)
		return err
	})
	return place, at, err
}

// ask sends a request over a stream of its own and passes the rest of the answer
// to take if the peer agrees.
func (s *stream) ask(ctx context.Context, r blobwire.Request, take func(*answer) error) error {
	raw, err := r.Marshal()
	if err != nil {
		return err
	}
	conn, err := s.open(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	// Streams know deadlines, not contexts. Reset also ends what the peer still
	// sends; nothing of it is wanted.
	defer context.AfterFunc(ctx, func() { _ = conn.Reset() })()
	defer conn.Reset()
	err = s.exchange(conn, raw, take)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (s *stream) open(ctx context.Context) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, s.node.cfg.limit(requestTimeout))
	defer cancel()
	sw := s.node.swarm
	if sw.Connectedness(s.peer.ID) != network.Connected {
		s.node.forgetFailures(s.peer.ID)
		sw.Peerstore().AddAddrs(s.peer.ID, s.peer.Addrs, peerstore.TempAddrTTL)
	}
	conn, err := sw.NewStream(ctx, s.peer.ID)
	if err != nil {
		return nil, fmt.Errorf("peer %s: %s", shortID(s.peer.ID.String()), plain(err))
	}
	return conn, nil
}

func (s *stream) exchange(conn network.Stream, request []byte, take func(*answer) error) error {
	if err := conn.SetProtocol(protoBlob); err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(s.block)); err != nil {
		return err
	}
	in := &answer{stream: conn, block: s.block, rw: msmux.NewMSSelect[protocol.ID](conn, protoBlob)}
	if _, err := in.rw.Write(request); err != nil {
		return fmt.Errorf("send request: %w", in.explain(err))
	}
	var status [1]byte
	if err := in.fill(status[:]); err != nil {
		return err
	}
	if s := blobwire.Status(status[0]); s != blobwire.StatusOK {
		return &RefusalError{Peer: conn.Conn().RemotePeer().String(), Status: s}
	}
	return take(in)
}

// answer is what a peer sends.
type answer struct {
	stream network.Stream
	block  time.Duration
	rw     msmux.LazyConn
}

// fill reads exactly len(b) bytes, in the time of one block.
func (a *answer) fill(b []byte) error {
	if err := a.stream.SetReadDeadline(time.Now().Add(a.block)); err != nil {
		return err
	}
	_, err := io.ReadFull(a.rw, b)
	return a.explain(err)
}

// copy passes on exactly length bytes, as they come.
func (a *answer) copy(w io.Writer, length int64) error {
	buf := make([]byte, min(length, blockSize/2))
	for block := int64(0); length > 0; {
		if block <= 0 {
			block = blockSize
			if err := a.stream.SetReadDeadline(time.Now().Add(a.block)); err != nil {
				return err
			}
		}
		n, err := a.rw.Read(buf[:min(length, int64(len(buf)))])
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		length -= int64(n)
		block -= int64(n)
		if err != nil && length > 0 {
			return a.explain(err)
		}
	}
	return nil
}

// explain puts what a stream fails with into words.
func (a *answer) explain(err error) error {
	var timeout net.Error
	var reset *network.StreamError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &reset) && reset.ErrorCode == network.StreamProtocolNegotiationFailed,
		errors.Is(err, msmux.ErrNotSupported[protocol.ID]{}): // the peer says no before it resets, which may come first
		return fmt.Errorf("the peer lends nothing: %w", fetch.ErrAbsent)
	case errors.Is(err, network.ErrReset):
		return fmt.Errorf("the peer broke the transfer off: %w", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the peer ended the transfer early: %w", io.ErrUnexpectedEOF)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("the peer sent less than %d KiB in %v: %w", blockSize>>10, a.block, err)
	}
	return err
}

// httpBase is the base URL of an HTTP server on the machine at addr, "" if none
// can be named.
func httpBase(addr ma.Multiaddr, port uint16) string {
	to, err := manet.ToNetAddr(addr)
	if err != nil || port == 0 {
		return ""
	}
	tcp, ok := to.(*net.TCPAddr)
	if !ok {
		return ""
	}
	ip, _ := netip.AddrFromSlice(tcp.IP)
	ip = ip.Unmap()
	if ip.Is6() {
		ip = ip.WithZone(tcp.Zone)
	}
	u := url.URL{Scheme: "http", Host: net.JoinHostPort(ip.String(), strconv.Itoa(int(port)))}
	return u.String()
}
