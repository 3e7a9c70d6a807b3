package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/internal/wasm"
)

const (
	jobSamples  = 101 // of each kind of job; medians are reported
	jobWorkers  = 2   // jobs at once where jobs per second are measured
	jobRushes   = 200 // jobs of each rush
	helloArg    = "Hello, World"
	helloAnswer = "dlroW ,olleH\n"
)

// worker is a node in this process whose guests run in copies of plasm-jail.
type worker struct {
	box    *wasm.Sandbox
	node   *node.Node
	hello  *job.Job
	served chan error
	stop   context.CancelFunc
}

// sameSubmitter gives all jobs to the sandbox as those of one submitter.
type sameSubmitter struct{ *wasm.Sandbox }

func (s sameSubmitter) RunFor(ctx context.Context, _ string, j *job.Job, module []byte) (job.Result, error) {
	return s.Sandbox.RunFor(ctx, "bench", j, module)
}

// newWorker starts a node with that many spare jails, each for so many jobs.
func newWorker(ctx context.Context, spare, reuse int) (*worker, error) {
	exe, err := filepath.Abs(filepath.Join("build", "bin", "plasm-jail"))
	if err != nil {
		return nil, err
	}
	empty, err := filepath.Abs(filepath.Join("build", "empty"))
	if err == nil {
		err = os.MkdirAll(empty, 0o555)
	}
	if err != nil {
		return nil, err
	}
	module, err := os.ReadFile(filepath.Join("examples", "hello", "hello.wasm"))
	if err != nil {
		return nil, err
	}
	w := &worker{
		box:    &wasm.Sandbox{Exe: exe, EmptyDir: empty, Spare: spare, Reuse: reuse},
		served: make(chan error, 1),
	}
	w.hello, err = job.New(job.Spec{Version: job.SpecVersion, Module: blob.Of(module), Args: []string{helloArg}})
	if err != nil {
		return nil, err
	}
	w.node, err = node.New(node.Config{
		Key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), Runner: sameSubmitter{w.box},
		Module: func(context.Context, blob.Digest) ([]byte, error) { return module, nil },
		Limits: job.DefaultNodeLimits, MaxConcurrent: jobWorkers, MaxQueued: jobWorkers,
	})
	if err != nil {
		return nil, err
	}
	serving, stop := context.WithCancel(ctx)
	w.stop = stop
	go func() { w.served <- w.box.Serve(serving) }()
	return w, nil
}

func (w *worker) close() error {
	w.stop()
	return <-w.served
}

// run runs the job once and checks its answer.
func (w *worker) run(ctx context.Context) (node.Report, error) {
	report, err := w.node.Execute(ctx, w.hello)
	if err == nil && string(report.Result.Stdout) != helloAnswer {
		err = fmt.Errorf("the hello job ended as %s: %s", report.Result.State, report.Result.Detail)
	}
	return report, err
}

var errNoSpares = errors.New("no spare jails became ready")

// rest waits until the spare jails are there.
func (w *worker) rest() error {
	for end := time.Now().Add(time.Minute); w.box.Ready() < w.box.Spare; time.Sleep(200 * time.Microsecond) {
		if time.Now().After(end) {
			return errNoSpares
		}
	}
	return nil
}

// jobFigures measures jobs through the node. The node's own time for queue, module
// digest and signed receipt is in all of them.
func jobFigures(ctx context.Context, jobs int) ([]Figure, error) {
	shell, err := jailedTrue()
	if err != nil {
		return nil, err
	}
	var figures []Figure
	var walls []string
	for _, kind := range []struct {
		name         string
		spare, reuse int
		goal         string
	}{
		{"in a jail made for it", 0, 0, ""},
		{"in a spare jail", jobWorkers, 0, "<= 1.5"},
		{"in its submitter's used jail", jobWorkers, 1 << 20, "<= 0.3"},
	} {
		w, err := newWorker(ctx, kind.spare, kind.reuse)
		if err != nil {
			return nil, err
		}
		took, report, err1 := w.alone(ctx)
		rate, cpu, err2 := w.rush(ctx)
		if err := errors.Join(err1, err2, w.close()); err != nil {
			return nil, fmt.Errorf("%s: %w", kind.name, err)
		}
		if len(report.Result.Walls) > len(walls) {
			walls = report.Result.Walls
		}
		figures = append(figures,
			Figure{"hello job " + kind.name, took, "ms", shell, took / shell, kind.goal},
			Figure{"hello jobs " + kind.name + ", two at once", rate, "/s", 0, 0, ""})
		if kind.reuse == 0 { // what a jail that goes on has used, the system tells later
			figures = append(figures, Figure{"processor time of a hello job " + kind.name, cpu, "ms", 0, 0, ""})
		}
	}
	fmt.Fprintf(os.Stderr, "walls: %s\n", strings.Join(walls, " "))
	figures = append(figures, Figure{"walls around a job", float64(len(walls)), "", float64(len(wasm.AllWalls)), 0, ""})
	flat, err := memoryFigures(ctx, jobs)
	return append(figures, flat...), err
}

