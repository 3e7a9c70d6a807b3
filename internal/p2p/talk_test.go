package p2p

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/manifest"

	ours "github.com/phasebased/phase/internal/peer"
)

const echo = "/test/echo/1"

// listening is a server that answers with handle.
func listening(t *testing.T, handle ours.Handler) (*Node, ours.Peer) {
	t.Helper()
	n := server(t)
	if err := n.Handle(echo, handle); err != nil {
		t.Fatal(err)
	}
	return n, ours.Peer{ID: n.ID(), Addrs: n.Addrs()}
}

func echoes(_ context.Context, _ ours.Caller, s ours.Stream) { _, _ = io.Copy(s, s) }

// converse says what it is told to and returns all that comes back.
func converse(t *testing.T, n *Node, p ours.Peer, name, text string) (string, error) {
	t.Helper()
	s, err := n.Open(t.Context(), p, name)
	if err != nil {
		return "", err
	}
	defer s.Reset()
	if err := s.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(s, text); err != nil {
		return "", err
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	back, err := io.ReadAll(s)
	return string(back), err
}

// Both ends know who the other is, by the key that was proven.
func TestTalk(t *testing.T) {
	callers := make(chan ours.Caller, 1)
	_, p := listening(t, func(ctx context.Context, c ours.Caller, s ours.Stream) {
		callers <- c
		echoes(ctx, c, s)
	})
	mine := key(7)
	n := start(t, Config{Key: mine})
	if back, err := converse(t, n, p, echo, "hello"); back != "hello" || err != nil {
		t.Fatalf("%q, %v", back, err)
	}
	if c := <-callers; c.ID != n.ID() || !c.Key.Equal(mine.Public()) || c.Place != "127.0.0.1" {
		t.Errorf("%+v", c)
	}
	// The connection is there, so that the address is not needed any more.
	if back, err := converse(t, n, ours.Peer{ID: p.ID}, echo, "again"); back != "again" || err != nil {
		t.Errorf("%q, %v", back, err)
	}
}

func TestTalkRefused(t *testing.T) {
	_, p := listening(t, echoes)
	n := client(t)
	if _, err := converse(t, n, p, "/test/other/1", "hello"); !errors.Is(err, ours.ErrProtocol) {
		t.Errorf("another protocol: %v", err)
	}
	other, err := PeerID(key(8).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	plainAddr, _, _ := strings.Cut(p.Addrs[0], "/p2p/")
	for name, p := range map[string]ours.Peer{
		"another key at the address": {ID: other, Addrs: []string{plainAddr}},
		"key and ID differ":          {ID: p.ID, Key: key(8).Public().(ed25519.PublicKey), Addrs: p.Addrs},
		"an address of another":      {ID: other, Addrs: p.Addrs},
		"nobody":                     {},
		"no address":                 {ID: other},
		"no key":                     {Key: ed25519.PublicKey{1, 2, 3}},
		"no multiaddr":               {ID: p.ID, Addrs: []string{"http://127.0.0.1"}},
	} {
		if s, err := n.Open(t.Context(), p, echo); err == nil {
			_ = s.Reset()
			t.Errorf("%s: a stream", name)
		}
	}
	if err := n.Handle(echo, echoes); err == nil {
		t.Error("a node that nobody can call answers")
	}
}

// Closing a node ends conversations that have no end of their own, and waits for
// those who answered.
func TestCloseEndsTalks(t *testing.T) {
	began, ended := make(chan bool), make(chan bool, 1)
	s, p := listening(t, func(ctx context.Context, _ ours.Caller, _ ours.Stream) {
		close(began)
		<-ctx.Done()
		ended <- true
	})
	st, err := client(t).Open(t.Context(), p, echo)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Reset()
	if _, err := st.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	<-began
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	default:
		t.Error("a conversation outlived the node")
	}
}

// One peer has a bounded number of streams, and leaves those of others.
func TestTalksAreBounded(t *testing.T) {
	hold := make(chan bool)
	defer close(hold)
	_, p := listening(t, func(_ context.Context, _ ours.Caller, s ours.Stream) {
		_, _ = io.CopyN(s, s, 1)
		<-hold
	})
	greedy := client(t)
	held := 0
	for range 200 {
		s, err := greedy.Open(t.Context(), p, echo)
		if err != nil {
			break
		}
		defer s.Reset()
		if err := s.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte("x")); err != nil {
			break
		}
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			break
		}
		held++
	}
	if held == 0 || held > 64 {
		t.Errorf("%d streams of one peer", held)
	}
	s, err := client(t).Open(t.Context(), p, echo)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	if err := s.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
		t.Errorf("another peer: %v", err)
	}
}

func TestWorkers(t *testing.T) {
	first := server(t)
	capability, err := CapabilityKey(manifest.ArchARM64)
	if err != nil {
		t.Fatal(err)
	}
	announced := map[string]bool{}
	for range 3 {
		w := server(t, addr(t, first))
		if _, err := w.Provide(t.Context(), capability); err != nil {
			t.Fatal(err)
		}
		announced[w.ID()] = true
	}
	found := map[string]bool{}
	n := client(t, addr(t, first))
	err = n.Workers(t.Context(), manifest.ArchARM64, func(p ours.Peer) {
		if id, err := PeerID(p.Key); err != nil || id != p.ID || len(p.Addrs) == 0 || found[p.ID] {
			t.Errorf("%+v, %v", p, err)
		}
		found[p.ID] = true
		if _, err := contactOf(p); err != nil {
			t.Error(err)
		}
	})
	if err != nil || len(found) != len(announced) {
		t.Errorf("%d of %d found, %v", len(found), len(announced), err)
	}
	if err := n.Workers(t.Context(), manifest.ArchX8664, func(p ours.Peer) { t.Errorf("%+v", p) }); err != nil {
		t.Error(err)
	}
	if err := n.Workers(t.Context(), "vax", func(ours.Peer) {}); err == nil {
		t.Error("an architecture that is none")
	}
	var unreachable *UnreachableError
	if err := client(t).Workers(t.Context(), manifest.ArchX8664, func(ours.Peer) {}); !errors.As(err, &unreachable) {
		t.Errorf("with nobody to ask: %v", err)
	}
}
