package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/vm"
)

// vmResult is what --until prints with --format json.
type vmResult struct {
	OK       bool       `json:"ok"`
	Until    string     `json:"until"`
	Machines []vmWalked `json:"machines"`
}

// vmWalked is how far one machine came.
type vmWalked struct {
	Name       string          `json:"name"`
	OK         bool            `json:"ok"`
	Accel      string          `json:"accel,omitempty"`
	ElapsedMS  int64           `json:"elapsed_ms"` // power-on to the last event
	Timeline   []lab.Stage     `json:"timeline"`   // times in nanoseconds since power-on
	Node       *lab.NodeInfo   `json:"node,omitempty"`
	Receipt    json.RawMessage `json:"receipt,omitempty"` // the envelope, verified with the node's key
	Failure    *lab.Failure    `json:"failure,omitempty"` // what the machine said when it stopped
	Error      string          `json:"error,omitempty"`
	LastLines  []string        `json:"last_lines,omitempty"` // of the console, where it failed
	ConsoleLog string          `json:"console_log"`
}

// hintedVM adds what to do to errors of starting that do not say it themselves.
func hintedVM(err error) error {
	if errors.Is(err, vm.ErrNoKeys) {
		return &hintedError{err, "Give a file of variables with keys (--vars), or install a firmware that comes with them: Debian's ovmf, Fedora's edk2-ovmf."}
	}
	return err
}

// hintedError is an error with what to do about it.
type hintedError struct {
	error
	hint string
}

func (e *hintedError) Unwrap() error { return e.error }

// Hint says what to do.
func (e *hintedError) Hint() string { return e.hint }

// start powers a machine on and says on standard error what it is.
func (r *vmRun) start(ctx context.Context, name string, cfg vm.Config) (*vm.Machine, error) {
	m, err := vm.Start(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", name, hintedVM(err))
	}
	accel, why := m.Accel()
	if accel == vm.AccelTCG {
		accel = "emulated"
	}
	if why != "" {
		accel += " (" + term.Clean(why) + ")"
	}
	secure := ""
	if cfg.SecureBoot {
		secure = ", Secure Boot"
	}
	writes := "what it writes to the medium is forgotten"
	if r.keep {
		writes = "it writes to the medium"
	}
	r.note("%s: %s%s, %s; %s", name, cfg.Arch, secure, accel, writes)
	if address := vncAddress(cfg.Window); address != "" {
		r.note("%s: screen for VNC viewers at %s, for every user of this computer", name, address)
	}
	for _, n := range cfg.Nets {
		for _, f := range n.Forwards {
			r.note("%s: %v leads to its port %d", name, f.Host, f.Guest)
		}
	}
	return m, nil
}

// note writes a line of ours. On a raw terminal a line needs its own return.
func (r *vmRun) note(format string, args ...any) {
	end := "\n"
	if r.raw {
		end = "\r\n"
	}
	fmt.Fprintf(os.Stderr, "phase: "+format+end, args...)
}

// attend gives a machine to the person at the terminal.
func (r *vmRun) attend(ctx context.Context, name string, cfg vm.Config) error {
	terminal, err := newRawTerminal(os.Stdin, os.Stdout)
	if err != nil {
		return err
	}
	r.raw = true
	restore := func() error { r.raw = false; return terminal.restore() }
	defer restore() // a panic's words are readable, too
	cfg.Console = terminal.filter
	m, err := r.start(ctx, name, cfg)
	if err != nil {
		return errors.Join(err, restore())
	}
	r.note("%s", keysHelp)
	following, stop := context.WithCancel(ctx)
	var outcome *lab.Outcome
	var follower sync.WaitGroup
	follower.Go(func() { outcome, _ = lab.Follow(following, m, lab.ReceiptDelivered) }) // its outcome is valid with every error
	go terminal.serve(ctx, m)
	exit := m.Wait()
	stop()
	follower.Wait()
	if err := restore(); err != nil {
		return err
	}
	err = r.farewell(name, exit)
	showWalk(newConsole(os.Stderr), outcome)
	return err
}

