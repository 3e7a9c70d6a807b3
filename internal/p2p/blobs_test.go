package p2p

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	ma "github.com/multiformats/go-multiaddr"
	msmux "github.com/multiformats/go-multistream"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/fetch/fetchtest"
	"github.com/phasebased/phase/internal/p2p/blobwire"
)

// random is content that is the same in each run.
func random(size int) []byte {
	out := make([]byte, size)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte("noise"))).Read(out)
	return out
}

// lend makes n lend these blobs.
func lend(t testing.TB, n *Node, port uint16, contents ...[]byte) {
	t.Helper()
	dir := t.TempDir()
	for _, c := range contents {
		if err := os.WriteFile(filepath.Join(dir, blob.Of(c).Hex()), c, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	n.Lend(Offer{HTTPPort: port, Open: func(d blob.Digest) (Content, int64, error) {
		f, err := os.Open(filepath.Join(dir, d.Hex()))
		if err != nil {
			return nil, 0, err
		}
		info, err := f.Stat()
		return f, info.Size(), err
	}})
}

// from is n as c sees it as a source.
func from(c, n *Node) *stream {
	return c.stream(peer.AddrInfo{ID: n.swarm.LocalPeer(), Addrs: n.server.Addrs()})
}

// part is a part of content.
func part(content []byte, offset, length int) fetch.Part {
	return fetch.Part{Blob: blob.Of(content), Size: int64(len(content)), Offset: int64(offset), Length: int64(length)}
}

// speaks makes a host that answers the stream protocol by hand.
func speaks(t testing.TB, handle func(network.Stream)) *Node {
	t.Helper()
	return start(t, Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Server: func(half Half) (Server, error) {
		h, err := basichost.NewHost(half.Swarm, &basichost.HostOpts{EventBus: half.Bus})
		if err != nil {
			return nil, err
		}
		h.Start()
		if handle != nil {
			h.SetStreamHandler(protoBlob, func(s network.Stream) {
				if _, err := io.ReadFull(s, make([]byte, blobwire.RequestSize)); err == nil {
					handle(s)
				}
			})
		}
		return libp2pHost{h}, nil
	}})
}

func TestStreamReads(t *testing.T) {
	content := random(2*blobwire.MaxLength + 3)
	n := server(t)
	lend(t, n, 0, content, nil)
	s := from(client(t), n)
	if !s.LastResort() || s.String() != "p2p "+n.ID() {
		t.Error(s)
	}
	var reading sync.WaitGroup
	for _, p := range []fetch.Part{
		part(content, 0, len(content)), part(content, len(content)-1, 1), part(content, blobwire.MaxLength-1, 2),
		part(content, 1<<20, 1<<20), part(content, 2<<20, 1<<20), part(content, 3<<20, 1<<20), // more than run at once
		part(nil, 0, 0),
	} {
		reading.Go(func() {
			var got bytes.Buffer
			if err := s.Read(t.Context(), p, &got); err != nil {
				t.Errorf("%d at %d: %v", p.Length, p.Offset, err)
			}
			if p.Size > 0 && !bytes.Equal(got.Bytes(), content[p.Offset:p.Offset+p.Length]) || int64(got.Len()) != p.Length {
				t.Errorf("%d at %d: %d bytes, or others", p.Length, p.Offset, got.Len())
			}
		})
	}
	reading.Wait()
	place, at, err := s.where(t.Context(), blob.Of(content))
	if err != nil || place.Size != int64(len(content)) || httpBase(at, 80) != "http://127.0.0.1:80" || httpBase(at, 0) != "" {
		t.Errorf("%+v at %v, %v", place, at, err)
	}
}

func TestStreamConforms(t *testing.T) {
	fetchtest.Source(t, false, func(t *testing.T, blobs ...[]byte) fetch.Source {
		n := server(t)
		lend(t, n, 0, blobs...)
		return from(client(t), n)
	})
}

func TestStreamRefusals(t *testing.T) {
	content := random(1000)
	n := server(t)
	s := from(client(t), n)
	read := func(p fetch.Part) error {
		var got bytes.Buffer
		err := s.Read(t.Context(), p, &got)
		if got.Len() > 0 {
			t.Errorf("%d bytes beside %v", got.Len(), err)
		}
		return err
	}
	if err := read(part(content, 0, 1)); !errors.Is(err, fetch.ErrAbsent) {
		t.Errorf("of who lends nothing: %v", err)
	}
	lend(t, n, 0, content)
	if err := read(part(random(7), 0, 1)); !errors.Is(err, fetch.ErrAbsent) {
		t.Errorf("of who lends something else: %v", err)
	}
	if _, _, err := s.where(t.Context(), blob.Of(random(7))); !errors.Is(err, fetch.ErrAbsent) {
		t.Errorf("where: %v", err)
	}
	var refusal *RefusalError
	if err := read(part(content, 1000, 1)); !errors.As(err, &refusal) || refusal.Status != blobwire.StatusBeyond {
		t.Errorf("beyond the end: %v", err)
	}
	n.Lend(Offer{Open: func(blob.Digest) (Content, int64, error) { return nil, 0, fmt.Errorf("x: %w", ErrLater) }})
	if err := read(part(content, 0, 1)); !errors.As(err, &refusal) || refusal.Status != blobwire.StatusBusy || errors.Is(err, fetch.ErrAbsent) {
		t.Errorf("of who cannot lend it yet: %v", err)
	}
	n.Lend(Offer{Open: func(blob.Digest) (Content, int64, error) { return empty{}, 1000, nil }})
	if err := read(part(content, 0, 1)); err == nil || errors.Is(err, fetch.ErrAbsent) {
		t.Errorf("of who has less than it says: %v", err)
	}
	n.Lend(Offer{})
	if err := read(part(content, 0, 1)); !errors.Is(err, fetch.ErrAbsent) {
		t.Errorf("of who lends nothing any more: %v", err)
	}
}

// empty is a blob that became shorter since it was opened.
type empty struct{}

func (empty) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
func (empty) Close() error                      { return nil }

// errNoMore is of a writer that has seen enough.
var errNoMore = errors.New("no more")

// picky takes some bytes and then fails.
type picky struct{ left int }

func (p *picky) Write(b []byte) (int, error) {
	if len(b) > p.left {
		return 0, errNoMore
	}
	p.left -= len(b)
	return len(b), nil
}

// Who is given wrong bytes, or has them from elsewhere, stops a transfer at once.
func TestStreamStopsWithItsWriter(t *testing.T) {
	content := random(8 << 20)
	n := server(t)
	lend(t, n, 0, content)
	s := from(client(t), n)
	if err := s.Read(t.Context(), part(content, 0, len(content)), &picky{left: 300 << 10}); !errors.Is(err, errNoMore) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Read(ctx, part(content, 0, len(content)), writer(func(b []byte) (int, error) { cancel(); return len(b), nil }))
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := s.Read(ctx, part(content, 0, 1), io.Discard); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// Whatever a peer sends, no byte more than was asked for arrives, and it ends.
func TestStreamHostilePeers(t *testing.T) {
	content := random(300 << 10)
	ok := []byte{byte(blobwire.StatusOK)}
	send := func(s network.Stream, parts ...[]byte) {
		for _, p := range parts {
			if _, err := s.Write(p); err != nil {
				return
			}
		}
	}
	stall := func(s network.Stream) { _, _ = s.Read(make([]byte, 1)) } // until the other end has enough
	for name, c := range map[string]struct {
		handle func(network.Stream)
		most   int // bytes that may arrive
		text   string
	}{
		"speaks something else":  {nil, 0, "lends nothing"},
		"silent":                 {stall, 0, "sent less than"},
		"says yes and is silent": {func(s network.Stream) { send(s, ok); stall(s) }, 0, "sent less than"},
		"falls silent":           {func(s network.Stream) { send(s, ok, content[:1000]); stall(s) }, 1000, "sent less than"},
		"closes at once":         {func(s network.Stream) { s.Close() }, 0, "ended the transfer early"},
		"ends early":             {func(s network.Stream) { send(s, ok, content[:1000]); s.Close() }, 1000, "ended the transfer early"},
		"breaks off":             {func(s network.Stream) { send(s, ok, content[:1000]); s.Reset() }, 1000, "reset"},
		"breaks the connection":  {func(s network.Stream) { send(s, ok, content[:1000]); s.Conn().Close() }, 1000, ""},
		"unknown status":         {func(s network.Stream) { send(s, []byte{77}, content); s.Close() }, 0, "unknown status 77"},
		"busy":                   {func(s network.Stream) { send(s, []byte{byte(blobwire.StatusBusy)}); s.Close() }, 0, "is busy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := from(client(t), speaks(t, c.handle))
			s.block = 2 * time.Second
			got := &picky{left: c.most}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := s.Read(ctx, part(content, 0, len(content)), got)
			if err == nil || errors.Is(err, errNoMore) || ctx.Err() != nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v, %d bytes fewer than allowed", err, got.left)
			}
		})
	}
	t.Run("does not end", func(t *testing.T) {
		t.Parallel()
		s := from(client(t), speaks(t, func(s network.Stream) {
			send(s, ok)
			for s.Conn() != nil {
				if _, err := s.Write(content); err != nil {
					return
				}
			}
		}))
		var got bytes.Buffer
		if err := s.Read(t.Context(), part(content, 0, 1000), &got); err != nil || !bytes.Equal(got.Bytes(), content[:1000]) {
			t.Errorf("%d bytes, error %v", got.Len(), err)
		}
	})
	t.Run("malformed place", func(t *testing.T) {
		t.Parallel()
		s := from(client(t), speaks(t, func(s network.Stream) {
			send(s, ok, bytes.Repeat([]byte{0xff}, blobwire.PlaceSize))
			s.Close()
		}))
		if _, _, err := s.where(t.Context(), blob.Of(content)); !errors.Is(err, blobwire.ErrPlace) {
			t.Error(err)
		}
	})
}

