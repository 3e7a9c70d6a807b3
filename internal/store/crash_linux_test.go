package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/nettest"
)

// The old release, an unused blob and the new release of once.
func release(c string) (string, blob.Digest) {
	data := strings.Repeat(c, 8<<10)[:8<<10]
	return data, blob.Of([]byte(data))
}

const onceLimit = 20 << 10 // two of the three

// once does what a boot does with a new release: it pins it, goes on with what
// has arrived of it, and makes it the last good one.
func once(args []string) error {
	return boot(args[0], func(done string) { fmt.Println(done) })
}

// boot says "stored" and "saved".
func boot(dir string, say func(done string)) error {
	s, err := OpenLimited(dir, Limit{Bytes: onceLimit})
	if err != nil {
		return err
	}
	defer s.Close()
	data, d := release("new")
	if err := s.Pin("booting", []blob.Digest{d}); err != nil {
		return err
	}
	if err := finish(s, data, d); err != nil {
		return err
	}
	say("stored")
	if err := errors.Join(s.Pin("last-good", []blob.Digest{d}), s.Unpin("booting")); err != nil {
		return err
	}
	if _, err := s.GC(context.Background(), Limit{Bytes: int64(len(data)) + 10}); err != nil {
		return err
	}
	say("saved")
	return nil
}

func finish(s *Store, data string, d blob.Digest) error {
	if s.Has(d) {
		return nil
	}
	p, err := s.Partial(d, int64(len(data)))
	if err != nil {
		return err
	}
	for from := 0; from < len(data); from += testChunk {
		chunk := data[from : from+testChunk]
		got := make([]byte, len(chunk))
		if _, err := p.ReadAt(got, int64(from)); err != nil {
			return errors.Join(err, p.Close())
		}
		if string(got) == chunk {
			continue
		}
		if _, err := p.WriteAt([]byte(chunk), int64(from)); err != nil {
			return errors.Join(err, p.Close())
		}
	}
	return p.Commit()
}

// before is the store that once begins with: the last good release, a blob that
// must go, and half of the new release.
func before(t *testing.T) string {
	t.Helper()
	s := open(t, filepath.Join(nettest.MemoryDir(t), "store"), Limit{})
	for _, c := range []string{"unused", "old"} {
		data, d := release(c)
		nettest.Check(t, s.Put(d, int64(len(data)), strings.NewReader(data)))
	}
	_, old := release("old")
	pin(t, s, "last-good", old)
	data, _ := release("new")
	p := partial(t, s, data)
	writeAt(t, p, data[:testChunk], 0)
	nettest.Check(t, p.Close())
	return s.Dir()
}

// TestEverySystemCallFails lets each system call of once fail, or kill the process,
// one after the other. No wrong blob has a name, the pins are those before or those
// after, what they protect is there, and a second try succeeds.
func TestEverySystemCallFails(t *testing.T) {
	t.Parallel()
	strace := nettest.Tracer(t)
	faults := []struct{ call, fault string }{
		{"pwrite64", "error=ENOSPC"}, {"pread64", "error=EIO"}, {"ftruncate", "error=ENOSPC"}, {"write", "error=ENOSPC"},
		{"fsync", "error=EIO"}, {"renameat", "error=EIO"}, {"unlinkat", "error=EIO"}, {"flock", "error=ENOLCK"},
		{"mkdirat", "error=ENOSPC"}, {"getdents64", "error=EIO"},
		{"pwrite64", "signal=SIGKILL"}, {"fsync", "signal=SIGKILL"}, {"renameat", "signal=SIGKILL"}, {"unlinkat", "signal=SIGKILL"},
	}
	if testing.Short() {
		faults = faults[4:5]
	}
	template := before(t)
	for _, f := range faults {
		t.Run(f.call+" "+f.fault, func(t *testing.T) {
			hits := 0
			for hits < 100 && injected(t, strace, template, f.call, f.fault, hits+1) {
				hits++
			}
			if hits == 0 || hits == 100 {
				t.Errorf("%d of these calls failed", hits)
			}
			t.Logf("%d calls", hits)
		})
	}
}

