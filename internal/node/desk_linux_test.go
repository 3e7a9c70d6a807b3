package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/receipt"
)

var (
	alice = job.Caller{Name: "local:1"}
	bob   = job.Caller{Name: "local:2"}
	root  = job.Caller{Name: "local:0", Admin: true}
)

// echoRunner writes the job's first argument, or waits if that is "wait".
type echoRunner struct{ started chan string }

func (r echoRunner) Run(ctx context.Context, j *job.Job, _ []byte) (job.Result, error) {
	arg := j.Spec().Args[0]
	if r.started != nil {
		r.started <- arg
	}
	if arg == "wait" {
		<-ctx.Done()
		return job.Result{State: job.InfraError, Detail: "killed"}, nil
	}
	return job.Result{State: job.Exited, ExitCode: 3, Stdout: []byte(arg), Engine: "echo"}, nil
}

type deskTest struct {
	*Desk
	node     *Node
	dir      string
	log      *ReceiptLog
	runner   echoRunner
	shutdown func()
}

// openDesk is a desk with its folder dir, at work until the test or shutdown ends it.
func openDesk(t testing.TB, dir string, change func(*Config, *DeskConfig)) *deskTest {
	t.Helper()
	d := &deskTest{dir: dir, runner: echoRunner{make(chan string, 100)}}
	var deskCfg DeskConfig
	d.node = newNode(t, func(c *Config) {
		c.Runner, c.MaxConcurrent, c.MaxQueued, c.MaxPerSubmitter = d.runner, 1, 4, 3
		c.Module = func(_ context.Context, m blob.Digest) ([]byte, error) {
			if m == blob.Of([]byte("module")) {
				return []byte("module"), nil
			}
			return nil, os.ErrNotExist
		}
		if change != nil {
			change(c, &deskCfg)
		}
	})
	outputs, err := store.Open(filepath.Join(dir, "outputs"))
	if err != nil {
		t.Fatal(err)
	}
	if d.log, err = OpenReceiptLog(dir); err != nil {
		t.Fatal(err)
	}
	deskCfg.Node, deskCfg.Dir, deskCfg.Receipts, deskCfg.Outputs = d.node, dir, d.log, outputs
	if d.Desk, err = NewDesk(deskCfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	for d.mu.Lock(); !d.Desk.open; d.mu.Lock() {
		d.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	d.mu.Unlock()
	d.shutdown = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, d.Close(), d.log.Close(), outputs.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(d.shutdown)
	return d
}

func spec(t testing.TB, arg, nonce string) *job.Job {
	return newJob(t, job.Spec{Module: blob.Of([]byte("module")), Args: []string{arg}, Nonce: nonce})
}

func (d *deskTest) submit(t testing.TB, by job.Caller, arg, nonce string) (blob.Digest, error) {
	t.Helper()
	s, err := d.SubmitLocal(spec(t, arg, nonce).Payload(), by)
	return s.ID, err
}

// finish waits for a job's end.
func (d *deskTest) finish(t testing.TB, id blob.Digest) *job.End {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var end *job.End
	err := d.Watch(ctx, id, root, func(s job.Status) error { end = s.End; return nil })
	if err != nil || end == nil {
		t.Fatalf("%s: %v", id, err)
	}
	return end
}

func reasonOf(err error) job.Reason {
	var r *job.Refusal
	if errors.As(err, &r) {
		return r.Reason
	}
	return ""
}

func TestJobWalksThrough(t *testing.T) {
	d := openDesk(t, t.TempDir(), nil)
	id, err := d.submit(t, alice, "hello", "1")
	if err != nil {
		t.Fatal(err)
	}
	end := d.finish(t, id)
	if end.State != job.Exited || end.ExitCode != 3 || !end.Receipt || end.Stdout.Digest != blob.Of([]byte("hello")) {
		t.Errorf("%+v", end)
	}
	signed, err := d.Receipt(id, alice)
	if err != nil {
		t.Fatal(err)
	}
	verdict, s, err := receipt.Judge(signed, receipt.Expectation{NodeKey: d.node.Public(), JobID: id, Stdout: blob.Of([]byte("hello")), Now: time.Now()})
	if verdict != receipt.Accept || s.Observation.Submitter != nil {
		t.Errorf("%s %v %+v", verdict, err, s.Observation)
	}
	for what, err := range map[string]error{
		"get": second(d.Get(id, bob)), "receipt": second(d.Receipt(id, bob)), "spec": second(d.Spec(id, bob)), "cancel": second(d.Cancel(id, bob)),
	} {
		if !errors.Is(err, job.ErrUnknown) {
			t.Errorf("%s by another one: %v", what, err)
		}
	}
	if len(d.List(alice)) != 1 || len(d.List(root)) != 1 || len(d.List(bob)) != 0 {
		t.Error("lists")
	}
	if _, err := d.submit(t, alice, "hello", "1"); reasonOf(err) != job.Replayed {
		t.Errorf("once more: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestQuotaTurnsAndCancel(t *testing.T) {
	d := openDesk(t, t.TempDir(), nil)
	holding, err := d.submit(t, alice, "wait", "0")
	if err != nil {
		t.Fatal(err)
	}
	<-d.runner.started
	var order []blob.Digest
	for i := range 2 {
		id, err := d.submit(t, alice, fmt.Sprintf("a%d", i), "")
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, id)
	}
	if _, err := d.submit(t, alice, "a2", ""); reasonOf(err) != job.Busy {
		t.Errorf("over the quota: %v", err)
	}
	for i := range 2 {
		id, err := d.submit(t, bob, fmt.Sprintf("b%d", i), "")
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, id)
	}
	// The room is full, but for one who has nothing here; then it is for everybody.
	last, err := d.submit(t, root, "r", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.submit(t, root, "r2", ""); reasonOf(err) != job.Busy {
		t.Errorf("no room: %v", err)
	}
	if _, err := d.Cancel(order[1], alice); err != nil { // a1 waits
		t.Fatal(err)
	}
	if end := d.finish(t, order[1]); end.Failure == nil || end.Failure.Reason != job.Cancelled || end.Failure.Code != "NODE-012" || end.Receipt {
		t.Errorf("cancelled in the queue: %+v", end)
	}
	if _, err := d.Cancel(holding, root); err != nil { // runs
		t.Fatal(err)
	}
	if end := d.finish(t, holding); end.Failure == nil || end.Failure.Reason != job.Cancelled {
		t.Errorf("cancelled at work: %+v", end)
	}
	if _, err := d.Receipt(holding, root); !errors.Is(err, job.ErrNoReceipt) {
		t.Errorf("receipt: %v", err)
	}
	for _, id := range []blob.Digest{order[0], order[2], order[3], last} {
		d.finish(t, id)
	}
	var ran []string
	for range 4 {
		ran = append(ran, <-d.runner.started)
	}
	if !slices.Equal(ran, []string{"a0", "b0", "r", "b1"}) {
		t.Errorf("turns: %q", ran)
	}
}

func TestSignedSubmissions(t *testing.T) {
	key, err := EphemeralKey()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := EphemeralKey()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var later atomic.Int64 // nanoseconds; a place in the queue is given back after the end is told
	begin := time.Now()
	clock := func() time.Time { return begin.Add(time.Duration(later.Load())) }
	allow := func(c *Config, dc *DeskConfig) {
		c.Now = clock
		dc.Submitters, dc.RequireSigned = []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}, true
	}
	d := openDesk(t, dir, allow)
	sign := func(key ed25519.PrivateKey, audience ed25519.PublicKey, arg string) []byte {
		raw, err := job.SignSubmission(spec(t, arg, ""), audience, clock().Add(time.Hour), key)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	if _, err := d.submit(t, root, "x", ""); reasonOf(err) != job.Unauthorised {
		t.Errorf("unsigned: %v", err)
	}
	if _, err := d.SubmitSigned(sign(stranger, nil, "x"), root); reasonOf(err) != job.Unauthorised {
		t.Errorf("stranger: %v", err)
	}
	if _, err := d.SubmitSigned(sign(key, stranger.Public().(ed25519.PublicKey), "x"), root); reasonOf(err) != job.Unauthorised {
		t.Errorf("for another node: %v", err)
	}
	envelope := sign(key, d.node.Public(), "x")
	s, err := d.SubmitSigned(envelope, bob)
	if err != nil {
		t.Fatal(err)
	}
	d.finish(t, s.ID)
	signed, err := d.Receipt(s.ID, bob)
	if err != nil {
		t.Fatal(err)
	}
	statement, err := receipt.Verify(signed, d.node.Public())
	if err != nil || !statement.Observation.Submitter.Equal(key.Public()) {
		t.Errorf("%v, submitter %x", err, statement.Observation.Submitter)
	}
	if _, err := d.SubmitSigned(envelope, bob); reasonOf(err) != job.Replayed {
		t.Errorf("replayed: %v", err)
	}
	nodeKey := d.node.cfg.Key
	d.shutdown()
	again := openDesk(t, dir, func(c *Config, dc *DeskConfig) {
		allow(c, dc)
		c.Key, dc.KeepJobs = nodeKey, 1
	})
	other, err := again.SubmitSigned(sign(key, nil, "y"), bob)
	if err != nil {
		t.Fatal(err)
	}
	again.finish(t, other.ID) // pushes the first one out
	if _, err := again.Get(s.ID, bob); !errors.Is(err, job.ErrUnknown) {
		t.Errorf("not forgotten: %v", err)
	}
	if _, err := again.SubmitSigned(envelope, bob); reasonOf(err) != job.Replayed {
		t.Errorf("replayed after a restart, forgotten: %v", err)
	}
	later.Store(int64(2 * time.Hour))
	if _, err := again.SubmitSigned(envelope, bob); reasonOf(err) != job.Expired {
		t.Errorf("replayed after its expiry: %v", err)
	}
}

// crash copies what a killed process would leave behind.
func crash(t *testing.T, dir string) string {
	t.Helper()
	left := t.TempDir()
	if err := os.CopyFS(filepath.Join(left, "state"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(left, "state")
}

func TestNothingIsLostInACrash(t *testing.T) {
	d := openDesk(t, t.TempDir(), nil)
	var ids []blob.Digest
	for i, arg := range []string{"done", "wait", "later"} {
		id, err := d.submit(t, alice, arg, "")
		if err != nil {
			t.Fatal(err)
		}
		if ids = append(ids, id); i == 0 {
			d.finish(t, id)
			<-d.runner.started
		}
	}
	<-d.runner.started
	left := crash(t, d.dir)
	f, err := os.OpenFile(filepath.Join(left, journalName), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"accept":{"at":"torn`); err != nil { // never acknowledged
		t.Fatal(err)
	}
	f.Close()
	key := d.node.cfg.Key
	after := openDesk(t, left, func(c *Config, _ *DeskConfig) { c.Key = key })
	for i, want := range []job.State{job.Exited, job.InfraError, job.Exited} {
		end := after.finish(t, ids[i])
		signed, err := after.Receipt(ids[i], alice)
		if err != nil || end.State != want {
			t.Errorf("job %d: %+v, %v", i, end, err)
			continue
		}
		verdict, _, err := receipt.Judge(signed, receipt.Expectation{NodeKey: after.node.Public(), JobID: ids[i]})
		if verdict != receipt.Accept {
			t.Errorf("job %d: %s %v", i, verdict, err)
		}
	}
	if ran := <-after.runner.started; ran != "later" || len(after.runner.started) != 0 {
		t.Errorf("ran %q and %d more", ran, len(after.runner.started))
	}
	body, out, err := after.Output(ids[0], false, alice)
	if err != nil || out.Size != 4 {
		t.Fatalf("output %+v, %v", out, err)
	}
	body.Close()
	after.shutdown()
	if n, err := CheckReceiptLog(left); n != 3 || err != nil {
		t.Errorf("log: %d, %v", n, err)
	}
}

// A node that is told to stop ends what runs, and leaves what waits for the next start.
func TestStopAndStart(t *testing.T) {
	d := openDesk(t, t.TempDir(), nil)
	running, err := d.submit(t, alice, "wait", "")
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := d.submit(t, alice, "later", "")
	if err != nil {
		t.Fatal(err)
	}
	<-d.runner.started
	dropped, err := d.submit(t, alice, "dropped", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Cancel(dropped, alice); err != nil {
		t.Fatal(err)
	}
	d.finish(t, dropped)
	if _, err := NewDesk(DeskConfig{Node: d.node, Dir: d.dir, Outputs: d.cfg.Outputs}); !errors.As(err, new(*InUseError)) {
		t.Errorf("a second desk: %v", err)
	}
	d.shutdown()
	if _, err := d.submit(t, alice, "x", ""); reasonOf(err) != job.Busy {
		t.Errorf("closed: %v", err)
	}
	again := openDesk(t, d.dir, nil)
	if end := again.finish(t, running); end.State != job.InfraError || !end.Receipt {
		t.Errorf("%+v", end)
	}
	if end := again.finish(t, waiting); end.State != job.Exited {
		t.Errorf("%+v", end)
	}
	if end := again.finish(t, dropped); end.Failure == nil || end.Failure.Reason != job.Cancelled {
		t.Errorf("a stated failure is not remembered: %+v", end)
	}
}

func TestMissingModuleIsAStatedFailure(t *testing.T) {
	d := openDesk(t, t.TempDir(), nil)
	s, err := d.SubmitLocal(newJob(t, job.Spec{Module: blob.Of([]byte("nowhere"))}).Payload(), alice)
	if err != nil {
		t.Fatal(err)
	}
	if end := d.finish(t, s.ID); end.Failure == nil || end.Failure.Reason != job.Unavailable || end.Failure.Code != "NODE-005" || end.State != job.Refused {
		t.Errorf("%+v", end)
	}
	if _, err := d.SubmitLocal(newJob(t, job.Spec{Module: blob.Of([]byte("module")), Limits: job.Limits{MemoryBytes: 1 << 40}}).Payload(), root); reasonOf(err) != job.TooBig {
		t.Errorf("above the node's limits: %v", err)
	}
}

// Memory and journal stay bounded however many jobs come.
func TestOldJobsAreForgotten(t *testing.T) {
	d := openDesk(t, t.TempDir(), func(_ *Config, dc *DeskConfig) { dc.KeepJobs, dc.KeepBytes = 50, 64<<10 })
	var last blob.Digest
	for i := range 300 {
		id, err := d.submit(t, alice, "x", fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		d.finish(t, id)
		<-d.runner.started
		last = id
	}
	if n := len(d.List(root)); n == 0 || n > 50 || len(d.known) != n || d.kept > 64<<10 {
		t.Errorf("%d jobs kept, %d known, %d bytes", n, len(d.known), d.kept)
	}
	d.mu.Lock()
	err := d.journal.compact(d.entries())
	d.mu.Unlock()
	if err != nil || d.journal.length() > 256<<10 {
		t.Errorf("journal of %d bytes, %v", d.journal.length(), err)
	}
	d.shutdown()
	if end := openDesk(t, d.dir, nil).finish(t, last); end.State != job.Exited {
		t.Errorf("%+v", end)
	}
	if n, err := CheckReceiptLog(d.dir); n != 300 || err != nil {
		t.Errorf("log: %d, %v", n, err)
	}
}

// TestNobodyIsPushedOut: who submits many jobs makes the desk forget their own.
func TestNobodyIsPushedOut(t *testing.T) {
	d := openDesk(t, t.TempDir(), func(_ *Config, dc *DeskConfig) { dc.KeepJobs = 5 })
	var ids []blob.Digest
	for i, by := range append([]job.Caller{bob, alice}, slices.Repeat([]job.Caller{bob}, 8)...) {
		id, err := d.submit(t, by, "x", fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		d.finish(t, id)
		ids = append(ids, id)
	}
	d.shutdown()
	again := openDesk(t, d.dir, func(_ *Config, dc *DeskConfig) { dc.KeepJobs = 5 })
	if end := again.finish(t, ids[1]); end.State != job.Exited {
		t.Errorf("%+v", end)
	}
	for _, left := range []struct {
		by   job.Caller
		want []blob.Digest
	}{{alice, ids[1:2]}, {bob, ids[6:]}} {
		var have []blob.Digest
		for _, s := range again.List(left.by) {
			have = append(have, s.ID)
		}
		if !slices.Equal(have, left.want) {
			t.Errorf("of %s: %v, want %v", left.by.Name, have, left.want)
		}
	}
}

// TestManyNonces: a journal that has much to hold is not written anew for each job.
func TestManyNonces(t *testing.T) {
	d := openDesk(t, t.TempDir(), nil)
	expires := time.Now().Add(time.Hour)
	d.mu.Lock()
	for i := range maxNonces / 2 {
		d.nonces.add(&nonceEntry{"ed25519:somebody", fmt.Sprintf("%0128d", i), expires})
	}
	err := d.journal.compact(d.entries())
	d.mu.Unlock()
	file := filepath.Join(d.dir, journalName)
	before, failed := os.Stat(file)
	if err := errors.Join(err, failed); err != nil || before.Size() < journalSlack+1<<20 {
		t.Fatalf("%d bytes, %v", before.Size(), err)
	}
	id, err := d.submit(t, alice, "x", "1")
	if err != nil {
		t.Fatal(err)
	}
	d.finish(t, id)
	d.mu.Lock() // the end is told before the journal is looked at
	after, err := os.Stat(file)
	d.mu.Unlock()
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("written anew, %v", err)
	}
}

func TestNonces(t *testing.T) {
	const most, submitters = 10, 2
	now := time.Now()
	n := newNonces(most)
	use := func(who, nonce string, expires time.Time) bool {
		if !n.room(who, submitters, now) {
			return false
		}
		n.add(&nonceEntry{who, nonce, expires})
		return true
	}
	for i := range most {
		if !use("a", fmt.Sprint(i), now.Add(time.Duration(most-i)*time.Minute)) {
			t.Fatalf("no room for the nonce %d", i)
		}
	}
	if use("a", "more", now) {
		t.Error("one submitter has more than there is room for")
	}
	for i := range most / submitters {
		if !use("b", fmt.Sprint(i), now.Add(time.Hour)) {
			t.Fatalf("no room for the other's nonce %d", i)
		}
	}
	if use("b", "more", now) {
		t.Error("another has more than their part")
	}
	if !n.used(&nonceEntry{"a", "0", now}) || n.used(&nonceEntry{"b", "9", now}) {
		t.Error("the wrong nonces are known")
	}
	now = now.Add(7 * time.Minute) // all but three of a's have expired
	if !use("a", "more", now.Add(time.Hour)) || n.used(&nonceEntry{"a", "9", now}) || !n.used(&nonceEntry{"b", "0", now}) {
		t.Error("what has expired is kept, or what has not is gone")
	}
	n.add(&nonceEntry{"b", "0", now.Add(time.Hour)})
	if len(n.next) != len(n.known) || n.by["a"]+n.by["b"] != len(n.known) {
		t.Errorf("%d, %d, %v", len(n.next), len(n.known), n.by)
	}
}

// In Private mode a desk keeps all in memory, and touches no disk.
func TestPrivateDeskWritesNothing(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	n := newNode(t, func(c *Config) {
		c.Runner = echoRunner{}
		c.Module = func(context.Context, blob.Digest) ([]byte, error) { return []byte("module"), nil }
	})
	d, err := NewDesk(DeskConfig{Node: n})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	s, err := d.SubmitLocal(spec(t, "x", "").Payload(), alice)
	for reasonOf(err) == job.Busy { // not open yet
		time.Sleep(time.Millisecond)
		s, err = d.SubmitLocal(spec(t, "x", "").Payload(), alice)
	}
	if err != nil {
		t.Fatal(err)
	}
	(&deskTest{Desk: d}).finish(t, s.ID)
	if _, err := d.Receipt(s.ID, alice); err != nil {
		t.Error(err)
	}
	cancel()
	if err := errors.Join(<-done, d.Close()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// BenchmarkDesk is what taking a job in, writing it down and telling its end
// cost beside running it.
func BenchmarkDesk(b *testing.B) {
	d := openDesk(b, b.TempDir(), func(c *Config, _ *DeskConfig) { c.Runner = echoRunner{} })
	for i := 0; b.Loop(); i++ {
		id, err := d.submit(b, alice, "x", fmt.Sprint(i))
		if err != nil {
			b.Fatal(err)
		}
		d.finish(b, id)
	}
}
