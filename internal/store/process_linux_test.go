package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/nettest"
)

const roleVar = "STORE_TEST_ROLE"

// TestMain lets this program play the parts of other processes.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		runtime.LockOSThread() // strace counts the system calls of each thread
		if err := roles[role](os.Args[1:]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var roles = map[string]func(args []string) error{"live": live, "once": once, "first": first}

// child returns the command that plays a role.
func child(role string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// The blobs of these tests: as many as would never fit under the limit.
const (
	universe  = 96
	testLimit = 1 << 20
	testChunk = 4 << 10
	goods     = 8 // the first ones are the last good release
	slots     = 4 // processes at a time
)

// content is the nth blob, of up to 32 KiB.
func content(n int) ([]byte, blob.Digest) {
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), 1})
	data := make([]byte, 1+r.Uint64()%(32<<10))
	_, _ = r.Read(data)
	return data, blob.Of(data)
}

// A life is a process that does all that a store can do, until it is killed.
type life struct {
	s    *Store
	pin  string
	rand *rand.Rand
}

// live has the arguments dir, slot and a seed.
func live(args []string) error {
	slot, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	seed, err := strconv.ParseUint(args[2], 10, 64)
	if err != nil {
		return err
	}
	l := &life{pin: "slot-" + args[1], rand: rand.New(rand.NewPCG(seed, 1))}
	limit := Limit{Bytes: testLimit + int64(slot)<<10}
	if l.s, err = OpenLimited(args[0], limit); err != nil {
		return err
	}
	fmt.Println("ready")
	deeds := []func() error{l.put, l.put, l.resume, l.resume, l.resume, l.protect, l.read, l.read, l.collect}
	for {
		if err := deeds[l.rand.IntN(len(deeds))](); err != nil && !expected(err) {
			return err
		}
		if l.rand.IntN(20) == 0 {
			if err := l.s.Close(); err != nil {
				return err
			}
			if l.s, err = OpenLimited(args[0], limit); err != nil {
				return err
			}
		}
	}
}

// expected says that another process was quicker.
func expected(err error) bool {
	var full *FullError
	var busy *BusyError
	return errors.As(err, &full) || errors.As(err, &busy)
}

func (l *life) put() error {
	data, d := content(l.rand.IntN(universe))
	return l.s.Put(d, int64(len(data)), strings.NewReader(string(data)))
}

// resume goes on with a part as a download does: what is not right is written
// again, some of the chunks now and the others another time.
func (l *life) resume() error {
	data, d := content(l.rand.IntN(universe))
	p, err := l.s.Partial(d, int64(len(data)))
	if err != nil {
		return err
	}
	whole := true
	got := make([]byte, testChunk)
	for from := 0; from < len(data); from += testChunk {
		chunk := data[from:min(from+testChunk, len(data))]
		n, err := p.ReadAt(got[:len(chunk)], int64(from))
		if err != nil || n != len(chunk) {
			return fmt.Errorf("read %d of a part: %w", n, err)
		}
		if string(got[:n]) == string(chunk) {
			continue
		}
		if l.rand.IntN(4) == 0 {
			whole = false
			continue
		}
		if _, err := p.WriteAt(chunk, int64(from)); err != nil {
			return err
		}
	}
	switch {
	case whole:
		return p.Commit()
	case l.rand.IntN(5) == 0:
		return p.Abort()
	}
	return p.Close()
}

// protect pins a blob, stores it, and says so.
func (l *life) protect() error {
	n := l.rand.IntN(universe)
	data, d := content(n)
	if err := l.s.Pin(l.pin, []blob.Digest{d}); err != nil {
		return err
	}
	if err := l.s.Put(d, int64(len(data)), strings.NewReader(string(data))); err != nil {
		return err
	}
	_, err := fmt.Println("pinned", n)
	return err
}