// injected runs once on a copy of a store, with its nth such call failing, and
// checks what is left. It reports false if there was no nth call.
func injected(t *testing.T, strace, template, call, fault string, n int) bool {
	t.Helper()
	dir := filepath.Join(nettest.MemoryDir(t), "store")
	nettest.Check(t, os.CopyFS(dir, os.DirFS(template)))
	log := filepath.Join(nettest.MemoryDir(t), "log")
	inject := fmt.Sprintf("inject=%s:%s:when=%d", call, fault, n)
	cmd := child("once")
	cmd.Path, cmd.Args = strace, []string{"strace", "-f", "-qq", "-o", log, "-e", "trace=" + call, "-e", inject, os.Args[0], dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	nettest.Check(t, cmd.Start())
	timer := time.AfterFunc(time.Minute, func() {
		t.Errorf("%s: no end", inject)
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	})
	err := cmd.Wait()
	timer.Stop()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	text, err := os.ReadFile(log)
	nettest.Check(t, err)
	hit := bytes.Contains(text, []byte("(INJECTED)")) || bytes.Contains(text, []byte("killed by SIGKILL"))
	if !hit && !strings.Contains(out.String(), "saved") {
		t.Fatalf("%s: %s", inject, out.String())
	}
	checkAfter(t, dir, inject, out.String())
	return hit
}

func checkAfter(t *testing.T, dir, what, said string) {
	t.Helper()
	s := open(t, dir, Limit{})
	report, err := s.VerifyAll(context.Background(), nil)
	if err != nil || len(report.Findings) > 0 {
		t.Fatalf("%s: %+v, %v", what, report, err)
	}
	pins, err := s.Pins()
	nettest.Check(t, err)
	_, old := release("old")
	_, fresh := release("new")
	switch last := pins["last-good"]; {
	case slices.Equal(last, []blob.Digest{old}) && !strings.Contains(said, "saved"):
	case slices.Equal(last, []blob.Digest{fresh}):
	default:
		t.Fatalf("%s: pinned are %v", what, pins)
	}
	if !s.Has(pins["last-good"][0]) || strings.Contains(said, "stored") && !s.Has(fresh) {
		t.Fatalf("%s: the last good release is not there, after %q", what, said)
	}
	if err := boot(dir, func(string) {}); err != nil {
		t.Fatalf("%s: the second try: %v", what, err)
	}
	if !s.Has(fresh) || s.Has(old) || len(tempFiles(t, s)) != 0 {
		t.Fatalf("%s: after the second try", what)
	}
}

// TestOrderOfSystemCalls: what has a name was flushed before, and the name after.
// A file system may do with another order what it likes when the power fails.
func TestOrderOfSystemCalls(t *testing.T) {
	strace := nettest.Tracer(t)
	dir, log := before(t), filepath.Join(t.TempDir(), "log")
	cmd := child("once")
	cmd.Path, cmd.Args = strace, []string{"strace", "-f", "-qq", "-y", "-o", log, "-e", "trace=pwrite64,pread64,fsync,renameat", os.Args[0], dir}
	cmd.Stderr = nil // which CombinedOutput sets
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(log)
	nettest.Check(t, err)
	_, d := release("new")
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^\d+ +(\w+)\((.*)$`).FindAllStringSubmatch(string(text), -1) {
		what := m[1]
		switch args := m[2]; {
		case strings.Contains(args, d.Hex()+".bin"):
			what += " blob"
		case strings.Contains(args, d.Hex()+partSuffix):
			what += " part"
		case strings.Contains(args, "/"+pinDir+"/") || strings.Contains(args, "/"+pinDir+">"):
			what += " pin"
		case strings.Contains(args, "/"+blobDir+"/"+d.Hex()[:2]+">"):
			what += " folder"
		default:
			continue
		}
		if len(got) == 0 || got[len(got)-1] != what {
			got = append(got, what)
		}
	}
	want := []string{"fsync pin", "renameat pin", "fsync pin", // booting
		"pread64 part", "pwrite64 part", "pread64 part", "fsync part", "renameat blob", "fsync folder",
		"fsync pin", "renameat pin", "fsync pin"} // last-good; booting is ended
	if !slices.Equal(got, want) {
		t.Errorf("the order is\n%q, want\n%q\n%s", got, want, text)
	}
}

// first makes a store with a blob and a part.
func first(args []string) error {
	s, err := Open(args[0])
	if err != nil {
		return err
	}
	data, d := release("new")
	if err := s.Put(d, int64(len(data)), strings.NewReader(data)); err != nil {
		return err
	}
	p, err := s.Partial(blob.Of([]byte("data")), 4)
	if err != nil {
		return err
	}
	return errors.Join(p.Close(), s.Close())
}

// TestNewFoldersAreFlushed: also one that somebody else has made, who may not have
// come to it; and nobody waits for the lock while a part's folder is.
func TestNewFoldersAreFlushed(t *testing.T) {
	strace := nettest.Tracer(t)
	base, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	dir := filepath.Join(base, "not", "there", "store")
	_, d := release("new")
	traced := func() string {
		cmd := child("first")
		cmd.Path, cmd.Args = strace, []string{"strace", "-f", "-qq", "-y", "-o", log, "-e", "trace=flock,fsync,close", os.Args[0], dir}
		cmd.Stderr = nil // which CombinedOutput sets
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		text, err := os.ReadFile(log)
		nettest.Check(t, err)
		return string(text)
	}
	flushed := func(text, folder string) bool {
		return regexp.MustCompile(`(?m) fsync\(\d+<` + regexp.QuoteMeta(folder) + `>`).MatchString(text)
	}
	text := traced()
	blobs := filepath.Join(dir, blobDir)
	for _, folder := range []string{base, filepath.Join(base, "not"), filepath.Join(base, "not", "there"), dir, blobs, filepath.Join(blobs, d.Hex()[:2])} {
		if !flushed(text, folder) {
			t.Errorf("%s was not flushed", folder)
		}
	}
	flush := regexp.MustCompile(` fsync\(\d+<` + regexp.QuoteMeta(filepath.Join(dir, tempDir)) + `>`).FindStringIndex(text)
	if flush == nil {
		t.Fatalf("the part's folder was not flushed:\n%s", text)
	}
	locks := regexp.MustCompile(` flock\((\d+<[^>]*>), LOCK_EX\)`).FindAllStringSubmatchIndex(text[:flush[0]], -1)
	if last := locks[len(locks)-1]; !strings.Contains(text[last[1]:flush[0]], " close("+text[last[2]:last[3]]+")") {
		t.Errorf("the part's folder was flushed under the lock:\n%s", text)
	}
	nettest.Check(t, os.RemoveAll(filepath.Join(blobs, d.Hex()[:2])))
	nettest.Check(t, os.Mkdir(filepath.Join(blobs, d.Hex()[:2]), 0o755))
	if !flushed(traced(), blobs) {
		t.Error("the folder of another who was killed was not flushed")
	}
}

// TestFullReadOnlyAndBrokenMedium lets the kernel fail for real, on a medium that
// nobody else sees.
func TestFullReadOnlyAndBrokenMedium(t *testing.T) {
	if !nettest.Isolated(t, nettest.Config{}) {
		return
	}
	medium := t.TempDir()
	nettest.Check(t, syscall.Mount("tmpfs", medium, "tmpfs", 0, "size=256k"))
	t.Cleanup(func() { nettest.Check(t, syscall.Unmount(medium, syscall.MNT_DETACH)) })
	s := open(t, filepath.Join(medium, "store"), Limit{})
	old := put(t, s, "the last good release")
	pin(t, s, "one", old)
	fullMedium(t, s, old)
	readOnlyMedium(t, s, medium, old)
	brokenMedium(t, s, old)
}

// fullMedium: what did not fit leaves nothing of itself, or a part that is
// finished when there is room.
func fullMedium(t *testing.T, s *Store, old blob.Digest) {
	big := strings.Repeat("0123456789abcdef", 20<<10) // 320 KiB
	d := blob.Of([]byte(big))
	if err := s.Put(d, int64(len(big)), strings.NewReader(big)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("put: %v", err)
	}
	if s.Has(d) || len(tempFiles(t, s)) != 0 {
		t.Fatal("half of it was left")
	}
	filler := filepath.Join(s.Dir(), "filler")
	nettest.Check(t, os.WriteFile(filler, make([]byte, 128<<10), 0o644))
	some := big[:200<<10]
	p := partial(t, s, some)
	n, err := 0, error(nil)
	for n < len(some) && err == nil {
		if _, err = p.WriteAt([]byte(some[n:n+testChunk]), int64(n)); err == nil {
			n += testChunk
		}
	}
	if !errors.Is(err, syscall.ENOSPC) || n == 0 {
		t.Fatalf("part: %d, %v", n, err)
	}
	for name, do := range map[string]func() error{
		"pin": func() error { return s.Pin("one", []blob.Digest{d}) },
		"put": func() error { return s.Put(blob.Of([]byte("data")), 4, strings.NewReader("data")) },
	} {
		if err := do(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if pins, err := s.Pins(); err != nil || !slices.Equal(pins["one"], []blob.Digest{old}) {
		t.Errorf("pins: %v, %v", pins, err)
	}
	nettest.Check(t, p.Close())
	nettest.Check(t, os.Remove(filler))
	p = partial(t, s, some)
	got := make([]byte, n)
	if _, err := p.ReadAt(got, 0); err != nil || string(got) != some[:n] {
		t.Errorf("the part lost what it had: %v", err)
	}
	writeAt(t, p, some[n:], int64(n))
	nettest.Check(t, p.Commit())
	nettest.Check(t, s.Remove(blob.Of([]byte(some))))
}

// readOnlyMedium: all is read, nothing written, and each refusal says why.
func readOnlyMedium(t *testing.T, s *Store, medium string, old blob.Digest) {
	rot := put(t, s, "rot")
	nettest.Check(t, os.WriteFile(s.Path(rot), []byte("rat"), 0o644))
	before := state(t, s.Dir())
	nettest.Check(t, syscall.Mount("", medium, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	again := open(t, s.Dir(), Limit{Bytes: 10})
	for name, do := range refused(old) {
		if err := do(again); !errors.Is(err, syscall.EROFS) {
			var full *FullError
			if !errors.As(err, &full) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if got, err := read(again, old, 21); err != nil || got != "the last good release" {
		t.Errorf("%q, %v", got, err)
	}
	existing, err := OpenExisting(s.Dir())
	nettest.Check(t, err)
	t.Cleanup(func() { existing.Close() })
	reading, err := OpenReadOnly(s.Dir())
	nettest.Check(t, err)
	t.Cleanup(func() { reading.Close() })
	for _, s := range []*Store{again, existing, reading} {
		list, err := s.List()
		pinned := slices.IndexFunc(list, func(i Info) bool { return i.Digest == old && slices.Equal(i.Pins, []string{"one"}) })
		if err != nil || len(list) != 2 || pinned < 0 {
			t.Errorf("%v, %v", list, err)
		}
		if parts, err := s.Partials(); err != nil || len(parts) != 0 {
			t.Errorf("%v, %v", parts, err)
		}
		report, err := s.VerifyAll(context.Background(), nil)
		if err != nil || report.Blobs != 2 || len(report.Findings) != 1 || report.Findings[0].Moved != "" {
			t.Errorf("%+v, %v", report, err)
		} else if left := report.Findings[0].Left; !errors.Is(left, syscall.EROFS) && !errors.Is(left, fs.ErrPermission) {
			t.Errorf("left because of %v", left)
		}
	}
	if s, err := Open(filepath.Join(medium, "none")); !errors.Is(err, syscall.EROFS) {
		t.Errorf("made a store: %v, %v", s, err)
	}
	nettest.Check(t, syscall.Mount("", medium, "tmpfs", syscall.MS_REMOUNT, ""))
	defer func() { nettest.Check(t, s.Remove(rot)) }()
	if after := state(t, s.Dir()); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// brokenMedium mounts a file over a blob whose first byte the kernel cannot read:
// the memory of this process at address 0.
func brokenMedium(t *testing.T, s *Store, old blob.Digest) {
	nettest.Check(t, syscall.Mount("/proc/self/mem", s.Path(old), "", syscall.MS_BIND, ""))
	if err := s.Verify(context.Background(), old); !errors.Is(err, syscall.EIO) {
		t.Errorf("verify: %v", err)
	}
	report, err := s.VerifyAll(context.Background(), nil)
	if err != nil || len(report.Findings) != 1 || !errors.Is(report.Findings[0].Err, syscall.EIO) || report.Findings[0].Left == nil {
		t.Errorf("nothing can be moved from under a mount, but: %+v, %v", report, err)
	}
	nettest.Check(t, syscall.Unmount(s.Path(old), 0))
	if _, err := s.Quarantine(blob.Of([]byte("not there"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("quarantine: %v", err)
	}
	nettest.Check(t, s.Verify(context.Background(), old))
}
