package dhtserver

import (
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/p2p/blobwire"
)

// What lending blobs over streams may cost this machine. IDs are free, so the
// addresses count as well; behind one there can be a few machines.
const (
	lendPeer    = 8  // streams of one peer at the same time
	lendAddress = 32 // of one address, or IPv6 /48
	lendTotal   = 64 // of all: 4 MiB of buffers

	// A stranger has headerTimeout to say what it wants, and blockTimeout to take
	// each block: below 13 KiB/s it is cut off. With what one request may ask for,
	// no stream lasts longer than six minutes.
	headerTimeout = 5 * time.Second
	blockTimeout  = 5 * time.Second
	blockSize     = 64 << 10
	// windowBlocks is how many blocks can be under way: the window of a stream.
	windowBlocks = 4
)

// lending answers requests for blobs.
type lending struct {
	offer   func() p2p.Offer
	log     *slog.Logger
	blocks  time.Duration // blockTimeout; tests wait less
	headers time.Duration // headerTimeout

	mu        sync.Mutex
	total     int
	peers     map[peer.ID]int
	addresses map[netip.Addr]int
}

func newLending(offer func() p2p.Offer, log *slog.Logger) *lending {
	return &lending{
		offer: offer, log: log, blocks: blockTimeout, headers: headerTimeout,
		peers: map[peer.ID]int{}, addresses: map[netip.Addr]int{},
	}
}

// handle answers the one request of a stream.
func (l *lending) handle(s network.Stream) {
	from, at := s.Conn().RemotePeer(), placeOf(addressOf(s.Conn()))
	if !l.enter(from, at) {
		_ = l.send(s, []byte{byte(blobwire.StatusBusy)})
		_ = s.Close() // what was asked for is not even read
		return
	}
	defer l.leave(from, at)
	defer s.Reset()
	err := l.answer(s)
	if err == nil {
		err = l.finish(s)
	}
	if err != nil {
		l.log.Debug("blob not lent", "peer", from, "error", err)
	}
}

// finish waits until the other end has taken what is under way, at most as long as
// that may take. Until then the stream counts.
func (l *lending) finish(s network.Stream) error {
	if err := s.CloseWrite(); err != nil {
		return err
	}
	if err := s.SetReadDeadline(time.Now().Add(windowBlocks * l.blocks)); err != nil {
		return err
	}
	_, _ = s.Read(make([]byte, 1)) // its end, or a second request, which is one too many
	return nil
}

func (l *lending) answer(s network.Stream) error {
	var raw [blobwire.RequestSize]byte
	if err := s.SetReadDeadline(time.Now().Add(l.headers)); err != nil {
		return err
	}
	if _, err := io.ReadFull(s, raw[:]); err != nil {
		return err
	}
	r, err := blobwire.Parse(raw[:])
	if err != nil {
		return l.send(s, []byte{byte(blobwire.StatusMalformed)})
	}
	offer := l.offer()
	if offer.Open == nil {
		return l.send(s, []byte{byte(blobwire.StatusAbsent)})
	}
	f, size, err := offer.Open(r.Blob)
	if err != nil {
		return l.send(s, []byte{byte(statusOf(err))})
	}
	defer f.Close()
	switch {
	case r.Kind == blobwire.Where:
		place := blobwire.Place{Size: size, Port: offer.HTTPPort}
		return l.send(s, append([]byte{byte(blobwire.StatusOK)}, place.Marshal()...))
	case r.Offset+r.Length > size:
		return l.send(s, []byte{byte(blobwire.StatusBeyond)})
	}
	return l.copy(s, f, r)
}

func statusOf(err error) blobwire.Status {
	if errors.Is(err, p2p.ErrLater) {
		return blobwire.StatusBusy
	}
	return blobwire.StatusAbsent
}

// copy sends the status and then exactly what r asks for, or fails.
func (l *lending) copy(s network.Stream, f io.ReaderAt, r blobwire.Request) error {
	in := io.NewSectionReader(f, r.Offset, r.Length)
	buf := make([]byte, 1+min(r.Length, blockSize))
	buf[0] = byte(blobwire.StatusOK)
	for head, left := int64(1), r.Length; left > 0; head = 0 {
		n := min(left, int64(len(buf))-head)
		if _, err := io.ReadFull(in, buf[head:head+n]); err != nil {
			return err // also if the file became shorter
		}
		if err := l.send(s, buf[:head+n]); err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// send writes one block, in the time that one may take.
func (l *lending) send(s network.Stream, b []byte) error {
	if err := s.SetWriteDeadline(time.Now().Add(l.blocks)); err != nil {
		return err
	}
	_, err := s.Write(b)
	return err
}

// enter admits one more stream, which leave has to follow.
func (l *lending) enter(from peer.ID, at netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total == lendTotal || l.peers[from] == lendPeer || l.addresses[at] == lendAddress {
		return false
	}
	l.total++
	l.peers[from]++
	l.addresses[at]++
	return true
}

func (l *lending) leave(from peer.ID, at netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.peers[from]--; l.peers[from] == 0 {
		delete(l.peers, from)
	}
	if l.addresses[at]--; l.addresses[at] == 0 {
		delete(l.addresses, at)
	}
}

// placeOf is what streams are counted by: an address, or the IPv6 network that one
// operator is likely to hold whole.
func placeOf(at netip.Addr) netip.Addr {
	if !at.Is6() || at.IsPrivate() || at.IsLinkLocalUnicast() || at.IsLoopback() {
		return at
	}
	p, _ := at.WithZone("").Prefix(48)
	return p.Addr()
}

// addressOf is where the other end of a connection is; of IPv6 the network of one
// link, since whoever has one address there has all.
func addressOf(c network.ConnMultiaddrs) netip.Addr {
	ip, err := manet.ToIP(c.RemoteMultiaddr())
	if err != nil {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(ip)
	a = a.Unmap()
	if !a.Is6() || a.IsPrivate() || a.IsLinkLocalUnicast() {
		return a
	}
	p, _ := a.WithZone("").Prefix(64)
	return p.Addr()
}
