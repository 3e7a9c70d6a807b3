package vm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	"testing"
	"time"

	"github.com/phasebased/phase/internal/guid"
	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/internal/vm"
	"github.com/phasebased/phase/manifest"
)

// The disk of the power-cut machine: a file system as on a medium, and one block
// behind it for the guest's marks.
const (
	cutFS    = image.MinExt4
	cutBlock = 4096
	cutDisk  = cutFS + cutBlock
)

// TestPowerCuts lets the seed's kernel keep a medium's memory on its ext4, boot
// after boot, while the host logs every write and flush that reaches the disk.
// Then it cuts the power after each of them: what was flushed is there, and of
// what was not, the disk has kept some and lost some. The kernel's journal is
// replayed, and whatever is remembered (version floor, time, roots, releases to
// go back to) must be the old value or the new one, and the new one once it was
// reported as saved: never none, and never an error. So must what is stored and
// pinned, and each blob that has its name must be right.
func TestPowerCuts(t *testing.T) {
	r := record(t, "safe")
	points, states, lost := r.replay(nil)
	t.Logf("%d requests (%d writes, %d flushes), %d states of the disk replayed", len(r.log), r.count(false), r.count(true), states)
	for _, l := range lost[:min(len(lost), 10)] {
		t.Error(l)
	}
	if points < 200 || states < 500 {
		t.Errorf("only %d points and %d states were replayed: the log is not what it should be", points, states)
	}
}

// TestPowerCutsAreNoticed is the same with guests that are careless, each in one
// way: a test that lets them pass proves nothing.
func TestPowerCutsAreNoticed(t *testing.T) {
	for way, want := range map[string]error{"in-place": errDamaged, "unflushed": errLost} {
		t.Run(way, func(t *testing.T) {
			_, states, lost := record(t, way).replay(want)
			if err := errors.Join(lost...); !errors.Is(err, want) {
				t.Fatalf("%q was not noticed in %d states of the disk; but: %v", want, states, err)
			}
			t.Logf("noticed within %d states of the disk: %v", states, lost[len(lost)-1])
		})
	}
}

// recording is what happened to a disk: its content before, and every request.
type recording struct {
	*testing.T
	base   contents
	log    []vm.Write
	medium *manifest.Root // the first of the guest's roots
}

// contents is a sparse disk, by blocks; a block that is not there is zero. The
// blocks themselves are never changed.
type contents map[int64][]byte