// A peer that does not speak of blobs is no bad source, whichever of its words
// arrives first.
func TestStreamOfWhoLendsNothing(t *testing.T) {
	for _, err := range []error{
		&network.StreamError{ErrorCode: network.StreamProtocolNegotiationFailed, Remote: true},
		msmux.ErrNotSupported[protocol.ID]{Protos: []protocol.ID{protoBlob}},
	} {
		if got := (&answer{}).explain(err); !errors.Is(got, fetch.ErrAbsent) {
			t.Errorf("%v: %v", err, got)
		}
	}
}

// Peers that cannot be reached are given up soon, and in Local mode nobody else is
// tried.
func TestStreamUnreachable(t *testing.T) {
	n := server(t)
	for _, to := range []string{"/ip4/127.0.0.1/tcp/1", "/dns4/localhost/tcp/4001", "/ip4/0.0.0.0/tcp/0"} {
		s := client(t).stream(peer.AddrInfo{ID: n.swarm.LocalPeer(), Addrs: []ma.Multiaddr{ma.StringCast(to)}})
		if err := s.Read(t.Context(), part(random(7), 0, 7), io.Discard); err == nil {
			t.Error(to)
		}
	}
	local := start(t, Config{LocalOnly: true})
	s := local.stream(peer.AddrInfo{ID: n.swarm.LocalPeer(), Addrs: []ma.Multiaddr{ma.StringCast("/ip4/93.184.216.34/tcp/4001")}})
	if err := s.Read(t.Context(), part(random(7), 0, 7), io.Discard); err == nil || !strings.Contains(err.Error(), errNotLocal.Error()) {
		t.Error(err)
	}
	lend(t, n, 0, random(7))
	if err := from(local, n).Read(t.Context(), part(random(7), 0, 7), io.Discard); err != nil {
		t.Error(err)
	}
}

