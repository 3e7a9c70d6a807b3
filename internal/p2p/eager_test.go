package p2p

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	msmux "github.com/multiformats/go-multistream"

	"github.com/phasebased/phase/internal/discover/discovertest"
)

// plainSwarm speaks the same protocols through libp2p's own upgrader.
func plainSwarm(t *testing.T) *swarm.Swarm {
	t.Helper()
	sk, id, err := identity(nil)
	if err != nil {
		t.Fatal(err)
	}
	peers, err := pstoremem.NewPeerstore()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(peers.AddPrivKey(id, sk), peers.AddPubKey(id, sk.GetPublic())); err != nil {
		t.Fatal(err)
	}
	sw, err := swarm.NewSwarm(id, peers, eventbus.NewBus())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(sw.Close(), peers.Close()) })
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
	secure, err := noise.New(noise.ID, sk, muxers)
	if err != nil {
		t.Fatal(err)
	}
	up, err := upgrader.New([]sec.SecureTransport{secure}, muxers, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := tcp.NewTCPTransport(up, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sw.AddTransport(plain), sw.Listen(ma.StringCast("/ip4/127.0.0.1/tcp/0"))); err != nil {
		t.Fatal(err)
	}
	return sw
}

// Both ends understand libp2p's own upgrader.
func TestEagerMeetsPlain(t *testing.T) {
	ours, plain := server(t), plainSwarm(t)
	c := client(t)
	if err := c.dial(t.Context(), peer.AddrInfo{ID: plain.LocalPeer(), Addrs: plain.ListenAddresses()}); err != nil {
		t.Errorf("ours to plain: %v", err)
	}
	if got := c.swarm.Connectedness(plain.LocalPeer()); got != network.Connected {
		t.Errorf("ours to plain: %v", got)
	}
	plain.Peerstore().AddAddrs(ours.swarm.LocalPeer(), ours.server.Addrs(), peerstore.TempAddrTTL)
	if _, err := plain.DialPeer(t.Context(), ours.swarm.LocalPeer()); err != nil {
		t.Errorf("plain to ours: %v", err)
	}
}

// rawPeer is a listener that treats each connection by hand.
func rawPeer(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
	return bootstrapAddr(t, l.Addr(), 0xee)
}

// The first message of Noise, of 34 bytes with its length, is there before the
// other end has said anything.
func TestEagerDoesNotWait(t *testing.T) {
	heard := make(chan []byte, 1)
	c := client(t, rawPeer(t, func(conn net.Conn) {
		b := make([]byte, len(greeting)+34)
		n, _ := io.ReadFull(conn, b)
		heard <- b[:n]
	}))
	if _, err := search(t, c, stable); err == nil {
		t.Error("found something")
	}
	if b := <-heard; len(b) != len(greeting)+34 || !bytes.HasPrefix(b, []byte(greeting)) {
		t.Errorf("heard %q", b)
	}
}

// Who consents to something else, in part, or not at all, is no peer, though it
// speaks Noise from then on and is who it should be.
func TestEagerNeedsConsent(t *testing.T) {
	sk, _, err := identity(key(0xee))
	if err != nil {
		t.Fatal(err)
	}
	secure, err := noise.New(noise.ID, sk, []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}})
	if err != nil {
		t.Fatal(err)
	}
	const header = "\x13/multistream/1.0.0\n"
	for name, c := range map[string]struct {
		consent string
		ok      bool
	}{
		"consent":            {greeting, true},
		"na":                 {header + "\x03na\n", false},
		"na at once":         {"\x03na\n", false},
		"another protocol":   {header + "\x0b/tls/1.0.0\n", false},
		"another version":    {"\x13/multistream/9.0.0\n\x07/noise\n", false},
		"no header":          {"\x07/noise\n", false},
		"no end of line":     {header + "\x07/noise ", false},
		"half":               {header[:7], false},
		"header only":        {header, false},
		"nothing":            {"", false},
		"too long":           {"\xff\x7f" + string(bytes.Repeat([]byte("x"), 16<<10)), false},
		"endless length":     {string(bytes.Repeat([]byte{0xff}, 64)), false},
		"empty":              {"\x00", false},
		"consent, then more": {greeting + "\x07/noise\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result := make(chan error, 1)
			at := rawPeer(t, func(conn net.Conn) {
				_, err := io.ReadFull(conn, make([]byte, len(greeting)))
				if err == nil {
					_, err = io.WriteString(conn, c.consent)
				}
				if err == nil {
					_, err = secure.SecureInbound(context.Background(), conn, "")
				}
				result <- err
			})
			info, err := peer.AddrInfoFromString(at)
			if err != nil {
				t.Fatal(err)
			}
			n := client(t)
			limit := time.Minute
			if !c.ok {
				limit = 2 * time.Second // some never say more
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			dialled := n.dial(ctx, *info)
			cancel()
			if err := <-result; (err == nil) != c.ok {
				t.Errorf("the other end says: %v", err)
			}
			if (dialled == nil) != c.ok {
				t.Errorf("dialled: %v", dialled)
			}
		})
	}
}

