package wifi

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"sync"
)

// process is a running wpa_supplicant.
type process struct {
	ended chan struct{} // closed when it has
	err   error         // how; valid then
	kill  func()        // ends it by force; once it has ended it does nothing
}

// launch starts the program by what the configuration says.
func launch(start Starter, path string, args []string) (*process, error) {
	if start == nil {
		start = execute
	}
	wait, kill, err := start(path, args)
	if err != nil {
		return nil, err
	}
	p := &process{ended: make(chan struct{}), kill: kill}
	go func() {
		defer close(p.ended)
		if p.err = wait(); p.err == nil {
			p.err = fmt.Errorf("it ended by itself")
		}
	}()
	return p, nil
}

// execute is the Starter of programs that are not process 1.
func execute(path string, args []string) (wait func() error, kill func(), err error) {
	said := &tail{}
	cmd := exec.Command(path, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	wait = func() error {
		err := cmd.Wait()
		if words := said.last(); words != "" {
			return fmt.Errorf("%w: %s", orEnded(err), words)
		}
		return err
	}
	return wait, func() { _ = cmd.Process.Kill() }, nil
}

func orEnded(err error) error {
	if err == nil {
		return fmt.Errorf("it ended by itself")
	}
	return err
}

// tail keeps the end of what a program prints. wpa_supplicant prints no keys
// unless it is told to (-K), and names of networks escaped.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const maxTail = 2048

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p[max(0, len(p)-maxTail):]...)
	t.b = t.b[max(0, len(t.b)-maxTail):]
	return len(p), nil
}

// last is the last line but the farewell, fit for an error.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(t.b), []byte("\n"))
	for i := len(lines) - 1; i >= 0; i-- {
		line := string(lines[i][:min(len(lines[i]), 200)])
		if line != "" && !strings.Contains(line, "CTRL-EVENT-") {
			return Show(line)
		}
	}
	return ""
}
