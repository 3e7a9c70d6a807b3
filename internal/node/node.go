// Package node runs jobs and signs what came of them.
//
// A job walks through three doors: the node's limits, a bounded queue, the
// sandbox. A job that is turned away at one of them gives a *job.Refusal and
// no receipt, as nothing happened; every job that was started gives a receipt,
// also when it trapped or ran out of time. The node trusts its own
// configuration and key, and nothing else: modules are named by digest and
// compared with it whenever they are read, wherever they come from.
package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/fuel"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/receipt"
)

// Runner executes a job's module. *wasm.Sandbox is one.
type Runner interface {
	// Run returns a *job.Refusal for a module that it does not run.
	Run(ctx context.Context, j *job.Job, module []byte) (job.Result, error)
}

// SubmitterRunner is a Runner that can tell submitters apart, and may let several jobs
// of one, but never of two, have something in common. The names are those by which
// the node counts quotas; "" is for jobs that have nothing in common with any.
type SubmitterRunner interface {
	Runner
	RunFor(ctx context.Context, submitter string, j *job.Job, module []byte) (job.Result, error)
}

// Config says what a node is. All fields are needed except where noted.
type Config struct {
	Key    ed25519.PrivateKey // identity; signs receipts
	Runner Runner
	// Module gets the bytes of a module from wherever this node keeps or
	// finds them. The node compares them with the digest.
	Module func(ctx context.Context, d blob.Digest) ([]byte, error)
	// Input opens an input of that size for reading, verified, so that nobody changes it
	// while the job runs; the node closes it. Nil: jobs with inputs are refused, as they
	// are by a Runner that is no InputRunner.
	Input  func(ctx context.Context, d blob.Digest, size int64) (*os.File, error)
	Limits job.NodeLimits
	// MaxConcurrent jobs run at once, MaxQueued more wait; the next one is
	// refused as busy.
	MaxConcurrent int
	MaxQueued     int
	// MaxPerSubmitter jobs of one submitter run or wait at once; 0 is no quota.
	// The node's own jobs have none.
	MaxPerSubmitter int
	// FetchTime is what a submitter's job has to get its module to this machine, while
	// it takes a place among those that run; 2 minutes if 0. For each 4 MiB of its inputs
	// it has a second more. It is no part of the job's
	// deadline, which is for what the job does. The node's own jobs may take longer.
	FetchTime time.Duration
	Booted    *receipt.Booted  // the system this node runs; nil if unknown
	Now       func() time.Time // time.Now if nil
	Log       *slog.Logger     // nil discards
}

// Node runs jobs. It is safe for concurrent use.
type Node struct {
	cfg   Config
	gate  *turnstile
	tally *tally

	modules moduleCache
}