// record runs the guest and returns what it did to its disk.
func record(t *testing.T, way string) *recording {
	t.Helper()
	b := setup(t)
	needE2fsprogs(t)
	disk, log := filepath.Join(b.run, "disk.img"), filepath.Join(b.run, "writes.log")
	b.emptyDisk(disk)
	r := &recording{T: t, base: readContents(t, disk)}
	initramfs := b.guest(r)
	ctx, cancel := context.WithTimeout(t.Context(), bootWithin)
	defer cancel()
	machine, err := vm.Start(ctx, vm.Config{
		Kernel: b.lab.Node.Kernel.Path, Initrd: initramfs, ProbeCache: filepath.Join(repository, "build", "lab"),
		Append: fmt.Sprintf("console=ttyS0,115200 quiet no_timer_check panic=-1 -- %s %d", way, int64(cutFS)),
		Disks:  []vm.Disk{{Path: disk, WriteLog: log}}, Dir: filepath.Join(b.run, "machine"),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = machine.WaitConsole(ctx, func(line string) bool { return strings.Contains(line, "powercut: done") })
	if exit := machine.Wait(); err != nil || exit.Err != nil {
		t.Fatalf("the guest ended with %v, %v; it showed:\n%s", err, exit.Err, strings.Join(machine.ConsoleTail(30), "\n"))
	}
	t.Logf("the guest ran for %.1f s", time.Since(machine.PowerOn()).Seconds())
	file, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if r.log, err = vm.ReadWriteLog(file); err != nil {
		t.Fatal(err)
	}
	return r
}

// needE2fsprogs skips a test where these tools are missing.
func needE2fsprogs(t *testing.T) {
	t.Helper()
	for _, name := range []string{"mke2fs", "e2fsck", "debugfs"} {
		if _, err := exec.LookPath(sbin(name)); err != nil {
			skip(t, err.Error())
		}
	}
}

// sbin finds a program that an ordinary user's PATH often lacks.
func sbin(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	return "/usr/sbin/" + name
}

// emptyDisk is a disk with the cache's file system.
func (b *bench) emptyDisk(path string) {
	b.Helper()
	err := os.WriteFile(path, nil, 0o644)
	if err == nil {
		err = os.Truncate(path, cutDisk)
	}
	if err == nil {
		err = image.Ext4{Label: "phase-cache", UUID: guid.GUID{1}, Size: cutFS, Time: labTime}.Write(b.Context(), path)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// guest is the seed's initramfs with another first process and a chain of roots.
func (b *bench) guest(r *recording) string {
	b.Helper()
	program := filepath.Join(b.run, "powercut")
	build := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-o", program, "./testdata/powercut")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build the guest's program: %v\n%s", err, out)
	}
	initramfs, err := os.ReadFile(b.lab.Seed)
	if err != nil {
		b.Fatal(err)
	}
	var more bytes.Buffer // the kernel unpacks one archive over the other
	var tree image.Tree
	tree.File("init", 0o755, program)
	reign := b.lab.First()
	if r.medium, err = manifest.ParseRoot(reign.Root); err != nil {
		b.Fatal(err)
	}
	for version := range 5 {
		if reign, err = reign.Successor(manifest.RoleTimestamp); err != nil {
			b.Fatal(err)
		}
		tree.Bytes(fmt.Sprintf("roots/%d", version+2), 0o644, reign.Root)
	}
	if err := image.WriteCPIO(&more, &tree, labTime); err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.run, "guest.img")
	if err := os.WriteFile(path, append(initramfs, more.Bytes()...), 0o644); err != nil {
		b.Fatal(err)
	}
	return path
}

func readContents(t *testing.T, path string) contents {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := contents{}
	c.put(0, raw)
	return c
}

// put writes data at an offset; both are multiples of a sector.
func (c contents) put(offset int64, data []byte) {
	for len(data) > 0 {
		number, at := offset/cutBlock, offset%cutBlock
		block := make([]byte, cutBlock)
		copy(block, c[number])
		n := copy(block[at:], data)
		if c[number] == nil && allZero(block) {
			block = nil
		}
		if c[number] = block; block == nil {
			delete(c, number)
		}
		offset, data = offset+int64(n), data[n:]
	}
}

func allZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// with is a copy of c to which writes were made.
func (c contents) with(writes []vm.Write) contents {
	n := make(contents, len(c))
	for number, block := range c {
		n[number] = block
	}
	for _, w := range writes {
		n.put(w.Offset, w.Data)
	}
	return n
}

// write makes a file of it.
func (c contents) write(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Truncate(cutDisk); err != nil {
		return err
	}
	for number, block := range c {
		if _, err := file.WriteAt(block, number*cutBlock); err != nil {
			return err
		}
	}
	return nil
}

func (r *recording) count(flushes bool) (n int) {
	for _, w := range r.log {
		if w.Flush == flushes {
			n++
		}
	}
	return n
}

// memory is all that a medium remembers, by name.
type memory map[string]string

// promise is what the guest's mark says must be remembered from then on; nil if
// the request is none.
func (r *recording) promise(w vm.Write) memory {
	if w.Offset < cutFS || w.Flush {
		return nil
	}
	line, _, _ := strings.Cut(string(w.Data), "\n")
	words, ok := strings.CutPrefix(line, "mark ")
	if !ok {
		r.Fatalf("the guest wrote behind its file system: %.40q", line)
	}
	m := memory{}
	for word := range strings.FieldsSeq(words) {
		name, value, _ := strings.Cut(word, "=")
		m[name] = value
	}
	return m
}

// next is the first promise in the log from request i on; nil if there is none.
func (r *recording) next(i int) memory {
	for _, w := range r.log[i:] {
		if m := r.promise(w); m != nil {
			return m
		}
	}
	return nil
}

// cut is one state in which a loss of power may leave the disk.
type cut struct {
	point          int // requests that were made before
	what           string
	disk           contents
	promised, next memory // what must be remembered, or may be already
}

// replay looks at every state and returns how many points in the log and how
// many states there were, and those in which the floor is not what it must be.
// It ends at the first of them that is until, if that is not nil.
func (r *recording) replay(until error) (points, states int, lost []error) {
	r.Helper()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	cuts := make(chan cut)
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range runtime.NumCPU() {
		dir := r.TempDir()
		workers.Go(func() {
			for c := range cuts {
				err := c.check(ctx, dir, r.medium)
				mu.Lock()
				if states++; err != nil && ctx.Err() == nil {
					lost = append(lost, fmt.Errorf("power lost after request %d of %d (%s): %w", c.point, len(r.log), c.what, err))
				}
				if until != nil && errors.Is(err, until) {
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	points = r.each(ctx, func(c cut) { cuts <- c })
	close(cuts)
	workers.Wait()
	return points, states, lost
}

// each calls do with every state: for each request, the disk with all that came
// before it, and with subsets of what was not flushed yet. It ends with ctx.
func (r *recording) each(ctx context.Context, do func(cut)) (points int) {
	random := rand.New(rand.NewPCG(1, 2)) // fixed: a failure can be repeated
	durable := r.base
	var promised memory
	var pending []vm.Write
	for i, w := range r.log {
		points++
		promise := r.promise(w)
		switch {
		case w.Flush:
			durable, pending = durable.with(pending), nil
		case promise != nil:
			promised = promise
		case w.Discard != 0:
			continue // what is discarded may as well stay
		default:
			pending = append(pending, w)
		}
		c := cut{point: i + 1, promised: promised, next: r.next(i + 1)}
		for what, kept := range subsets(pending, random) {
			if ctx.Err() != nil {
				return points
			}
			c.what, c.disk = what, durable.with(kept)
			do(c)
		}
	}
	return points
}

// allKept is the disk of a machine without a cache in its disk.
const allKept = "all kept"

// maxSubsets bounds the states of one point in the log.
const maxSubsets = 64

// subsets yields what a disk may have kept of the writes that it was not told to
// flush: none of them; and the newest, whole or torn, with every set of those
// before it, or a choice of these sets where they are too many. The sets without
// the newest are those of the point before.
func subsets(pending []vm.Write, random *rand.Rand) func(yield func(string, []vm.Write) bool) {
	return func(yield func(string, []vm.Write) bool) {
		if !yield(allKept, pending) || len(pending) == 0 || !yield("none kept", nil) {
			return
		}
		last := len(pending) - 1
		newest := pending[last]
		for _, part := range tears(newest) {
			if !yield("newest torn", append(pending[:last:last], part)) || !yield("newest alone and torn", []vm.Write{part}) {
				return
			}
		}
		sets := 1<<min(last, 20) - 1 // without the one that is all
		for i := range min(sets, maxSubsets) {
			bits := uint64(i)
			if sets > maxSubsets {
				bits = random.Uint64N(uint64(sets))
			}
			var kept []vm.Write
			for j, w := range pending[:last] {
				if bits>>(j%20)&1 != 0 {
					kept = append(kept, w)
				}
			}
			if !yield(fmt.Sprintf("newest and set %x", bits), append(kept, newest)) {
				return
			}
		}
	}
}

// tears are the beginnings of a write that may be all that a disk has kept of it:
// it writes whole sectors.
func tears(w vm.Write) (parts []vm.Write) {
	const sector = 512
	all := len(w.Data) / sector
	for _, n := range slices.Compact([]int{1, all / 2, all - 1}) {
		if n > 0 && n < all {
			parts = append(parts, vm.Write{Offset: w.Offset, Data: w.Data[:n*sector]})
		}
	}
	return parts
}

// What may be wrong with a disk after a loss of power.
var (
	errDamaged = errors.New("what is remembered cannot be read")
	errLost    = errors.New("something else was reported as saved")
)

// check replays the file system's journal and reads what is remembered.
func (c cut) check(ctx context.Context, dir string, medium *manifest.Root) error {
	disk, out := filepath.Join(dir, "disk.img"), filepath.Join(dir, "files")
	if err := errors.Join(c.disk.write(disk), os.RemoveAll(out), os.Mkdir(out, 0o755)); err != nil {
		return err
	}
	if err := replayJournal(ctx, disk, c.what == allKept); err != nil {
		return err
	}
	dump := exec.CommandContext(ctx, sbin("debugfs"), "-R", "rdump /state /store "+out, disk)
	if text, err := dump.CombinedOutput(); err != nil {
		return fmt.Errorf("debugfs: %w: %s", err, text)
	}
	got, err := remembered(out, medium)
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	nothing, err := remembered(filepath.Join(dir, "nothing"), medium)
	if err != nil {
		return err
	}
	for name, value := range got {
		old, promised := c.promised[name]
		if !promised {
			old = nothing[name]
		}
		new, changes := c.next[name]
		if value != old && !(changes && value == new) {
			return fmt.Errorf("%w: %s is %q, not %q or %q", errLost, name, value, old, new)
		}
	}
	return nil
}

// remembered reads a medium's memory and its store.
func remembered(dir string, medium *manifest.Root) (memory, error) {
	s := trust.OpenState(filepath.Join(dir, "state"))
	want := manifest.Want{Channel: manifest.ChannelStable, Arch: manifest.ArchX8664}
	floor, err1 := s.Floor(want)
	passed, err2 := s.Time()
	root, _, err3 := s.Roots(medium)
	releases, err4 := s.LastGood(want)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	m := memory{
		"floor": strconv.FormatInt(floor.ManifestVersion, 10), "time": strconv.FormatInt(passed.Unix(), 10),
		"root": strconv.FormatInt(root.Version(), 10), "confirmed": "", "tried": "",
	}
	for _, r := range slices.Backward(releases) { // the best is the first
		name := "tried"
		if r.Confirmed {
			name = "confirmed"
		}
		m[name] = r.Payload.Hex()
	}
	return m, m.addStored(filepath.Join(dir, "store"))
}

// addStored reads every blob of a store, if there is one, and counts them.
func (m memory) addStored(dir string) error {
	m["stored"], m["pinned"] = "0", ""
	s, err := store.OpenReadOnly(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.Close()
	report, err1 := s.VerifyAll(context.Background(), nil)
	list, err2 := s.List()
	pins, err3 := s.Pins()
	m["stored"] = strconv.Itoa(len(list))
	for _, d := range pins["booting"] {
		m["pinned"] = d.Hex()
	}
	for _, f := range report.Findings {
		err1 = errors.Join(err1, f.Err)
	}
	return errors.Join(err1, err2, err3)
}

// replayJournal does what the kernel does when it mounts the file system. With
// all, the whole file system must be well then, without any repair.
func replayJournal(ctx context.Context, disk string, all bool) error {
	checks := [][]string{{"-y", "-E", "journal_only"}}
	if all {
		checks = append(checks, []string{"-f", "-n"})
	}
	for _, args := range checks {
		out, err := exec.CommandContext(ctx, sbin("e2fsck"), append(args, disk)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("e2fsck %v: %w: %s", args, err, out)
		}
	}
	return nil
}