func (l *life) read() error {
	data, d := content(l.rand.IntN(universe))
	r, err := l.s.Open(d, int64(len(data)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

func (l *life) collect() error {
	_, err := l.s.GC(context.Background(), Limit{Bytes: testLimit - int64(l.rand.IntN(testLimit/4))})
	return err
}

// TestKilledAtAnyPoint kills processes that write, resume, pin and collect in the
// same store, several at once, 200 times. At every moment each blob that has its
// name is right and what is pinned is there; afterwards all that is left is counted
// and nothing is locked.
func TestKilledAtAnyPoint(t *testing.T) {
	kills := 200
	if testing.Short() {
		kills = 20
	}
	dir := nettest.MemoryDir(t)
	s := open(t, dir, Limit{})
	var good []blob.Digest
	for n := range goods {
		data, d := content(n)
		nettest.Check(t, s.Put(d, int64(len(data)), strings.NewReader(string(data))))
		good = append(good, d)
	}
	pin(t, s, "last-good", good...)
	var done atomic.Int64
	var wg sync.WaitGroup
	for slot := range slots {
		wg.Go(func() {
			k := &killer{t: t, s: s, slot: slot, pinned: -1}
			for n := done.Add(1); n <= int64(kills) && !t.Failed(); n = done.Add(1) {
				k.round(uint64(n))
				k.checkBlobs(good)
			}
		})
	}
	wg.Wait()
	checkRest(t, s)
}

// killer lives one process after the other.
type killer struct {
	t      *testing.T
	s      *Store
	slot   int
	pinned int // what the last process said to have pinned; -1: nothing yet
}

func (k *killer) round(seed uint64) {
	cmd := child("live", k.s.Dir(), strconv.Itoa(k.slot), strconv.FormatUint(seed, 10))
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		k.t.Error(err)
		return
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		k.t.Errorf("a process begins with %q", lines.Text())
	}
	time.Sleep(rand.N(20 * time.Millisecond)) // the random point
	if err := cmd.Process.Kill(); err != nil {
		k.t.Error(err)
	}
	for lines.Scan() {
		number, ok := strings.CutPrefix(lines.Text(), "pinned ")
		if k.pinned, err = strconv.Atoi(number); !ok || err != nil {
			k.t.Errorf("a process says %q", lines.Text())
			k.pinned = -1
		}
	}
	_ = cmd.Wait() // killed
}

// checkBlobs looks while other processes go on.
func (k *killer) checkBlobs(good []blob.Digest) {
	if used, err := room(k.s); err != nil || used > testLimit+slots<<10 {
		k.t.Errorf("%d bytes are in use, more than any limit; %v", used, err)
	}
	list, err := k.s.List()
	if err != nil {
		k.t.Error(err)
	}
	for _, info := range list {
		if err := k.s.Verify(context.Background(), info.Digest); err != nil && !errors.Is(err, fs.ErrNotExist) {
			k.t.Error(err)
		}
	}
	pins, err := k.s.Pins()
	if err != nil || len(pins["last-good"]) != goods {
		k.t.Errorf("pins: %v, %v", pins, err)
	}
	for _, d := range good {
		if err := k.s.Verify(context.Background(), d); err != nil {
			k.t.Errorf("of the last good release: %v", err)
		}
	}
	if k.pinned < 0 {
		return
	}
	_, d := content(k.pinned)
	if slices.Equal(pins[fmt.Sprint("slot-", k.slot)], []blob.Digest{d}) { // the next one may have been pinned already
		if err := k.s.Verify(context.Background(), d); err != nil {
			k.t.Errorf("pinned and stored: %v", err)
		}
	}
}

// room is how many bytes count against a limit at one moment.
func room(s *Store) (used int64, err error) {
	err = s.hold(func() error {
		items, err := s.items()
		for _, i := range items {
			used += i.size
		}
		return err
	})
	return used, err
}

// checkRest looks at what the dead have left.
func checkRest(t *testing.T, s *Store) {
	t.Helper()
	parts, err := s.Partials()
	nettest.Check(t, err)
	for _, p := range parts {
		if p.Writing {
			t.Errorf("%s is still locked", p.Digest)
		}
	}
	report, err := s.GC(context.Background(), Limit{Bytes: testLimit})
	nettest.Check(t, err)
	if len(s.Quarantined()) != 0 {
		t.Errorf("found rotten: %v", s.Quarantined())
	}
	total := int64(0)
	nettest.Check(t, filepath.WalkDir(s.Dir(), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasPrefix(path, filepath.Join(s.Dir(), pinDir)) {
			return err
		}
		if ext := filepath.Ext(path); ext != partSuffix && ext != ".bin" {
			t.Errorf("left behind: %s", path)
		}
		info, err := e.Info()
		total += info.Size()
		return err
	}))
	if report.Used != total || total > testLimit {
		t.Errorf("%d bytes are there, %d are counted", total, report.Used)
	}
	names, err := os.ReadDir(filepath.Join(s.Dir(), pinDir))
	if err != nil || len(names) > 5 {
		t.Errorf("pins: %v, %v", names, err)
	}
	t.Logf("left: %d bytes, %d parts", total, len(parts))
}
