package node_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/examples"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
	"github.com/phasebased/phase/internal/nettest"
)

// forge makes an envelope by hand: what a submitter signs, changed by change, and
// signed by these keys.
func forge(t testing.TB, n *node, claimed ed25519.PrivateKey, change map[string]any, keys ...ed25519.PrivateKey) []byte {
	t.Helper()
	payload := map[string]any{
		"version": 1, "spec": json.RawMessage(hello(t, "forged").Payload()), "audience": job.FormatKey(n.key), "nonce": nonce(),
		"expires_at": time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05Z"), "submitter": job.FormatKey(publicOf(claimed)),
	}
	for name, value := range change {
		payload[name] = value
	}
	raw, err := json.Marshal(payload)
	nettest.Check(t, err)
	e := dsse.Envelope{PayloadType: job.SubmissionType, Payload: raw}
	for _, key := range keys {
		e.Signatures = append(e.Signatures, dsse.Sign(job.SubmissionType, raw, key))
	}
	envelope, err := e.Marshal()
	nettest.Check(t, err)
	return envelope
}

// TestHostileSubmissions: what is not signed as it must be, or asks for too much, is
// refused with a reason, and others are served all the while.
func TestHostileSubmissions(t *testing.T) {
	alice, stranger := newKey(t), newKey(t)
	n := start(t, map[string]any{"require_signed": true}, alice)
	o := n.serve(t, alice)
	in := func(d time.Duration) map[string]any {
		return map[string]any{"expires_at": time.Now().Add(d).UTC().Format("2006-01-02T15:04:05Z")}
	}
	for _, c := range []struct {
		name, kind string
		document   func() []byte
		want       job.Reason
	}{
		{"unsigned", jobapi.TypeSpec, func() []byte { return hello(t, "x").Payload() }, job.Unauthorised},
		{"unsigned envelope", jobapi.TypeEnvelope, func() []byte { return forge(t, n, alice, nil) }, job.Unauthorised},
		{"signer not allowed", jobapi.TypeEnvelope, func() []byte { return forge(t, n, stranger, nil, stranger) }, job.Unauthorised},
		{"signer under another's name", jobapi.TypeEnvelope, func() []byte { return forge(t, n, alice, nil, stranger) }, job.Unauthorised},
		{"signed by one who may, for one who may not", jobapi.TypeEnvelope, func() []byte { return forge(t, n, stranger, nil, alice) }, job.Unauthorised},
		{"for another node", jobapi.TypeEnvelope, func() []byte {
			return forge(t, n, alice, map[string]any{"audience": job.FormatKey(publicOf(stranger))}, alice)
		}, job.Unauthorised},
		{"expired", jobapi.TypeEnvelope, func() []byte { return forge(t, n, alice, in(-time.Second), alice) }, job.Expired},
		{"valid for too long", jobapi.TypeEnvelope, func() []byte { return forge(t, n, alice, in(48*time.Hour), alice) }, job.TooBig},
		{"signature of other bytes", jobapi.TypeEnvelope, func() []byte {
			return bytes.Replace(forge(t, n, alice, nil, alice), []byte(`"sig":"`), []byte(`"sig":"AAAA`), 1)
		}, job.Unauthorised},
		{"unknown member", jobapi.TypeEnvelope, func() []byte { return forge(t, n, alice, map[string]any{"priority": 9}, alice) }, job.Malformed},
		{"half an envelope", jobapi.TypeEnvelope, func() []byte { e := forge(t, n, alice, nil, alice); return e[:len(e)/2] }, job.Malformed},
		{"no end of envelope", jobapi.TypeEnvelope, func() []byte { return bytes.Repeat([]byte("["), job.MaxSubmissionBytes+1) }, job.TooBig},
		{"deep nesting", jobapi.TypeEnvelope, func() []byte { return bytes.Repeat([]byte("["), 10_001) }, job.Malformed},
		{"memory above the node's", jobapi.TypeEnvelope, greedy(t, n, alice, func(l *job.Limits) { l.MemoryBytes = 1 << 30 }), job.TooBig},
		{"time above the node's", jobapi.TypeEnvelope, greedy(t, n, alice, func(l *job.Limits) { l.DeadlineMS = 3_600_000 }), job.TooBig},
		{"output above the node's", jobapi.TypeEnvelope, greedy(t, n, alice, func(l *job.Limits) { l.StdoutBytes = 1 << 30 }), job.TooBig},
		{"error output above the node's", jobapi.TypeEnvelope, greedy(t, n, alice, func(l *job.Limits) { l.StderrBytes = 1 << 30 }), job.TooBig},
		{"fuel above the node's", jobapi.TypeEnvelope, greedy(t, n, alice, func(l *job.Limits) { l.Fuel = 1 << 52 }), job.TooBig},
	} {
		t.Run(c.name, func(t *testing.T) {
			o.during(t, func() {
				_, err := n.client.Submit(t.Context(), c.kind, c.document())
				if got := reasonOf(err); got != c.want {
					t.Fatalf("refused as %q (%v), want %s", got, err, c.want)
				}
			})
		})
	}
	if list, err := n.client.List(t.Context()); err != nil || len(list) < o.count() || len(list) > o.count()+1 {
		t.Errorf("the node knows %d jobs, the honest ones are %d (%v)", len(list), o.count(), err)
	}
}