// blobStream opens a stream for a stranger who speaks by hand.
func blobStream(t testing.TB, c, to *Node) network.Stream {
	t.Helper()
	c.swarm.Peerstore().AddAddrs(to.swarm.LocalPeer(), to.server.Addrs(), time.Hour)
	s, err := c.swarm.NewStream(t.Context(), to.swarm.LocalPeer())
	if err == nil {
		err = msmux.SelectProtoOrFail[protocol.ID](protoBlob, s)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Reset() })
	_ = s.SetReadDeadline(time.Now().Add(time.Minute))
	return s
}

// A server answers what is malformed with one byte, sends no byte more than it
// was asked for, and gets rid of those who do not ask.
func TestLendingSurvivesStreams(t *testing.T) {
	t.Parallel() // it mostly waits
	content := random(1 << 20)
	n := server(t)
	lend(t, n, 0, content)
	c := client(t)
	good, err := blobwire.Request{Kind: blobwire.Read, Blob: blob.Of(content), Offset: 5, Length: 70 << 10}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	malformed := bytes.Clone(good)
	malformed[0] = 9
	tooMuch := bytes.Clone(good)
	tooMuch[41] = 1
	for name, raw := range map[string][]byte{
		"malformed": malformed, "too much": tooMuch, "zeros": make([]byte, blobwire.RequestSize),
		"malformed and more": append(bytes.Clone(malformed), content...),
	} {
		s := blobStream(t, c, n)
		_, _ = s.Write(raw)
		if got, err := io.ReadAll(s); err == nil && !bytes.Equal(got, []byte{byte(blobwire.StatusMalformed)}) {
			t.Errorf("%s: %x", name, got)
		}
	}
	for name, more := range map[string][]byte{"as it should be": nil, "asked twice": good} {
		s := blobStream(t, c, n)
		if _, err := s.Write(append(bytes.Clone(good), more...)); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(s)
		want := append([]byte{byte(blobwire.StatusOK)}, content[5:5+70<<10]...)
		if (err != nil || len(got) != len(want)) && more == nil || !bytes.HasPrefix(want, got) {
			t.Errorf("%s: %d bytes, or others, %v", name, len(got), err)
		}
	}
	for name, raw := range map[string][]byte{"says nothing": nil, "does not finish": good[:20]} {
		s := blobStream(t, c, n)
		if _, err := s.Write(raw); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(s); err == nil || len(got) != 0 {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

// Who asks and does not read is cut off.
func TestLendingCutsSlowReaders(t *testing.T) {
	t.Parallel() // it mostly waits
	content := random(blobwire.MaxLength)
	n := server(t)
	lend(t, n, 0, content)
	s := blobStream(t, client(t), n)
	raw, err := blobwire.Request{Kind: blobwire.Read, Blob: blob.Of(content), Length: blobwire.MaxLength}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(raw); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "streams of a reader who does not read", func() string {
		for _, c := range n.swarm.Conns() {
			for _, s := range c.GetStreams() {
				if p := s.Protocol(); p == protoBlob || p == "" { // or not yet
					return "one is open"
				}
			}
		}
		return ""
	})
	if got, err := io.ReadAll(s); err == nil || len(got) > len(content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// One peer cannot take all streams, and what it gives back can be taken again.
func TestLendingLimits(t *testing.T) {
	content := random(1000)
	n := server(t)
	lend(t, n, 0, content)
	greedy := client(t)
	var open []network.Stream
	for range 8 {
		open = append(open, blobStream(t, greedy, n))
	}
	busy := func() string {
		s := from(greedy, n)
		err := s.Read(t.Context(), part(content, 0, len(content)), io.Discard)
		if err != nil {
			return err.Error()
		}
		return ""
	}
	waitFor(t, "a refusal of one stream more", func() string {
		got := busy()
		if strings.Contains(got, "is busy") {
			return ""
		}
		open = append(open, blobStream(t, greedy, n)) // one was slow to come, or is given up already
		return "it was: " + got
	})
	if err := from(client(t), n).Read(t.Context(), part(content, 0, len(content)), io.Discard); err != nil {
		t.Errorf("of somebody else: %v", err)
	}
	for _, s := range open {
		_ = s.Reset()
	}
	waitFor(t, "room for another stream", busy)
}