// An honest peer beside such ones is found.
func TestEagerHostileBesideHonest(t *testing.T) {
	s := server(t)
	pointer := discovertest.Pointer(t, stable, 5)
	if _, err := s.Publish(t.Context(), pointer); err != nil {
		t.Fatal(err)
	}
	for _, says := range []string{"\x03na\n", "HTTP/1.1 400 Bad Request\r\n\r\n", greeting, ""} {
		bad := rawPeer(t, func(conn net.Conn) { _, _ = io.WriteString(conn, says) })
		got, err := search(t, client(t, bad, addr(t, s)), stable)
		if err != nil || len(got) != 1 || !bytes.Equal(got[0].Pointer, pointer) {
			t.Errorf("beside %q: found %d, error %v", says, len(got), err)
		}
	}
}

// eagerPair is a connection as the upgrader leaves it after its negotiation, and
// the other end.
func eagerPair(t *testing.T) (*eagerConn, net.Conn) {
	t.Helper()
	l, err := manet.Listen(ma.StringCast("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ours, err := manet.Dial(l.Multiaddr())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	c := newEager(ours)
	if got, err := msmux.SelectOneOf([]protocol.ID{noise.ID}, c); err != nil || got != noise.ID {
		t.Fatalf("selected %q, %v", got, err)
	}
	return c, theirs
}

// What waits for consent ends with the connection, and with its deadline.
func TestEagerConnEnds(t *testing.T) {
	for name, end := range map[string]func(*eagerConn) error{
		"close":    func(c *eagerConn) error { return c.Close() },
		"deadline": func(c *eagerConn) error { return c.SetDeadline(time.Now().Add(10 * time.Millisecond)) },
	} {
		c, theirs := eagerPair(t)
		if _, err := c.Write([]byte("message")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(theirs, greeting[:9]); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			ended <- err
		}()
		if err := end(c); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			if !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s does not end what waits", name)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: read after it", name)
		}
	}
}

// Bytes arrive as they were written, in both directions, whatever the reads.
func TestEagerConnCarries(t *testing.T) {
	c, theirs := eagerPair(t)
	there, back := bytes.Repeat([]byte("there "), 3000), bytes.Repeat([]byte("back "), 3000)
	go func() {
		for rest := there; len(rest) > 0; rest = rest[min(7, len(rest)):] {
			_, _ = c.Write(rest[:min(7, len(rest))])
		}
	}()
	got := make([]byte, len(greeting)+len(there))
	if _, err := io.ReadFull(theirs, got); err != nil || string(got) != greeting+string(there) {
		t.Errorf("the other end read %.60q, error %v", got, err)
	}
	go func() { _, _ = theirs.Write(append([]byte(greeting), back...)) }()
	got = make([]byte, len(back))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, back) {
		t.Errorf("this end read %.60q, error %v", got, err)
	}
}

// An upgrader that would negotiate something else is not let.
func TestEagerConnIsForNoise(t *testing.T) {
	for _, proposal := range []string{"\x13/multistream/1.0.0\n\x0b/tls/1.0.0\n", "\x13/multistream/9.0.0\n", greeting + "x"} {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		wrapped, err := manet.WrapNetConn(&tcpNamed{ours})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := newEager(wrapped).Write([]byte(proposal)); n != 0 || !errors.Is(err, errProposal) {
			t.Errorf("%q: wrote %d, error %v", proposal, n, err)
		}
		ours.Close()
	}
}

// tcpNamed lets a pipe pass for a TCP connection.
type tcpNamed struct{ net.Conn }

func (tcpNamed) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (tcpNamed) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2} }