// greedy is a signed job with limits beyond everybody's.
func greedy(t *testing.T, n *node, key ed25519.PrivateKey, want func(*job.Limits)) func() []byte {
	return func() []byte {
		j := newJob(t, blob.Of(examples.Hello), func(s *job.Spec) { s.Limits = job.DefaultLimits; want(&s.Limits) })
		return n.as(key).envelope(j)
	}
}

// TestReplayedSubmissions: an envelope counts once, and so does a nonce, at the same
// time, later, and after the node was killed.
func TestReplayedSubmissions(t *testing.T) {
	mallory, alice := newKey(t), newKey(t)
	n := start(t, nil, mallory, alice)
	once := map[string]any{"nonce": nonce()}
	envelope := forge(t, n, mallory, once, mallory)
	t.Run("at once", func(t *testing.T) {
		o := n.serve(t, alice)
		var accepted atomic.Int32
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				_, err := n.client.Submit(t.Context(), jobapi.TypeEnvelope, envelope)
				if reason := reasonOf(err); err == nil {
					accepted.Add(1)
				} else if reason != job.Replayed {
					t.Errorf("refused as %q: %v", reason, err)
				}
			})
		}
		all.Wait()
		if accepted.Load() != 1 {
			t.Errorf("accepted %d times", accepted.Load())
		}
		o.goOn(t)
	})
	replays := func(t *testing.T) {
		o := n.serve(t, alice)
		o.during(t, func() {
			wantReplayed(t, n, envelope)
			// Another job under the same nonce; the same job under another one.
			other := map[string]any{"nonce": once["nonce"], "spec": json.RawMessage(hello(t, "other").Payload())}
			wantReplayed(t, n, forge(t, n, mallory, other, mallory))
		})
	}
	t.Run("later", replays)
	n.end(syscall.SIGKILL)
	n.start()
	t.Run("after the node was killed", replays)
}

func wantReplayed(t *testing.T, n *node, envelope []byte) {
	t.Helper()
	if _, err := n.client.Submit(t.Context(), jobapi.TypeEnvelope, envelope); reasonOf(err) != job.Replayed {
		t.Fatalf("%v, want %s", err, job.Replayed)
	}
}

// TestSlowUploads: many modules that come a byte at a time keep nobody from having
// jobs run, and give way.
func TestSlowUploads(t *testing.T) {
	alice := newKey(t)
	n := start(t, nil, alice)
	o := n.serve(t, alice)
	ctx, stop := context.WithCancel(t.Context())
	var drips sync.WaitGroup
	for i := range 40 {
		drips.Go(func() {
			head := putHead(blob.Of(fmt.Append(nil, i)), "Content-Length: 60000000")
			for ctx.Err() == nil {
				drip(ctx, n, head)
			}
		})
	}
	o.goOn(t)
	o.goOn(t)
	// A client tries again while the node is busy, longer than this test wants to wait.
	soon, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	err := n.client.Upload(soon, []byte("one more module"))
	cancel()
	if reason := reasonOf(err); err != nil && reason != job.Busy && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an upload beside the slow ones: %q, %v", reason, err)
	}
	stop()
	drips.Wait()
	for late := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := n.client.Upload(t.Context(), []byte("one more module"))
		if err == nil {
			break
		}
		if reasonOf(err) != job.Busy || time.Now().After(late) {
			t.Fatalf("an upload after the slow ones: %v", err)
		}
	}
	wantOnlyBlobs(t, n)
}

// drip sends a request a byte at a time until the node has enough of it.
func drip(ctx context.Context, n *node, head string) {
	c, err := dial(ctx, n)
	if err != nil {
		return
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	for in := strings.NewReader(head); err == nil && in.Len() > 0; {
		_, err = in.WriteTo(c)
	}
	for err == nil {
		if _, err = c.Write([]byte{0}); err != nil {
			return
		}
		if err = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			return
		}
		if _, failed := c.Read(make([]byte, 1)); failed == nil || !isTimeout(failed) {
			return // answered, or cut off
		}
	}
}
