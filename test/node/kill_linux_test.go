package node_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/examples"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/nettest"
	realnode "github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/receipt"
)

// ledger is what a submitter wrote down about the jobs that a node accepted.
type ledger struct {
	*node
	accepted []blob.Digest
	words    map[blob.Digest]string // of hello jobs: what must come of them, if anything
	seen     map[blob.Digest]end    // that the node told before it was killed
}

// end is what a node told about the end of a job.
type end struct {
	job.End
	receipt []byte
}

// TestKilledAtManyPoints kills a node again and again, with jobs that wait, whose
// module is looked for, that run, that have ended and that were cancelled. Each job
// that it ever accepted ends with a receipt or a stated failure, once; and what it
// told about an end before, it tells afterwards.
func TestKilledAtManyPoints(t *testing.T) {
	const kills = 12
	alice := newKey(t)
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(silent.CloseClientConnections)
	n := start(t, map[string]any{
		"providers": []string{silent.URL}, "max_concurrent_jobs": 3, "max_per_submitter": 0,
	}, alice)
	l := &ledger{node: n, words: map[blob.Digest]string{}, seen: map[blob.Digest]end{}}
	loop := assemble(t, `(module (func (export "_start") loop $l br $l end))`)
	n.upload(loop)
	n.upload(examples.Hello)
	random := rand.New(rand.NewPCG(1, 2)) // the same points each time, as far as the machine goes
	for i := range kills {
		l.fill(n.as(alice), blob.Of(loop), random)
		l.reach(i)
		n.end(syscall.SIGKILL)
		wantNoJails(t)
		n.start()
		l.confirm()
	}
	l.settle()
	l.wantLog(kills)
}

// fill gives the node jobs of every kind.
func (l *ledger) fill(s submitter, loop blob.Digest, random *rand.Rand) {
	l.Helper()
	var jobs []*job.Job
	for i := range 3 {
		word := fmt.Sprintf("word %d %s", i, nonce())
		j := hello(l, word)
		l.words[j.ID()] = word
		jobs = append(jobs, j)
	}
	soon := func(s *job.Spec) { s.Limits.DeadlineMS = 1000 }
	jobs = append(jobs, newJob(l, loop, soon), newJob(l, blob.Of([]byte(nonce())), soon))
	random.Shuffle(len(jobs), func(i, j int) { jobs[i], jobs[j] = jobs[j], jobs[i] })
	for _, j := range jobs {
		_, err := s.submit(l.Context(), j)
		nettest.Check(l, err)
		l.accepted = append(l.accepted, j.ID())
	}
	if _, err := l.client.Cancel(l.Context(), jobs[random.IntN(len(jobs))].ID()); err != nil {
		l.Error(err)
	}
}

// reach waits for the moment of the kill: at once, or when the node tells of one of
// the last jobs that it is looking for its module, runs, or has ended.
func (l *ledger) reach(i int) {
	stages := []job.Stage{"", job.Fetching, job.Running, job.Ended}
	want := stages[i%len(stages)]
	if want == "" {
		return
	}
	ctx, cancel := context.WithTimeout(l.Context(), patience)
	defer cancel()
	reached := func(s job.Status) {
		if s.Stage == want {
			cancel()
		}
	}
	ends := make(chan func(), 5)
	for _, id := range l.accepted[len(l.accepted)-5:] {
		go func() {
			status, err := l.client.Watch(ctx, id, reached)
			if err != nil {
				status.End = nil
			}
			ends <- func() {
				if status.End != nil {
					l.note(id, status.End)
				}
			}
		}()
	}
	for range cap(ends) {
		(<-ends)()
	}
	if i%2 == 0 { // somewhere behind it
		time.Sleep(time.Duration(i) * 5 * time.Millisecond)
	}
}

// note writes down an end that the node told.
func (l *ledger) note(id blob.Digest, told *job.End) {
	l.Helper()
	e := end{End: *told}
	if told.Receipt {
		var err error
		e.receipt, err = l.client.Receipt(l.Context(), id)
		nettest.Check(l, err)
	}
	l.seen[id] = e
}

// confirm: what was told before the kill holds after it, to the byte.
func (l *ledger) confirm() {
	l.Helper()
	for id, before := range l.seen {
		status, err := l.client.Get(l.Context(), id)
		nettest.Check(l, err)
		if status.End == nil || status.End.State != before.State || status.End.Receipt != before.Receipt || !status.End.EndedAt.Equal(before.EndedAt) {
			l.Fatalf("job %s ended as %+v, and now as %+v", id, before.End, status.End)
		}
		if !before.Receipt {
			continue
		}
		if raw, err := l.client.Receipt(l.Context(), id); err != nil || !bytes.Equal(raw, before.receipt) {
			l.Fatalf("job %s has another receipt now (%v)", id, err)
		}
	}
}

// settle waits for the end of every job, and counts how they ended.
func (l *ledger) settle() {
	l.Helper()
	count := map[job.State]int{}
	for _, id := range l.accepted {
		told := l.wait(id)
		l.note(id, told)
		count[told.State]++
		if told.Receipt == (told.Failure != nil) {
			l.Errorf("job %s: a receipt %v, a failure %+v", id, told.Receipt, told.Failure)
		}
		if !told.Receipt {
			continue
		}
		_, s, err := receipt.Judge(l.seen[id].receipt, receipt.Expectation{
			NodeKey: l.key, JobID: id, Stdout: told.Stdout.Digest, Stderr: told.Stderr.Digest, Now: time.Now(),
		})
		nettest.Check(l, err)
		if word, ok := l.words[id]; ok && told.State == job.Exited && s.Result.Stdout.Digest != blob.Of(reversed(word)) {
			l.Errorf("job %s has another output than it must", id)
		}
	}
	l.Logf("%d jobs were accepted, and ended as %v", len(l.accepted), count)
	if count[job.Exited] == 0 || count[job.InfraError] == 0 || count[job.Refused] == 0 {
		l.Error("not every kind of end was seen")
	}
}

// wantLog: the log of receipts holds every receipt once, in an unbroken chain.
func (l *ledger) wantLog(kills int) {
	l.Helper()
	receipts := 0
	for _, e := range l.seen {
		if e.Receipt {
			receipts++
		}
	}
	l.end(syscall.SIGKILL)
	if got, err := realnode.CheckReceiptLog(filepath.Join(l.state(), "receipts")); err != nil || got != receipts {
		l.Errorf("the log holds %d receipts after %d kills, there were %d: %v", got, kills, receipts, err)
	}
}

// wantNoJails: what ran for a node dies with it.
func wantNoJails(t *testing.T) {
	t.Helper()
	for late := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		left := jails(t)
		if len(left) == 0 {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("jails that outlive their node: %v", left)
		}
	}
}

// jails are the processes in which guests of ours run.
func jails(t *testing.T) (pids []string) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	nettest.Check(t, err)
	for _, line := range lines {
		raw, err := os.ReadFile(line)
		if err == nil && strings.HasPrefix(string(raw), programs.dir) && !strings.HasPrefix(string(raw), programs.plasmd+"\x00start") {
			pids = append(pids, filepath.Base(filepath.Dir(line)))
		}
	}
	return pids
}
