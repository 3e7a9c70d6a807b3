package node_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
	"github.com/phasebased/phase/internal/nettest"
)

func isAgain(err error) bool   { return errors.Is(err, syscall.EAGAIN) }
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// A crowd is how many connections are held at once, and what they may cost the node
// in bytes.
const (
	crowdSize   = 10_000
	crowdGrowth = 128 << 20
)

// manyFiles lets this process hold a crowd.
func manyFiles(t *testing.T) {
	t.Helper()
	const need = crowdSize + 1000
	var limit syscall.Rlimit
	nettest.Check(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	if limit.Cur >= need {
		return
	}
	limit.Cur, limit.Max = max(need, limit.Max), max(need, limit.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", fmt.Sprintf("needs %d open files: %v", need, err))
	}
}

// gather opens a crowd's connections, which say something each, and then goes on
// closing the oldest for a new one, until the test ends or stop is called.
func gather(t *testing.T, open func(context.Context) (net.Conn, error), say []byte) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	const hands = 20
	var filled, all sync.WaitGroup
	filled.Add(hands)
	for range hands {
		all.Go(func() { hold(ctx, crowdSize/hands, &filled, open, say) })
	}
	filled.Wait()
	stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	t.Cleanup(stop)
	return stop
}

// hold is one hand's share of a crowd.
func hold(ctx context.Context, count int, filled *sync.WaitGroup, open func(context.Context) (net.Conn, error), say []byte) {
	conns := make([]net.Conn, count)
	for i := 0; ctx.Err() == nil; i++ {
		if i == count {
			filled.Done()
		}
		if i >= count {
			time.Sleep(5 * time.Millisecond) // the two of us share a machine
		}
		if old := conns[i%count]; old != nil {
			old.Close()
		}
		c, err := open(ctx)
		if err != nil {
			continue // turned away
		}
		conns[i%count] = c
		_, _ = c.Write(say) // or pushed out
	}
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
}

// TestTenThousandConnections: whatever they say, the node goes on serving others,
// and its memory stays what it is.
func TestTenThousandConnections(t *testing.T) {
	manyFiles(t)
	alice := newKey(t)
	n := start(t, nil, alice)
	o := n.serve(t, alice)
	large := largeOutput(t, n.as(alice))
	waiting := endlessJob(t, n.as(alice))
	name := blob.Of([]byte("never finished"))
	for _, c := range []struct{ name, say string }{
		{"that say nothing", ""},
		{"that stop within a head", "GET /v1/jobs HTTP/1.1\r\nHost: node\r\nX"},
		{"that stop within a body", "POST /v1/jobs HTTP/1.1\r\nHost: node\r\nContent-Type: " + jobapi.TypeSpec + "\r\nContent-Length: 1000\r\n\r\n{"},
		{"that stop within an upload", putHead(name, "Content-Length: 1000000") + "x"},
		{"that do not read an answer", "GET /v1/jobs/" + large.String() + "/stdout HTTP/1.1\r\nHost: node\r\n\r\n"},
		{"that wait for a job", "GET /v1/jobs/" + waiting.String() + "/events HTTP/1.1\r\nHost: node\r\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n.resetPeak()
			before := n.memory("VmRSS")
			stop := gather(t, func(ctx context.Context) (net.Conn, error) { return dial(ctx, n) }, []byte(c.say))
			o.goOn(t)
			o.goOn(t)
			after := n.memory("VmHWM")
			stop()
			t.Logf("%d MiB before, at most %d MiB", before>>20, after>>20)
			if after > before+crowdGrowth {
				t.Errorf("the node grew from %d to %d MiB", before>>20, after>>20)
			}
			o.goOn(t)
		})
	}
}

// largeOutput is a job that wrote as much as the node keeps.
func largeOutput(t *testing.T, s submitter) blob.Digest {
	t.Helper()
	module := assemble(t, gibibyte)
	s.upload(module)
	j := newJob(t, blob.Of(module), func(s *job.Spec) { s.Limits.StdoutBytes = 8 << 20 })
	_, err := s.submit(t.Context(), j)
	nettest.Check(t, err)
	end := s.wait(j.ID())
	var out bytes.Buffer
	nettest.Check(t, s.client.Output(t.Context(), j.ID(), "stdout", end.Stdout, io.Writer(&out)))
	if out.Len() != 8<<20 {
		t.Fatalf("%d bytes of output", out.Len())
	}
	return j.ID()
}

// endlessJob is a job that runs as long as the test.
func endlessJob(t *testing.T, s submitter) blob.Digest {
	t.Helper()
	module := assemble(t, `(module (func (export "_start") loop $l br $l end))`)
	s.upload(module)
	j := newJob(t, blob.Of(module), func(s *job.Spec) { s.Limits.DeadlineMS, s.Limits.Fuel = 300_000, 6e12 })
	_, err := s.submit(t.Context(), j)
	nettest.Check(t, err)
	return j.ID()
}
