package jobpeer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/peer"
)

const (
	idleConns   = 1000
	liars       = 20 // peers
	liarStreams = 40 // each tries to hold
)

// A thousand connections that say nothing, and peers that hold as many streams as
// they get, begin requests that they do not end, ask in vain and go away, cost a
// bounded number of conversations and bounded memory, while somebody's jobs are
// run, one after the other.
func TestCrowd(t *testing.T) {
	s := open(t, quick{}, func(_ *node.Config, c *jobpeer.Config) { c.RequestTimeout = time.Minute })
	s.keep(t, module)
	c := client(t, carrier)
	submit := func(arg string) {
		t.Helper()
		for try := 0; ; try++ {
			a, err := c.Submit(soon(t), s.peer, sign(t, newJob(t, module, arg), owner), nil)
			var e *jobpeer.Error
			if err != nil && try < 200 && (isBusy(err) || errors.As(err, &e) && e.Kind != jobpeer.Lying) {
				time.Sleep(20 * time.Millisecond)
				continue
			}
			if err != nil || string(a.Stdout) != arg {
				t.Fatalf("%s: %q, %v", arg, a.Stdout, err)
			}
			return
		}
	}
	submit("before")
	quiet := heap()
	hold(t, s.peer.Addrs[0])
	submit("beside idle connections")
	ctx, stop := context.WithCancel(context.Background())
	var lying sync.WaitGroup
	defer lying.Wait()
	defer stop()
	for i := range liars {
		n, err := p2p.New(p2p.Config{})
		if err != nil {
			t.Fatal(err)
		}
		lying.Go(func() { defer n.Close(); lie(ctx, n, s.peer, i) })
	}
	for i := range 30 {
		submit(fmt.Sprint("among liars ", i))
	}
	if grown := int64(heap()) - int64(quiet); grown > 96<<20 {
		t.Errorf("%d MiB more are in use", grown>>20)
	}
	stop()
	lying.Wait()
	submit("after")
}

// heap is the memory in use, of both ends.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// hold opens connections that say nothing, from several addresses of this machine,
// since one address may have only so many.
func hold(t *testing.T, addr string) {
	t.Helper()
	parts := strings.Split(addr, "/") // /ip4/127.0.0.1/tcp/N/p2p/ID
	port, err := strconv.Atoi(parts[4])
	if err != nil {
		t.Fatal(err)
	}
	for i := range idleConns {
		from := net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%8))}
		conn, err := net.DialTCP("tcp", &from, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		t.Cleanup(func() { conn.Close() })
	}
}

// lie holds streams open, each in another way, until ctx ends.
func lie(ctx context.Context, n *p2p.Node, p peer.Peer, manner int) {
	var held []peer.Stream
	defer func() {
		for _, s := range held {
			_ = s.Reset()
		}
	}()
	for round := 0; ctx.Err() == nil; round++ {
		s, err := n.Open(ctx, p, jobpeer.JobProtocol)
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		_ = s.SetDeadline(time.Now().Add(time.Minute))
		switch manner % 4 {
		case 0: // half a head
			_, _ = s.Write([]byte{2, 0})
		case 1: // a large request that does not come
			_, _ = s.Write(append([]byte{2, 0, 0x15, 0, 0}, make([]byte, 20_000)...))
		case 2: // in vain, again and again
			_, _ = s.Write(append([]byte{5, 0, 0, 0, 32}, make([]byte, 32)...))
			_, _ = io.Copy(io.Discard, s)
			_ = s.Close()
			time.Sleep(time.Millisecond)
			continue
		case 3: // comes and goes
			_, _ = s.Write([]byte{1, 0, 0, 0, 0})
			_ = s.Reset()
			time.Sleep(time.Millisecond)
			continue
		}
		if held = append(held, s); len(held) > liarStreams {
			_ = held[0].Reset()
			held = held[1:]
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// More jobs at the same time than one peer may have streams: each is run, or refused
// as busy and can be given again; what broke off after it was taken is asked for.
func TestManyAtOnce(t *testing.T) {
	s := open(t, quick{}, nil)
	s.keep(t, module)
	c := client(t, carrier)
	var all sync.WaitGroup
	for i := range 60 {
		j := newJob(t, module, fmt.Sprint(i))
		envelope := sign(t, j, owner)
		all.Go(func() {
			for range 500 {
				a, err := c.Submit(soon(t), s.peer, envelope, nil)
				if reason(err) == job.Replayed {
					a, err = c.Await(soon(t), s.peer, j.ID(), nil)
				}
				var e *jobpeer.Error
				if isBusy(err) || errors.As(err, &e) && e.Kind != jobpeer.Lying {
					time.Sleep(20 * time.Millisecond)
					continue
				}
				if err != nil || string(a.Stdout) != fmt.Sprint(i) {
					t.Errorf("%d: %q, %v", i, a.Stdout, err)
				}
				return
			}
			t.Errorf("%d: never taken", i)
		})
	}
	all.Wait()
}