// farewell says how a machine ended, and fails if nobody wanted that.
func (r *vmRun) farewell(name string, exit vm.Exit) error {
	words := map[string]string{
		"guest-shutdown": "switched itself off", "host-qmp-quit": "was switched off", "killed": "was ended", "guest-panic": "stopped with a panic",
	}[exit.Reason]
	if words == "" {
		words = "ended (" + term.Clean(exit.Reason) + ")"
	}
	r.note("%s %s", name, words)
	if exit.Reason == "failed" {
		return fmt.Errorf("machine %s: QEMU failed: %w: %s", name, exit.Err, exit.Stderr)
	}
	return nil
}

// watch shows the consoles of machines line by line until all have ended.
func (r *vmRun) watch(ctx context.Context, names []string, cfgs []vm.Config) error {
	var all sync.WaitGroup
	errs := make([]error, len(cfgs))
	printer := newLinePrinter(os.Stdout, names)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for i, cfg := range cfgs {
		m, err := r.start(ctx, names[i], cfg)
		if err != nil {
			cancel(err)
			errs[i] = err
			break
		}
		all.Go(func() {
			for line := range m.Lines(context.WithoutCancel(ctx)) {
				printer.print(i, line.Text)
			}
			errs[i] = r.farewell(names[i], m.Wait())
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// linePrinter shows lines of several machines, each with the machine's name if
// there are several.
type linePrinter struct {
	out   *os.File
	names []string
	mu    sync.Mutex
}

func newLinePrinter(out *os.File, names []string) *linePrinter {
	width := 0
	for _, name := range names {
		width = max(width, len(name))
	}
	p := &linePrinter{out: out, names: make([]string, len(names))}
	for i, name := range names {
		if len(names) > 1 {
			p.names[i] = fmt.Sprintf("%-*s | ", width, name)
		}
	}
	return p
}

func (p *linePrinter) print(machine int, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "%s%s\n", p.names[machine], text)
}

// follow waits until the machines have come as far as --until, and prints how.
func (r *vmRun) follow(ctx context.Context, names []string, cfgs []vm.Config) error {
	walked := make([]*walked, len(cfgs))
	printer := newLinePrinter(os.Stderr, names)
	var all sync.WaitGroup
	defer all.Wait()
	on, off := context.WithCancel(ctx) // machines stay on for each other until all have come so far
	defer off()
	for i := range cfgs {
		w := newWalked(names[i], cfgs[i])
		walked[i] = w
		if r.inTurn && i < len(cfgs)-1 {
			w.others = append(w.others, lab.Offered)
		}
		all.Go(func() { w.run(on, r, printer, i) })
		if r.inTurn {
			<-w.arrived
		}
		if r.inTurn && w.err != nil {
			break
		}
	}
	for _, w := range walked {
		if w != nil {
			<-w.arrived
		}
	}
	off()
	all.Wait()
	return r.conclude(walked)
}

// walked is one machine that is followed.
type walked struct {
	name    string
	cfg     vm.Config
	others  []lab.LastWord // beside --until
	arrived chan struct{}  // closed when the rest is known

	outcome *lab.Outcome // nil: it did not start
	last    []string
	err     error
}

func newWalked(name string, cfg vm.Config) *walked {
	return &walked{name: name, cfg: cfg, arrived: make(chan struct{})}
}

// run follows a machine, then leaves it on until ctx ends.
func (w *walked) run(ctx context.Context, r *vmRun, printer *linePrinter, index int) {
	m, err := r.start(ctx, w.name, w.cfg)
	if err != nil {
		w.err = err
		close(w.arrived)
		return
	}
	var shown sync.WaitGroup
	shown.Go(func() {
		for line := range m.Lines(context.WithoutCancel(ctx)) {
			if speaks(line.Text) {
				printer.print(index, line.Text)
			}
		}
	})
	following, cancel := context.WithTimeout(ctx, r.timeout)
	w.outcome, w.err = lab.Follow(following, m, untils[r.until], w.others...)
	cancel()
	w.judge(r.until)
	settle(m)
	w.last = m.ConsoleTail(20)
	close(w.arrived)
	select {
	case <-ctx.Done():
	case <-m.Done():
	}
	m.Quit(context.WithoutCancel(ctx))
	shown.Wait()
}

// judge makes a machine that stopped an error, and verifies its receipt.
func (w *walked) judge(until string) {
	switch failure := w.outcome.Failure; {
	case w.err != nil:
		w.err = fmt.Errorf("machine %s: %w", w.name, w.err)
	case failure != nil:
		w.err = fmt.Errorf("machine %s stopped in stage %s: %s (%s)", w.name, term.Clean(failure.Stage), term.Clean(failure.Text), term.Clean(failure.Code))
	case until == "receipt" || until == "delivered":
		if err := w.outcome.VerifyShown(); err != nil {
			w.err = fmt.Errorf("machine %s: %w", w.name, err)
		}
	}
}

// conclude prints the result; it fails if a machine has not come so far.
func (r *vmRun) conclude(all []*walked) error {
	result := vmResult{OK: true, Until: r.until}
	var errs []error
	for _, w := range all {
		if w == nil { // its turn never came
			result.OK = false
			continue
		}
		result.OK = result.OK && w.err == nil
		result.Machines = append(result.Machines, w.result())
		errs = append(errs, w.err)
	}
	if r.format == "json" {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return errors.Join(append(errs, encoder.Encode(result))...)
	}
	out := newConsole(os.Stdout)
	for _, w := range all {
		if w == nil {
			continue
		}
		if len(all) > 1 {
			out.Title("Machine " + w.name)
		}
		showWalk(out, w.outcome)
		if w.err == nil {
			out.Title(fmt.Sprintf("%s reached %s in %.1f s", w.name, r.until, w.outcome.Elapsed.Seconds()))
		}
		r.note("%s: the console's log is %s", w.name, filepath.Join(w.cfg.Dir, "console.log"))
	}
	return errors.Join(errs...)
}

func (w *walked) result() vmWalked {
	res := vmWalked{Name: w.name, OK: w.err == nil, Timeline: []lab.Stage{}, ConsoleLog: filepath.Join(w.cfg.Dir, "console.log")}
	if w.err != nil {
		res.Error, res.LastLines = w.err.Error(), w.last
	}
	if o := w.outcome; o != nil {
		res.Accel, res.ElapsedMS, res.Timeline = o.Accel, o.Elapsed.Milliseconds(), append(res.Timeline, o.Stages...)
		res.Node, res.Failure = o.Node, o.Failure
		if o.Receipt != nil {
			res.Receipt = o.Receipt.Raw
		}
	}
	return res
}

// showWalk prints a machine's timeline and receipt, as far as it came.
func showWalk(out *term.Console, outcome *lab.Outcome) {
	if outcome == nil || len(outcome.Stages) == 0 {
		return
	}
	out.Title("Timeline, from power-on")
	var rows []term.Row
	for _, s := range outcome.Stages {
		rows = append(rows, term.Row{Name: s.Name, Group: s.Kernel, Start: s.Start, Took: s.End - s.Start})
	}
	out.Timeline(rows)
	if outcome.Receipt == nil {
		return
	}
	result, seen := outcome.Receipt.Statement.Result, outcome.Receipt.Statement.Observation
	pairs := []term.Pair{{Key: "node key", Value: lab.KeyText(seen.NodeKey)}}
	if b := seen.Booted; b != nil {
		pairs = append(pairs, term.Pair{Key: "booted", Value: fmt.Sprintf("release %d, manifest %s", b.ManifestVersion, b.ManifestDigest)})
	}
	out.Title("Receipt, verified against the node's own key")
	out.Pairs(append(pairs, term.Pair{Key: "job", Value: result.JobID.String()}, term.Pair{Key: "stdout", Value: result.Stdout.Digest.String()},
		term.Pair{Key: "end", Value: fmt.Sprintf("%s, code %d", result.EndState, result.ExitCode)}))
}
