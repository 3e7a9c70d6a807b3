package node_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/examples"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
	"github.com/phasebased/phase/receipt"
)

func nonce() string { return rand.Text() }

// others are the honest people whose jobs a node runs while it is attacked: one job
// after the other, each signed, waited for, and held against its receipt.
type others struct {
	t    testing.TB
	node *node
	key  ed25519.PrivateKey

	mu    sync.Mutex
	ended int           // jobs that came to the right end
	more  chan struct{} // closed at the next one
}

// serve begins, and ends with the test.
func (n *node) serve(t testing.TB, key ed25519.PrivateKey) *others {
	t.Helper()
	o := &others{t: t, node: n, key: key, more: make(chan struct{})}
	n.upload(examples.Hello)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := o.one(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("an honest job: %v", err)
				return
			}
		}
	}()
	t.Cleanup(func() { stop(); <-done; t.Logf("%d honest jobs meanwhile", o.count()) })
	return o
}

// one is one job from its making to its verified end.
func (o *others) one(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	word := "others " + nonce()
	j := hello(o.t, word)
	if err := o.submit(ctx, o.node.as(o.key).envelope(j)); err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	status, err := o.node.client.Watch(ctx, j.ID(), func(job.Status) {})
	for err != nil && ctx.Err() == nil { // a crowd may have pushed the connection out
		status, err = o.node.client.Watch(ctx, j.ID(), func(job.Status) {})
	}
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if err := o.check(ctx, j.ID(), status.End, reversed(word)); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended++
	close(o.more)
	o.more = make(chan struct{})
	return nil
}

// submit hands an envelope in until the node has it: who does not hear the answer
// asks again, and hears that it was here before.
func (o *others) submit(ctx context.Context, envelope []byte) error {
	for again := false; ; again = true {
		_, err := o.node.client.Submit(ctx, jobapi.TypeEnvelope, envelope)
		reason := reasonOf(err)
		if err == nil || again && reason == job.Replayed {
			return nil
		}
		if ctx.Err() != nil || reason != "" && reason != job.Busy {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// check holds an end against the receipt and the output.
func (o *others) check(ctx context.Context, id blob.Digest, end *job.End, want []byte) error {
	if end.State != job.Exited || end.ExitCode != 0 {
		return fmt.Errorf("ended as %s %d: %s", end.State, end.ExitCode, end.Detail)
	}
	var raw []byte
	var out bytes.Buffer
	ask := func() (err error) {
		out.Reset()
		if raw, err = o.node.client.Receipt(ctx, id); err != nil {
			return err
		}
		return o.node.client.Output(ctx, id, "stdout", end.Stdout, &out)
	}
	err := ask()
	for err != nil && reasonOf(err) == "" && ctx.Err() == nil {
		err = ask()
	}
	if err != nil {
		return err
	}
	_, _, err = receipt.Judge(raw, receipt.Expectation{
		NodeKey: o.node.key, JobID: id, Stdout: blob.Of(want), Stderr: blob.Of(nil), Now: time.Now(),
	})
	return errors.Join(err, same(out.Bytes(), want))
}

func (o *others) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ended
}

// goOn waits until jobs that were begun from now on came to their right end.
func (o *others) goOn(t testing.TB) {
	t.Helper()
	const jobs = 3 // the first may have been begun before
	late := time.After(patience)
	for from := o.count(); ; {
		o.mu.Lock()
		now, more := o.ended, o.more
		o.mu.Unlock()
		if now >= from+jobs {
			return
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("the node serves nobody else: %d jobs in %s", now-from, patience)
		}
	}
}

// during repeats an attack until the others got on meanwhile.
func (o *others) during(t testing.TB, attack func()) {
	t.Helper()
	begun := time.Now()
	for from := o.count(); ; {
		attack()
		if t.Failed() || o.t.Failed() {
			t.FailNow()
		}
		if o.count() >= from+2 {
			return
		}
		if time.Since(begun) > patience {
			t.Fatalf("the node serves nobody else: %d jobs in %s", o.count()-from, patience)
		}
	}
}
