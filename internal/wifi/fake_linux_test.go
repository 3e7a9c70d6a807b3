package wifi

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// fake is a control socket that behaves as wpa_supplicant does, as far as a test
// does not change it.
type fake struct {
	t    *testing.T
	dir  string
	args []string // of the last start

	// Tests set these before Run.
	air     string                                       // answer to BSS
	joined  func(f *fake, id int)                        // what SELECT_NETWORK leads to
	answer  func(f *fake, command string) (string, bool) // overrides answers
	startIt func(f *fake) error                          // overrides a start
	hangs   bool                                         // does not end when told to

	mu       sync.Mutex
	conn     *net.UnixConn
	ended    chan error
	monitors []*net.UnixAddr
	networks map[int]map[string]string
	enabled  map[int]bool
	commands []string
	next     int
	starts   int
	kills    int
}

// newFake returns a supplicant with a fake behind it. Events come on the channel.
func newFake(t *testing.T, cfg Config) (*fake, *Supplicant, chan Event) {
	t.Helper()
	f := &fake{t: t, dir: filepath.Join(t.TempDir(), "run")}
	events := make(chan Event, 100)
	cfg.Interface, cfg.RunDir, cfg.Start = "wlan0", f.dir, f.start
	cfg.Report = func(e Event) { events <- e }
	return f, New(cfg), events
}

func (f *fake) start(path string, args []string) (wait func() error, kill func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.args, f.starts = append([]string{path}, args...), f.starts+1
	if f.startIt != nil {
		if err := f.startIt(f); err != nil {
			return nil, nil, err
		}
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(f.dir, "wlan0"), Net: "unixgram"})
	if err != nil {
		return nil, nil, err
	}
	ended := make(chan error, 1)
	f.conn, f.ended, f.monitors = conn, ended, nil
	f.networks, f.enabled, f.next = map[int]map[string]string{}, map[int]bool{}, 0
	go f.serve(conn)
	return func() error { return <-ended }, f.kill, nil
}

// kill is die, and counted.
func (f *fake) kill() {
	f.mu.Lock()
	f.kills++
	f.mu.Unlock()
	f.die()
}

// die ends the program without a word.
func (f *fake) die() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conn.Close()
	select {
	case f.ended <- errors.New("exit status 1"):
	default:
	}
}

func (f *fake) serve(conn *net.UnixConn) {
	buf := make([]byte, 8192)
	for {
		n, from, err := conn.ReadFromUnix(buf)
		if err != nil {
			return
		}
		command := string(buf[:n])
		f.mu.Lock()
		f.commands = append(f.commands, command)
		answer, done := "", false
		if f.answer != nil {
			answer, done = f.answer(f, command)
		}
		if !done {
			answer = f.obey(command, from)
		}
		f.mu.Unlock()
		if answer != "" {
			_, _ = conn.WriteToUnix([]byte(answer), from)
		}
		if command == "TERMINATE" && !f.hangs {
			f.die()
		}
	}
}

// obey changes what the command says and answers.
func (f *fake) obey(command string, from *net.UnixAddr) string {
	words := strings.SplitN(command, " ", 4)
	id := -1
	if len(words) > 1 {
		id, _ = strconv.Atoi(words[1])
	}
	switch words[0] {
	case "PING":
		return "PONG\n"
	case "ATTACH":
		f.monitors = append(f.monitors, from)
	case "ADD_NETWORK":
		f.networks[f.next] = map[string]string{}
		f.next++
		return fmt.Sprintf("%d\n", f.next-1)
	case "SET_NETWORK":
		f.networks[id][words[2]] = words[3]
	case "REMOVE_NETWORK":
		delete(f.networks, id)
		delete(f.enabled, id)
	case "ENABLE_NETWORK":
		f.enabled[id] = true
	case "SELECT_NETWORK":
		f.enabled = map[int]bool{id: true}
		if f.joined != nil {
			go f.joined(f, id)
		}
	case "SCAN":
		go f.event("CTRL-EVENT-SCAN-STARTED ", "CTRL-EVENT-SCAN-RESULTS ")
	case "STATUS":
		return "wpa_state=COMPLETED\nssid=a\\xff\\\"\nid=0\nkey_mgmt=SAE\nfreq=2412\naddress=02:00:00:00:00:01\n"
	}
	if words[0] == "BSS" {
		return f.air
	}
	return "OK\n"
}

// event tells all monitors.
func (f *fake) event(lines ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, line := range lines {
		for _, m := range f.monitors {
			_, _ = f.conn.WriteToUnix([]byte("<3>"+line), m)
		}
	}
}

// said returns the commands so far that begin with a word.
func (f *fake) said(verb string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for _, c := range f.commands {
		if strings.HasPrefix(c, verb) {
			list = append(list, c)
		}
	}
	return list
}

// state returns copies of what the fake was told.
func (f *fake) state() (networks map[int]map[string]string, enabled map[int]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	networks, enabled = map[int]map[string]string{}, map[int]bool{}
	for id, n := range f.networks {
		networks[id] = map[string]string{}
		for k, v := range n {
			networks[id][k] = v
		}
		enabled[id] = f.enabled[id]
	}
	return networks, enabled
}

// files reads everything below the run folder that can be read.
func (f *fake) files() string {
	var all strings.Builder
	entries, _ := os.ReadDir(f.dir)
	for _, e := range entries {
		if e.Type().IsRegular() {
			data, _ := os.ReadFile(filepath.Join(f.dir, e.Name()))
			all.Write(data)
		}
	}
	return all.String()
}
