package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// startup is how long a target may take beyond its time, to read its
	// inputs and to minimise what it found.
	startup = time.Minute

	// minimise is how often an input is tried to be made smaller. Go's default
	// is a minute, for any input that reaches new code: a target that takes
	// long strings would do nothing else in a short run (measured: 3 inputs in
	// 4 s, against 19,000 with this).
	minimise = "10x"
)

// outcome is what became of one target.
type outcome struct {
	target
	execs, interesting int
	took               time.Duration
	err                error  // nil: nothing was found
	failing            string // path of the input that failed, "" if none
	output             string // of a target that failed
}

// run fuzzes all targets and prints a line for each as it ends.
func run(ctx context.Context, cfg config, out io.Writer) error {
	start := time.Now()
	targets, err := findTargets(ctx, cfg.dir)
	if err != nil {
		return err
	}
	groups := byPackage(targets, cfg)
	if len(groups) == 0 {
		return fmt.Errorf("no target matches %s", cfg.match)
	}
	r := &runner{cfg: cfg, results: make(chan outcome)}
	if r.bin, err = os.MkdirTemp("", "phase-fuzz-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.bin)
	r.cache = r.bin
	if cfg.keep {
		if r.cache, err = goEnv(ctx, cfg.dir, "GOCACHE"); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.limit(len(targets)))
	defer cancel()
	go r.all(ctx, groups)
	return r.show(out, groups, start)
}

// limit is the time for everything.
func (c config) limit(targets int) time.Duration {
	if c.total > 0 {
		return c.total
	}
	return max(5*time.Minute, 2*c.time*time.Duration(targets)/time.Duration(c.jobs)+3*time.Minute)
}

func goEnv(ctx context.Context, dir, name string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", name)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// runner holds what all targets of one run share.
type runner struct {
	cfg     config
	bin     string // folder of the test programs
	cache   string // interesting inputs go below its folder fuzz
	results chan outcome
}

// job is one target, and the program that holds it.
type job struct {
	target
	program string
	err     error // the program could not be built
}

// all builds package after package while the targets of earlier ones run, and
// closes results at the end.
func (r *runner) all(ctx context.Context, groups [][]target) {
	jobs := make(chan job)
	var workers sync.WaitGroup
	for range r.cfg.jobs {
		workers.Go(func() {
			for j := range jobs {
				r.results <- r.fuzz(ctx, j)
			}
		})
	}
	for i, group := range groups {
		program := filepath.Join(r.bin, strconv.Itoa(i)+".test")
		err := build(ctx, group[0], program)
		for _, t := range group {
			jobs <- job{t, program, err}
		}
	}
	close(jobs)
	workers.Wait()
	close(r.results)
}

// build compiles the tests of a package with coverage instrumentation, which
// is what -fuzz beside -c asks for.
func build(ctx context.Context, t target, program string) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-fuzz=.", "-o", program, ".")
	cmd.Dir = t.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// patience is how much longer a target gets that did not come to try anything
// new: a busy machine may spend the whole time on the inputs that are there.
const patience = 5

// fuzz runs one target for its time.
func (r *runner) fuzz(ctx context.Context, j job) outcome {
	if j.err != nil {
		return outcome{target: j.target, err: j.err}
	}
	o := r.try(ctx, j, r.cfg.time)
	if o.err == nil && o.execs == 0 {
		o = r.try(ctx, j, patience*r.cfg.time)
	}
	if o.err == nil && o.execs == 0 {
		o.err = errors.New("tried no input")
	}
	if o.err == nil {
		o.output = ""
	}
	return o
}

func (r *runner) try(ctx context.Context, j job, limit time.Duration) outcome {
	ctx, cancel := context.WithTimeout(ctx, limit+startup)
	defer cancel()
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, j.program, "-test.run=^$", "-test.fuzz=^"+j.Name+"$",
		"-test.fuzztime="+limit.String(), "-test.parallel=1", "-test.fuzzminimizetime="+minimise,
		"-test.fuzzcachedir="+filepath.Join(r.cache, "fuzz", filepath.FromSlash(j.Package)))
	cmd.Dir, cmd.Stdout, cmd.Stderr = j.Dir, &output, &output
	cmd.WaitDelay = 5 * time.Second // its workers hold the pipes a little longer
	start := time.Now()
	err := cmd.Run()
	o := outcome{target: j.target, took: time.Since(start), output: output.String()}
	o.read(o.output)
	switch {
	case ctx.Err() != nil:
		o.err = errors.New("did not end in time")
	case o.failing != "":
		o.err = errors.New("found a failing input")
	case err != nil && !endedLate(o.output):
		o.err = err
	}
	return o
}

// endedLate reports whether a target failed only because it was still working
// when its time was over: a race in Go's fuzzing engine before Go 1.27
// (golang/go issue 75804). Whatever was found would have left a failing input.
func endedLate(output string) bool { return late.MatchString(output) }

var (
	late     = regexp.MustCompile(`\n--- FAIL: Fuzz\w+ \(\S+\)\n {4}context deadline exceeded\nFAIL\n$`)
	progress = regexp.MustCompile(`(?m)^fuzz: .*execs: (\d+) .*new interesting: (\d+)`)
	crash    = regexp.MustCompile(`(?m)^\s*Failing input written to (\S+)`)
)

// read takes the numbers of the last line of progress, and the failing input.
func (o *outcome) read(output string) {
	if lines := progress.FindAllStringSubmatch(output, -1); len(lines) > 0 {
		last := lines[len(lines)-1]
		o.execs, _ = strconv.Atoi(last[1]) // digits only
		o.interesting, _ = strconv.Atoi(last[2])
	}
	if m := crash.FindStringSubmatch(output); m != nil {
		o.failing = filepath.Join(o.Dir, filepath.FromSlash(m[1]))
	}
}
