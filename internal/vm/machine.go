//go:build unix

package vm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// quitGrace is how long Quit lets QEMU close its disks before it is killed.
const quitGrace = 3 * time.Second

// Machine is a running, or ended, virtual machine. Its methods may be called
// from any goroutine.
type Machine struct {
	cmd     *exec.Cmd
	plan    plan
	probe   Probe
	powerOn time.Time
	stderr  *tailWriter

	console *console
	serial  net.Conn
	monitor *monitor
	reports chan Report

	done chan struct{} // closed when exit is set
	exit Exit
}

// Exit is how a machine ended.
type Exit struct {
	// Reason is in QEMU's words: "guest-shutdown" (powered off),
	// "guest-reset" (rebooted, or triple fault), "guest-panic",
	// "host-qmp-quit" (Quit); or "killed" (the context ended, or somebody
	// killed QEMU), or "failed" (QEMU itself).
	Reason string
	// Err is nil if QEMU ended by itself without an error.
	Err error
	// Stderr is the end of QEMU's own messages.
	Stderr string
	// At is the host clock at the end.
	At time.Time
}

// StartError says why a machine did not start.
type StartError struct {
	Command []string // QEMU and its arguments; nil if it came not so far
	Stderr  string   // the end of QEMU's messages
	Err     error
}

func (e *StartError) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("start virtual machine: %v", e.Err)
	}
	return fmt.Sprintf("start virtual machine: %v: %s", e.Err, e.Stderr)
}

func (e *StartError) Unwrap() error { return e.Err }

// Start powers a machine on. It returns when QEMU has accepted its
// configuration, or fails with *StartError. The machine ends when ctx does.
//
// With AccelAuto it first probes KVM (see ProbeKVM), which may take some
// seconds where KVM is broken; that is not part of the guest's time.
func Start(ctx context.Context, cfg Config) (*Machine, error) {
	m, err := start(ctx, cfg)
	if err == nil {
		return m, nil
	}
	var se *StartError
	if !errors.As(err, &se) {
		err = &StartError{Err: err}
	}
	return nil, err
}

