package translog

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/durable"
)

// childVariable, in the environment, makes this test binary a process that
// adds entries to the log in that folder until it is killed.
const childVariable = "PHASE_TRANSLOG_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if err := addForEver(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// addForEver announces every entry before and after it is added.
func addForEver(dir string) error {
	l, err := Open(Config{Dir: dir, Key: testKey("log"), Memory: dir + ".memory"})
	if err != nil {
		return err
	}
	for next := l.Reader().Checkpoint().Size; ; {
		// Widths at which bundles and tiles begin, end and straddle.
		count := []int64{1, 1, 3, 100, 256, 300}[next%6]
		if _, err := l.Add(raws(numbered(int(next), int(next+count)))...); err != nil {
			return err
		}
		next += count
		fmt.Println(next)
	}
}

// TestKill ends the process at any moment, again and again, and demands one
// log that keeps every entry whose addition was reported, every checkpoint
// that was ever published continuing the one before.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for some seconds")
	}
	dir := filepath.Join(t.TempDir(), "log")
	config := Config{Dir: dir, Key: testKey("log"), Memory: dir + ".memory"}
	if err := Create(config, testOrigin); err != nil {
		t.Fatal(err)
	}
	monitor := Memory{Path: filepath.Join(t.TempDir(), "monitor"), Log: logKey(t), First: true}
	const kills = 30
	random := rand.New(rand.NewPCG(1, 2))
	interrupted := 0
	for range kills {
		reported := killAfter(t, dir, time.Duration(random.IntN(12000))*time.Microsecond)
		if _, err := os.Stat(filepath.Join(dir, pendingName)); err == nil {
			interrupted++
		}
		// What is published at this moment already continues what was.
		r, err := monitor.Observe(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		monitor.First = false
		if r.tree.Size < reported {
			t.Fatalf("%d entries were reported, %d are in the log", reported, r.tree.Size)
		}
	}
	l := open(t, config)
	size := l.Reader().Checkpoint().Size
	check(t, dir, numbered(0, int(size)))
	if _, err := monitor.Observe(dir, nil); err != nil {
		t.Error(err)
	}
	t.Logf("%d entries, %d of %d kills interrupted an addition", size, interrupted, kills)
	if interrupted == 0 {
		t.Error("no kill interrupted an addition: this test shows nothing")
	}
}

// killAfter runs a child for d after its first report, or from its start, and
// returns the size that it reported last.
func killAfter(t *testing.T, dir string, d time.Duration) (reported int64) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childVariable+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("the child stopped: %s", stderr.String())
	}
	timer := time.AfterFunc(d, func() { cmd.Process.Kill() })
	defer timer.Stop()
	for last := lines.Text(); ; last = lines.Text() {
		fmt.Sscan(last, &reported)
		if !lines.Scan() {
			break
		}
	}
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait() // killed
	if text := stderr.String(); text != "" {
		t.Fatalf("the child failed: %s", text)
	}
	return reported
}

// TestEveryStop carries out the first n steps of an addition, for every n, and
// tears the next one in the ways a write can be torn. From there the log must
// continue to the same tree.
func TestEveryStop(t *testing.T) {
	for _, sizes := range [][2]int{{0, 1}, {3, 5}, {255, 257}, {250, 513}} {
		base, after := numbered(0, sizes[0]), numbered(0, sizes[1])
		start := started(t)
		if len(base) > 0 {
			add(t, start, base...)
		}
		for n := 0; ; n++ {
			if stopAfter(t, start, after, n, nil) {
				if n < 6 {
					t.Errorf("%v: only %d steps", sizes, n)
				}
				break
			}
			stopAfter(t, start, after, n, func(s step) { leaveTemporary(t, s) })
		}
	}
}

// stopAfter copies the log, carries out n steps of adding what after has
// more, then tears, and continues. done says that there are no more steps.
func stopAfter(t *testing.T, start Config, after []string, n int, tear func(step)) (done bool) {
	t.Helper()
	config := start
	config.Dir = copyDir(t, start.Dir)
	config.Memory = config.Dir + ".memory"
	memory, err := os.ReadFile(start.Memory)
	if err != nil {
		t.Fatal(err)
	}
	put(t, config.Memory, string(memory))
	l, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	old := l.Reader()
	p, err := l.plan(raws(after[old.tree.Size:]))
	if err != nil {
		t.Fatal(err)
	}
	done = n >= len(p.steps)
	n = min(n, len(p.steps))
	if err := l.carryOut(p.steps[:n]); err != nil {
		t.Fatal(err)
	}
	if tear != nil && !done {
		tear(p.steps[n])
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	// What is published in this state is the old log or the new one, whole.
	published := read(t, config.Dir)
	if size := published.tree.Size; size != old.tree.Size && size != p.reader.tree.Size {
		t.Fatalf("after %d steps the checkpoint has %d entries", n, size)
	}
	for i := range published.tree.Size {
		if i != 0 && i != published.tree.Size-1 {
			continue
		}
		if entry, err := published.Entry(i); err != nil || string(entry) != after[i] {
			t.Fatalf("after %d steps entry %d cannot be read: %v", n, i, err)
		}
	}

	// Another process adds something else: first what was begun is finished.
	again := open(t, config)
	switch size := again.Reader().tree.Size; {
	case n > 0 && size != int64(len(after)):
		t.Fatalf("after %d steps: %d entries, want %d", n, size, len(after))
	case n == 0 && size != old.tree.Size:
		t.Fatalf("before the first step: %d entries", size)
	}
	if _, err := again.Add(raws(append(after[old.tree.Size:len(after):len(after)], "one more"))...); err != nil {
		t.Fatalf("after %d steps: %v", n, err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	check(t, config.Dir, append(after[:len(after):len(after)], "one more"))
	if err := read(t, config.Dir).consistent(published.tree); err != nil {
		t.Fatal(err)
	}
	return done
}

// leaveTemporary is the state in the middle of a step: the temporary file of a
// write, half of it, or some of the files that were to be removed.
func leaveTemporary(t *testing.T, s step) {
	t.Helper()
	if s.data == nil {
		if files, err := os.ReadDir(s.path); err == nil && len(files) > 0 {
			remove(t, filepath.Join(s.path, files[0].Name()))
		}
		return
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(filepath.Dir(s.path), durable.TempPrefix+"1"), string(s.data[:len(s.data)/2]))
}

// TestPendingForms: a damaged plan is refused whatever the damage.
func TestPendingForms(t *testing.T) {
	config := started(t)
	l := open(t, config)
	p, err := l.plan(raws([]string{"a", "b"}))
	if err != nil {
		t.Fatal(err)
	}
	good := string(p.steps[0].data)
	if _, err := parsePending([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":        "",
		"header":       strings.Replace(good, "v1", "v2", 1),
		"size":         strings.Replace(good, "\n0 ", "\nx ", 1),
		"sizes":        strings.Replace(good, "\n2 ", "\n3 ", 1),
		"negative":     strings.Replace(good, "\n0 ", "\n-1 ", 1),
		"root":         strings.Replace(good, "= ", "", 1),
		"cut short":    good[:len(good)-1],
		"longer":       good + "x",
		"other entry":  good[:len(good)-1] + "c",
		"without body": good[:strings.Index(good, "\n\n")],
	} {
		if text == good {
			if name == "root" {
				text = strings.Replace(good, "=\n", "\n", 1)
			} else {
				t.Fatalf("%s: nothing was changed", name)
			}
		}
		if _, err := parsePending([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
