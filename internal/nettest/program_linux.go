package nettest

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// maxLines of a program's log are kept for Await; it is told to the test anyway.
const maxLines = 10000

// A Program runs on a host until the test ends.
type Program struct {
	h     *Host
	name  string
	cmd   *exec.Cmd
	lines chan string
	read  chan struct{} // closed when its output has ended
}

// Start runs a program until the test ends and returns when it says ready in a
// line of its output; at once if ready is "".
func (h *Host) Start(ready string, args ...string) *Program {
	h.t.Helper()
	path, err := find(args[0])
	Check(h.t, err)
	return h.StartCommand(ready, exec.Command(path, args[1:]...))
}

// StartCommand is Start for a prepared program, whose output it takes.
func (h *Host) StartCommand(ready string, cmd *exec.Cmd) *Program {
	h.t.Helper()
	p := &Program{h: h, name: filepath.Base(cmd.Path), cmd: cmd, lines: make(chan string, maxLines), read: make(chan struct{})}
	r, w, err := os.Pipe()
	Check(h.t, err)
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // however this process ends
	h.Do(func() { err = cmd.Start() })
	w.Close()
	Check(h.t, err)
	go p.follow(r)
	h.t.Cleanup(func() { p.Stop(); r.Close(); <-p.read })
	if ready != "" {
		p.Await(ready)
	}
	return p
}

func (p *Program) follow(r io.Reader) {
	defer close(p.read)
	defer close(p.lines)
	for sc := bufio.NewScanner(r); sc.Scan(); {
		p.h.t.Logf("%s %s: %s", p.h.Name, p.name, sc.Text())
		select {
		case p.lines <- sc.Text():
		default:
		}
	}
}

// Await returns the next line of its output that has the text in it. Lines before
// that one are passed over for good.
func (p *Program) Await(text string) string {
	p.h.t.Helper()
	deadline := time.After(Limit)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.h.t.Fatalf("%s ended without %q", p.name, text)
			}
			if strings.Contains(line, text) {
				return line
			}
		case <-deadline:
			p.h.t.Fatalf("%s does not say %q", p.name, text)
		}
	}
}

// Stop asks the program to end, and waits until it has; one that does not is
// killed. It may be called again.
func (p *Program) Stop() {
	if p.cmd.ProcessState != nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	kill := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	_ = p.cmd.Wait() // how it ended matters to nobody
}

// Dnsmasq starts dnsmasq for DHCP and router advertisements on a device; it
// answers no DNS unless the arguments say --port=53.
func (h *Host) Dnsmasq(device string, args ...string) *Program {
	h.t.Helper()
	base := []string{
		"--no-daemon", "--log-facility=-", "--log-dhcp", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--pid-file=",
		"--interface=" + device, "--bind-interfaces", "--leasefile-ro", "--no-ping", "--dhcp-authoritative",
	}
	if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--port=") }) {
		base = append(base, "--port=0")
	}
	return h.Start("started", append(append([]string{"dnsmasq"}, base...), args...)...)
}