// alone runs one job at a time, with rests, and gives the median in milliseconds.
func (w *worker) alone(ctx context.Context) (float64, node.Report, error) {
	var took []float64
	var last node.Report
	for range jobSamples {
		if err := w.rest(); err != nil && w.box.Reuse == 0 {
			return 0, last, err
		}
		start := time.Now()
		report, err := w.run(ctx)
		if err != nil {
			return 0, last, err
		}
		took, last = append(took, milliseconds(time.Since(start))), report
	}
	return middle(took), last, nil
}

// rush runs jobs without a rest and gives jobs per second and the processor time
// of one, of the node and its children.
func (w *worker) rush(ctx context.Context) (perSecond, cpu float64, err error) {
	before, start := processorTime(), time.Now()
	var all sync.WaitGroup
	failures := make([]error, jobWorkers)
	for i := range jobWorkers {
		all.Go(func() {
			for n := 0; n < jobRushes/jobWorkers && failures[i] == nil; n++ {
				_, failures[i] = w.run(ctx)
			}
		})
	}
	all.Wait()
	took := time.Since(start)
	return jobRushes / took.Seconds(), milliseconds(processorTime()-before) / jobRushes, errors.Join(failures...)
}

// memoryFigures runs many jobs in one used jail and compares the median of the node's
// memory, and of the jail's, over the second half with that over the first. The first
// two tenths are left out: a jail's collector lets it grow to some 25 MiB before it works
// for the first time (collectorPercent in internal/wasm), which takes some 2000 jobs.
func memoryFigures(ctx context.Context, jobs int) ([]Figure, error) {
	w, err := newWorker(ctx, 1, 2*jobs)
	if err != nil {
		return nil, err
	}
	var own, jail []float64
	for i := range jobs {
		if _, err = w.run(ctx); err != nil {
			break
		}
		if tenth := jobs / 10; (i+1)%tenth == 0 && (i+1)/tenth > 2 {
			own, jail = append(own, residentMiB("self")), append(jail, residentMiB(largestChild()))
		}
	}
	if err := errors.Join(err, w.close()); err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "memory of a used jail after each tenth of %d jobs, from the third: %.1f MiB\n", jobs, jail)
	return []Figure{grown("the node", jobs, own), grown("a used jail", jobs, jail)}, nil
}

// grown compares the halves of what was measured.
func grown(what string, jobs int, sizes []float64) Figure {
	early, late := middle(sizes[:len(sizes)/2]), middle(sizes[len(sizes)/2:])
	name := fmt.Sprintf("memory of %s over the later tenths of %d jobs, and over the earlier", what, jobs)
	return Figure{name, late, "MiB", early, late / early, "ratio <= 1.2"}
}

// jailedTrue starts /bin/true with the same namespaces and no rights, and gives the
// median time to its end in milliseconds.
func jailedTrue() (float64, error) {
	var took []float64
	for range jobSamples {
		cmd := exec.Command("/bin/true")
		cmd.Env = []string{}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if os.Geteuid() == 0 {
			cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWNS
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		}
		start := time.Now()
		if err := cmd.Run(); err != nil {
			return 0, fmt.Errorf("/bin/true in a jail: %w", err)
		}
		took = append(took, milliseconds(time.Since(start)))
	}
	return middle(took), nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// processorTime is what this process and its ended children have used.
func processorTime() time.Duration {
	var total time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var used unix.Rusage
		if unix.Getrusage(who, &used) == nil {
			total += time.Duration(used.Utime.Nano() + used.Stime.Nano())
		}
	}
	return total
}

// largestChild is the number of the child with the most memory: the used jail.
func largestChild() string {
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	var children []string
	for _, file := range tasks {
		data, _ := os.ReadFile(file)
		children = append(children, strings.Fields(string(data))...)
	}
	if len(children) == 0 {
		return ""
	}
	return slices.MaxFunc(children, func(a, b string) int { return int(residentMiB(a) - residentMiB(b)) })
}

// residentMiB reads a process's resident memory. Source: proc_pid_status(5).
func residentMiB(pid string) float64 {
	status, _ := os.ReadFile(filepath.Join("/proc", pid, "status"))
	_, rest, _ := bytes.Cut(status, []byte("VmRSS:"))
	var kib float64
	_, _ = fmt.Sscan(string(rest), &kib)
	return kib / 1024
}