// New checks cfg. It starts nothing.
func New(cfg Config) (*Node, error) {
	switch {
	case len(cfg.Key) != ed25519.PrivateKeySize:
		return nil, errors.New("node: no identity key")
	case cfg.Runner == nil || cfg.Module == nil:
		return nil, errors.New("node: no sandbox or no source of modules")
	case cfg.MaxConcurrent < 1 || cfg.MaxQueued < 0 || cfg.MaxPerSubmitter < 0:
		return nil, fmt.Errorf("node: %d concurrent and %d queued jobs", cfg.MaxConcurrent, cfg.MaxQueued)
	}
	if cfg.FetchTime <= 0 {
		cfg.FetchTime = 2 * time.Minute
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Node{cfg: cfg, gate: newTurnstile(cfg.MaxConcurrent, cfg.MaxQueued, cfg.MaxPerSubmitter, cfg.Now), tally: newTally(),
		modules: moduleCache{most: cachedBytes}}, nil
}

// Public is the key against which this node's receipts verify.
func (n *Node) Public() ed25519.PublicKey { return n.cfg.Key.Public().(ed25519.PublicKey) }

// Report is what a node answers about a job it ran.
type Report struct {
	JobID   blob.Digest
	Result  job.Result
	Receipt []byte // the signed receipt file
}

// Execute runs j to its end. It returns a *job.Refusal if the job was not
// started, ctx's error if the caller gave up while it waited, or the failure
// to sign; a job that failed is a Report like any other.
func (n *Node) Execute(ctx context.Context, j *job.Job) (Report, error) {
	return n.executeAs(ctx, j, ownJobs)
}

// executeAs is Execute within a submitter's turns and quota.
func (n *Node) executeAs(ctx context.Context, j *job.Job, who string) (Report, error) {
	report, err := n.execute(ctx, j, who)
	n.tally.note(report.Result, err)
	return report, err
}

func (n *Node) execute(ctx context.Context, j *job.Job, who string) (Report, error) {
	if err := n.admit(j); err != nil {
		return Report{}, err
	}
	asked := n.cfg.Now()
	place, err := n.gate.take(who, false)
	if err != nil {
		return Report{}, err
	}
	defer place.leave()
	if err := place.wait(ctx); err != nil {
		return Report{}, err
	}
	return n.perform(ctx, task{job: j, asked: asked, who: who})
}

// admit refuses what this node does not run, whoever asks.
func (n *Node) admit(j *job.Job) error {
	if err := n.cfg.Limits.Admit(j); err != nil {
		return err
	}
	return n.checkInputs(j)
}

// task is an admitted job that has its turn.
type task struct {
	job       *job.Job
	asked     time.Time
	submitter ed25519.PublicKey // nil: nobody in particular
	who       string            // as the turnstile counts it
	enter     func(job.Stage)   // told before each stage; nil: nobody listens
}

// perform gets the module, runs the job and signs what came of it.
func (n *Node) perform(ctx context.Context, t task) (Report, error) {
	enter := t.enter
	if enter == nil {
		enter = func(job.Stage) {}
	}
	started := n.cfg.Now()
	enter(job.Fetching)
	got, err := n.fetch(ctx, t)
	if err != nil {
		return Report{}, err
	}
	defer got.close()
	fetched := n.cfg.Now()
	enter(job.Running)
	res, err := n.run(ctx, t, got)
	if err != nil {
		return Report{}, err
	}
	res.Timings.Queue, res.Timings.Fetch = max(0, started.Sub(t.asked)), max(0, fetched.Sub(started))
	n.cfg.Log.Debug("job ended", "job", t.job.ID(), "state", res.State, "exit_code", res.ExitCode, "detail", res.Detail)
	return n.sign(t, res, started)
}

// needs is all that a job needs.
type needs struct {
	module []byte
	inputs map[string]*os.File
	close  func()
}

// fetch gets what the job needs, within its time.
func (n *Node) fetch(ctx context.Context, t task) (got needs, err error) {
	ctx, done := n.fetching(ctx, t)
	defer done()
	if got.module, err = n.module(ctx, t.job.Module()); err != nil {
		return needs{}, err
	}
	got.inputs, got.close, err = n.inputs(ctx, t.job)
	return got, err
}

// run gives the job to the runner, with the submitter's name where that matters.
func (n *Node) run(ctx context.Context, t task, got needs) (job.Result, error) {
	if r, ok := n.cfg.Runner.(InputRunner); ok && len(t.job.Inputs()) > 0 {
		return r.RunWith(ctx, t.who, t.job, got.module, got.inputs)
	}
	if r, ok := n.cfg.Runner.(SubmitterRunner); ok {
		return r.RunFor(ctx, t.who, t.job, got.module)
	}
	return n.cfg.Runner.Run(ctx, t.job, got.module)
}

// sign makes the receipt.
func (n *Node) sign(t task, res job.Result, started time.Time) (Report, error) {
	s := n.statement(t.job, res, started)
	s.Observation.Submitter = t.submitter
	signed, err := receipt.Sign(s, n.cfg.Key)
	if err != nil {
		return Report{}, fmt.Errorf("receipt of %s: %w", t.job, err)
	}
	return Report{JobID: t.job.ID(), Result: res, Receipt: signed}, nil
}

// fetching bounds the time for what a job needs.
func (n *Node) fetching(ctx context.Context, t task) (context.Context, context.CancelFunc) {
	if t.who == ownJobs {
		return context.WithCancel(ctx)
	}
	most := n.fetchTime(t.job)
	return context.WithTimeoutCause(ctx, most, fmt.Errorf("not within the %s that a job has for it", most))
}

// module gets the bytes and compares them with their name, unless that was done lately.
func (n *Node) module(ctx context.Context, d blob.Digest) ([]byte, error) {
	if module := n.modules.get(d, n.cfg.Now()); module != nil {
		return module, nil
	}
	module, err := n.cfg.Module(ctx, d)
	if err != nil {
		return nil, notHad(ctx, "module", err)
	}
	if err := n.cfg.Limits.AdmitModule(int64(len(module))); err != nil {
		return nil, err
	}
	if got := blob.Of(module); got != d {
		return nil, &job.Refusal{Reason: job.Unavailable, Detail: "the module has another hash than the job names", Err: &blob.MismatchError{
			Want: d, Got: got, WantSize: int64(len(module)), GotSize: int64(len(module)),
		}}
	}
	n.modules.put(d, module, n.cfg.Now())
	return module, nil
}

// statement is what the node says about a job it ran.
func (n *Node) statement(j *job.Job, res job.Result, started time.Time) receipt.Statement {
	spec := j.Spec()
	s := receipt.Statement{
		Result: receipt.Result{
			JobID: j.ID(), Module: spec.Module, Args: spec.Args, Stdin: blob.Of(spec.Stdin),
			Inputs:   receiptInputs(spec.Inputs),
			Stdout:   receipt.OutputOf(res.Stdout, res.StdoutTruncated),
			Stderr:   receipt.OutputOf(res.Stderr, res.StderrTruncated),
			EndState: receipt.EndState(res.State),
			Limits:   receipt.Limits(spec.Limits),
			Fuel:     receipt.Fuel{Used: res.FuelUsed, CostTable: fuel.CostTable}, Determinism: string(spec.Determinism),
		},
		Observation: receipt.Observation{
			Engine: res.Engine, Walls: res.Walls, Booted: n.cfg.Booted,
			Timings: receipt.Timings{
				StartedAt: started.UTC().Truncate(time.Millisecond),
				Queue:     res.Timings.Queue, Fetch: res.Timings.Fetch,
				Compile: res.Timings.Compile, Run: res.Timings.Run,
			},
		},
	}
	switch res.State {
	case job.Exited:
		s.Result.ExitCode = int64(uint32(res.ExitCode))
	case job.Trapped:
		s.Result.Trap = trapName(res.Detail)
	}
	return s
}

// trapName bounds the kind of trap for the receipt, which needs one.
func trapName(detail string) string {
	const most = 200
	if detail == "" {
		return "unknown"
	}
	if runes := []rune(detail); len(runes) > most {
		return string(runes[:most])
	}
	return detail
}