func start(ctx context.Context, cfg Config) (*Machine, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	m := &Machine{
		stderr:  &tailWriter{max: 16 << 10},
		console: newConsole(),
		reports: make(chan Report, reportsWaiting),
		done:    make(chan struct{}),
	}
	m.plan, m.probe = planFor(ctx, cfg)
	cleanup, err := m.plan.prepare()
	if err != nil {
		return nil, err
	}
	if err := m.launch(ctx, cleanup); err != nil {
		return nil, err
	}
	if err := m.accepted(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// CommandLine returns QEMU's command line for a machine that a person starts: it is
// the machine of Start, but with its serial port and QEMU's monitor on the terminal
// (Ctrl-A H tells how to get from one to the other) and without report port. It
// makes Config.Vars, which must be given, and Dir if they are absent.
func CommandLine(ctx context.Context, cfg Config) ([]string, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if cfg.Dir == "" || cfg.Vars == "" || slices.ContainsFunc(cfg.Nets, func(n Net) bool { return n.Kind == NetLAN }) {
		return nil, errors.New("a machine that a person starts needs files that stay, and no LAN of another process")
	}
	p, _ := planFor(ctx, cfg)
	p.standalone = true
	if _, err := p.prepare(); err != nil {
		return nil, err
	}
	return append([]string{p.QEMU}, p.args()...), nil
}

// complete fills in defaults and finds QEMU.
func (c Config) complete() (Config, error) {
	c, err := c.withDefaults()
	if err == nil && c.QEMU == "" {
		c.QEMU, err = FindQEMU(c.Arch)
	}
	return c, err
}

// planFor chooses the accelerator.
func planFor(ctx context.Context, cfg Config) (plan, Probe) {
	if cfg.Accel != AccelAuto {
		return plan{Config: cfg, accel: cfg.Accel}, Probe{}
	}
	probe := probeFor(ctx, cfg)
	return plan{Config: cfg, accel: probe.Accel()}, probe
}

// FindQEMU returns the path of the emulator for arch, or an error that names
// the program.
func FindQEMU(arch string) (string, error) {
	name := "qemu-system-" + arch
	if arch == ARM64 {
		name = "qemu-system-aarch64"
	}
	return exec.LookPath(name)
}

// prepare makes the run's folder and the variable store. The returned
// function removes what is temporary.
func (p *plan) prepare() (cleanup func() error, err error) {
	cleanup = func() error { return nil }
	if p.Dir == "" {
		if p.Dir, err = os.MkdirTemp("", "phase-vm-"); err != nil {
			return nil, err
		}
		dir := p.Dir
		cleanup = func() error { return os.RemoveAll(dir) }
	} else if err := os.MkdirAll(p.Dir, 0o755); err != nil {
		return nil, err
	}
	if err := errors.Join(p.prepareFirmware(), p.prepareLogs()); err != nil {
		return nil, errors.Join(err, cleanup())
	}
	if p.ConsoleLog == "" {
		p.ConsoleLog = filepath.Join(p.Dir, "console.log")
	}
	return cleanup, nil
}

// prepareLogs makes the disks' write logs, empty: QEMU opens but never creates.
func (p *plan) prepareLogs() error {
	for _, d := range p.Disks {
		if d.WriteLog == "" {
			continue
		}
		if err := os.WriteFile(d.WriteLog, nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) prepareFirmware() error {
	if p.BIOS || p.Kernel != "" {
		return nil
	}
	fw := p.Firmware
	if fw == (Firmware{}) {
		var err error
		if fw, err = p.findFirmware(); err != nil {
			return err
		}
	}
	p.code, p.vars = fw.Code, p.Vars
	if p.vars == "" {
		p.vars = filepath.Join(p.Dir, "vars.fd")
	}
	if p.Vars != "" {
		if _, err := os.Stat(p.Vars); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if p.SecureBoot {
		if err := checkKeys(fw.Vars); err != nil {
			return err
		}
	}
	return copyVars(p.vars, fw.Vars)
}

func (p *plan) findFirmware() (Firmware, error) {
	if p.SecureBoot {
		return FindSecureFirmware(os.DirFS("/"), p.Arch)
	}
	return FindFirmware(p.Arch)
}

// launch starts QEMU and everything that reads from it. cleanup is called at
// the machine's end, or before launch fails.
func (m *Machine) launch(ctx context.Context, cleanup func() error) error {
	log, err := os.Create(m.plan.ConsoleLog)
	if err != nil {
		return errors.Join(err, cleanup())
	}
	lans := m.plan.lans()
	names := []string{"console", "qmp", "report"} // in the order of fdConsole …
	for range lans {
		names = append(names, "lan")
	}
	links, err := newLinks(names...)
	if err != nil {
		return errors.Join(err, log.Close(), cleanup())
	}
	m.command(links)
	m.serial, m.monitor = links[0].conn, newMonitor(links[1].conn)

	started := make(chan error, 1)
	go m.live(ctx, started, links, lans, log, cleanup)
	return <-started
}

// lans are what the cards on a LAN are plugged into, in their order.
func (p plan) lans() (lans []*LAN) {
	for _, n := range p.Nets {
		if n.Kind == NetLAN {
			lans = append(lans, n.LAN)
		}
	}
	return lans
}

func (m *Machine) command(links []link) {
	m.cmd = exec.Command(m.plan.QEMU, m.plan.args()...)
	m.cmd.Stdout, m.cmd.Stderr = m.stderr, m.stderr
	m.cmd.SysProcAttr = processAttr()
	m.cmd.WaitDelay = time.Second
	// QEMU puts the snapshots of disks where TMPDIR points.
	m.cmd.Env = append(os.Environ(), "TMPDIR="+m.plan.Dir)
	for _, l := range links {
		m.cmd.ExtraFiles = append(m.cmd.ExtraFiles, l.child)
	}
}

// live is the goroutine that owns the QEMU process from its start to its end.
func (m *Machine) live(ctx context.Context, started chan<- error, links []link, lans []*LAN, log *os.File, cleanup func() error) {
	// See processAttr: the thread must outlive QEMU.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	m.powerOn = time.Now()
	err := m.cmd.Start()
	for _, l := range links {
		_ = l.child.Close() // QEMU's copies are its own; ours would hide its end
	}
	if err != nil {
		started <- errors.Join(err, closeLinks(links), log.Close(), cleanup())
		return
	}
	var readers sync.WaitGroup
	var logErr error
	readers.Go(func() { logErr = m.console.copyFrom(links[0].conn, log, m.plan.Console) })
	readers.Go(m.monitor.read)
	readers.Go(func() { readReports(links[2].conn, m.reports) })
	for i, lan := range lans {
		readers.Go(func() { _ = lan.attachQEMU(links[fdLAN-fdConsole+i].conn) }) // ends with QEMU
	}
	stop := context.AfterFunc(ctx, func() { _ = killGroup(m.cmd.Process.Pid) })
	started <- nil

	waitErr := m.cmd.Wait()
	stop()
	readers.Wait()
	m.exit = m.exitState(ctx, waitErr)
	m.exit.Err = errors.Join(m.exit.Err, logErr, closeLinks(links), log.Close(), cleanup())
	close(m.done)
}

func (m *Machine) exitState(ctx context.Context, waitErr error) Exit {
	e := Exit{At: time.Now(), Reason: m.monitor.reason(), Stderr: m.stderr.String()}
	switch {
	case waitErr == nil:
	case killed(m.cmd.ProcessState):
		e.Reason, e.Err = "killed", waitErr
		if ctx.Err() != nil {
			e.Err = context.Cause(ctx)
		}
	default:
		e.Reason, e.Err = "failed", waitErr
	}
	return e
}

// accepted waits until QEMU's monitor answers, which it does once all devices
// exist.
func (m *Machine) accepted(ctx context.Context) error {
	select {
	case <-m.monitor.ready:
		return nil
	case <-m.done:
	}
	select {
	case <-m.monitor.ready: // a guest may well have come and gone
		return nil
	default:
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err := m.exit.Err
	if err == nil {
		err = errors.New("QEMU ended at once")
	}
	return &StartError{Command: m.cmd.Args, Stderr: m.exit.Stderr, Err: err}
}

// PowerOn is the host's clock when QEMU was started: the honest zero of the
// guest's timeline, since it includes QEMU's own start.
func (m *Machine) PowerOn() time.Time { return m.powerOn }

// PID is QEMU's process id.
func (m *Machine) PID() int { return m.cmd.Process.Pid }

// Accel is the accelerator in use, AccelKVM or AccelTCG, and why AccelAuto
// chose it (empty if it was given).
func (m *Machine) Accel() (accel, why string) { return m.plan.accel, m.probe.Reason }

// Command is QEMU's command line, for logs.
func (m *Machine) Command() []string { return append([]string(nil), m.cmd.Args...) }

// Report delivers the guest's report lines. It is closed when the machine
// ends. A receiver more than 512 lines behind loses lines.
func (m *Machine) Report() <-chan Report { return m.reports }

// Lines yields the serial console's lines, from power on (or the oldest of
// the 8192 lines kept) until the console or ctx ends.
func (m *Machine) Lines(ctx context.Context) iter.Seq[Line] { return m.console.all(ctx, 0) }

// ConsoleTail returns up to n of the console's last lines.
func (m *Machine) ConsoleTail(n int) []string { return m.console.tail(n) }

// WaitConsole returns the first console line since power on that match
// accepts, waiting for it if need be. The unfinished last line is offered too,
// so that a prompt can be awaited: the line returned may be cut short, so take
// values from Lines. If the machine ends first the error is ErrEnded, with the
// last lines in its text.
func (m *Machine) WaitConsole(ctx context.Context, match func(line string) bool) (Line, error) {
	return m.WaitConsoleAfter(ctx, Line{}, match)
}

// WaitConsoleAfter is WaitConsole for the lines after an earlier one.
func (m *Machine) WaitConsoleAfter(ctx context.Context, earlier Line, match func(line string) bool) (Line, error) {
	line, err := m.console.wait(ctx, earlier.N, match)
	if err == nil {
		return line, nil
	}
	last := strings.Join(m.console.tail(5), " | ")
	if errors.Is(err, ErrEnded) {
		e := m.Wait()
		return line, fmt.Errorf("%w (%s) %s; last console lines: %s", err, e.Reason, e.Stderr, last)
	}
	return line, fmt.Errorf("%w; last console lines: %s", err, last)
}

// SendConsole types bytes on the serial console. It fails if the guest takes
// none of them for five seconds.
func (m *Machine) SendConsole(p []byte) error {
	if err := m.serial.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return fmt.Errorf("type on the console: %w", err)
	}
	if _, err := m.serial.Write(p); err != nil {
		return fmt.Errorf("type on the console: %w", err)
	}
	return nil
}

// Screendump writes what the machine's display shows to path: a PNG if its
// name ends in .png, otherwise a PPM. The machine needs Config.Display.
func (m *Machine) Screendump(ctx context.Context, path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	arguments := map[string]string{"filename": abs, "format": "ppm"}
	if strings.HasSuffix(path, ".png") {
		arguments["format"] = "png"
	}
	return m.monitor.do(ctx, "screendump", arguments)
}

// Done is closed when the machine has ended.
func (m *Machine) Done() <-chan struct{} { return m.done }

// PressPower presses the machine's power button: a system that listens shuts down.
func (m *Machine) PressPower(ctx context.Context) error {
	return m.monitor.do(ctx, "system_powerdown", nil)
}

// Reset presses the machine's reset button.
func (m *Machine) Reset(ctx context.Context) error {
	return m.monitor.do(ctx, "system_reset", nil)
}

// Wait waits for the machine's end.
func (m *Machine) Wait() Exit {
	<-m.done
	return m.exit
}

// Quit pulls the plug: QEMU is asked to end and, if it has not after three
// seconds or when ctx ends, killed with all its children. The machine has
// ended when Quit returns.
func (m *Machine) Quit(ctx context.Context) Exit {
	ctx, cancel := context.WithTimeout(ctx, quitGrace)
	defer cancel()
	// An error means that there is no answer; what follows handles that too.
	_ = m.monitor.do(ctx, "quit", nil)
	select {
	case <-m.done:
	case <-ctx.Done():
		_ = killGroup(m.PID())
	}
	return m.Wait()
}

// tailWriter keeps the last max bytes written.
type tailWriter struct {
	max int

	mu  sync.Mutex
	buf []byte
}

func (w *tailWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf, p[max(0, len(p)-w.max):]...)
	w.buf = w.buf[max(0, len(w.buf)-w.max):]
	return len(p), nil
}

// String returns the kept bytes as one line of text, without QEMU's dozen
// warnings that a processor model has features which cannot be emulated: the
// guest is told so too, and they would bury the one message that matters.
func (w *tailWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []string
	c := cleaner{emit: func(s string) {
		if !strings.Contains(s, "support requested feature") {
			lines = append(lines, s)
		}
	}}
	c.write(w.buf)
	c.end()
	return strings.Join(lines, "; ")
}
