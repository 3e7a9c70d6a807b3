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
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/nettest"
)

// TestNoFileInABlobsPlace: whatever it is, nobody waits for it, reads it or
// writes through it; verifying puts it aside, and the blob can be stored.
func TestNoFileInABlobsPlace(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	nettest.Check(t, os.WriteFile(secret, []byte("data"), 0o600))
	d := blob.Of([]byte("data"))
	for name, plant := range map[string]func(path string) error{
		"pipe":           func(path string) error { return syscall.Mkfifo(path, 0o644) },
		"socket":         func(path string) error { return syscall.Mknod(path, syscall.S_IFSOCK|0o644, 0) },
		"directory":      func(path string) error { return os.MkdirAll(filepath.Join(path, "full"), 0o755) },
		"link":           func(path string) error { return os.Symlink(secret, path) },
		"link to itself": func(path string) error { return os.Symlink(filepath.Base(path), path) },
		"device": func(path string) error {
			err := syscall.Mknod(path, syscall.S_IFCHR|0o644, int(unix.Mkdev(1, 5))) // /dev/zero
			if errors.Is(err, syscall.EPERM) {
				nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", "device nodes cannot be made here")
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir(), Limit{Bytes: 100})
			nettest.Check(t, os.MkdirAll(filepath.Dir(s.Path(d)), 0o755))
			nettest.Check(t, plant(s.Path(d)))
			if got, err := read(s, d, 4); err == nil || s.Has(d) {
				t.Errorf("read %q", got)
			}
			if err := s.Verify(context.Background(), d); !errors.Is(err, errNotRegular) {
				t.Errorf("verified: %v", err)
			}
			if list, err := s.List(); err != nil || len(list) != 0 {
				t.Errorf("listed: %v, %v", list, err)
			}
			put(t, s, "data") // in its place
			if got, err := read(s, d, 4); err != nil || got != "data" {
				t.Errorf("%q, %v", got, err)
			}
			nettest.Check(t, os.Remove(s.Path(d)))
			nettest.Check(t, plant(s.Path(d)))
			report, err := s.VerifyAll(context.Background(), nil)
			if err != nil || len(report.Findings) != 1 || report.Findings[0].Moved == "" || !errors.Is(report.Findings[0].Err, errNotRegular) {
				t.Errorf("%+v, %v", report, err)
			}
			if _, err := os.Lstat(s.Path(d)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("still there: %v", err)
			}
			if got, _ := os.ReadFile(secret); string(got) != "data" {
				t.Errorf("the secret is %q", got)
			}
		})
	}
}

// The same for the name of a part: nothing that lies there is written over.
func TestNoFileInAPartsPlace(t *testing.T) {
	d := blob.Of([]byte("data"))
	secret := filepath.Join(t.TempDir(), "secret")
	for name, plant := range map[string]func(s *Store, path string) error{
		"link":      func(_ *Store, path string) error { return os.Symlink(secret, path) },
		"directory": func(_ *Store, path string) error { return os.MkdirAll(filepath.Join(path, "full"), 0o755) },
		"pipe":      func(_ *Store, path string) error { return syscall.Mkfifo(path, 0o644) },
		"hard link": func(_ *Store, path string) error { return os.Link(secret, path) },
		"hard link to a blob": func(s *Store, path string) error {
			return os.Link(s.Path(put(t, s, "kept")), path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			nettest.Check(t, os.WriteFile(secret, []byte("kept"), 0o600))
			s := open(t, filepath.Join(filepath.Dir(secret), name), Limit{Bytes: 100})
			nettest.Check(t, plant(s, partPath(s, d)))
			s = open(t, s.Dir(), Limit{Bytes: 100})
			p := partial(t, s, "data")
			writeAt(t, p, "data", 0)
			nettest.Check(t, p.Commit())
			if got, err := read(s, d, 4); err != nil || got != "data" {
				t.Errorf("%q, %v", got, err)
			}
			if got, _ := os.ReadFile(secret); string(got) != "kept" {
				t.Errorf("the other name's file holds %q", got)
			}
			if strings.HasSuffix(name, "blob") {
				nettest.Check(t, s.Verify(context.Background(), blob.Of([]byte("kept"))))
			}
		})
	}
}

// TestSwapBeforeCommit: somebody puts another file in place of what was hashed.
func TestSwapBeforeCommit(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	d := blob.Of([]byte("data"))
	for name, swap := range map[string]func(path string) error{
		"file": func(path string) error { return os.WriteFile(path, []byte("evil"), 0o644) },
		"link": func(path string) error { return os.Symlink("/etc/hostname", path) },
		"none": func(string) error { return nil },
	} {
		p := partial(t, s, "data")
		writeAt(t, p, "data", 0)
		nettest.Check(t, os.Remove(partPath(s, d)))
		nettest.Check(t, swap(partPath(s, d)))
		if err := p.Commit(); err == nil || s.Has(d) {
			t.Errorf("part, %s: committed, %v", name, err)
		}
		w, err := s.Create(d, 4)
		nettest.Check(t, err)
		_, err = w.Write([]byte("data"))
		nettest.Check(t, err)
		path := filepath.Join(s.Dir(), w.temp)
		nettest.Check(t, os.Remove(path))
		nettest.Check(t, swap(path))
		if err := w.Commit(); err == nil || s.Has(d) {
			t.Errorf("writer, %s: committed, %v", name, err)
		}
	}
}

// TestSwappedWhileOpening races an attacker who exchanges the blob for links and
// pipes against readers: they read the blob, or nothing, and never wait.
func TestSwappedWhileOpening(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	d := put(t, s, "data")
	keep := filepath.Join(s.Dir(), "keep")
	nettest.Check(t, os.Link(s.Path(d), keep))
	nettest.Check(t, os.WriteFile(filepath.Join(s.Dir(), "evil"), []byte("evil"), 0o644))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1500 {
			temp := filepath.Join(s.Dir(), "temp")
			for _, plant := range []func() error{
				func() error { return os.Symlink("../../evil", temp) },
				func() error { return syscall.Mkfifo(temp, 0o644) },
				func() error { return os.Link(keep, temp) },
			} {
				_ = plant()
				_ = os.Rename(temp, s.Path(d))
				_ = os.Remove(temp) // a hard link to the same file is not renamed
			}
		}
	}()
	reads := 0
	for {
		f, err := s.OpenUnverified(d, 4)
		if err == nil {
			got := make([]byte, 5)
			n, _ := f.Read(got)
			if f.Close(); string(got[:n]) != "data" {
				t.Fatalf("read %q", got[:n])
			}
			reads++
		}
		select {
		case <-done:
			t.Logf("%d reads", reads)
			return
		default:
		}
	}
}

func TestHardLinks(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	d := put(t, s, "data")
	other := filepath.Join(s.Dir(), "other")
	nettest.Check(t, os.Link(s.Path(d), other))
	nettest.Check(t, os.WriteFile(other, []byte("evil"), 0o644)) // writes into the blob
	var corrupt *CorruptError
	if got, err := read(s, d, 4); !errors.As(err, &corrupt) {
		t.Errorf("read %q, %v", got, err)
	}
	put(t, s, "data") // replaces, and does not write into the other name's file
	if got, _ := os.ReadFile(other); string(got) != "evil" {
		t.Errorf("the other name's file holds %q", got)
	}
	nettest.Check(t, s.Verify(context.Background(), d))
}

func TestHugeFileInPlaceOfASmall(t *testing.T) {
	s := open(t, t.TempDir(), Limit{Bytes: 1 << 20})
	d := put(t, s, "data")
	nettest.Check(t, os.Truncate(s.Path(d), 1<<40))
	var corrupt *CorruptError
	if _, err := read(s, d, 4); !errors.As(err, &corrupt) {
		t.Errorf("read: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	reads := 0
	report, err := s.VerifyAll(ctx, func(done, total int64) {
		if reads++; reads == 3 {
			cancel()
		}
		if total != 1<<40 || done > 3<<20 {
			t.Errorf("%d of %d", done, total)
		}
	})
	if !errors.Is(err, context.Canceled) || len(report.Findings) != 0 || !s.Has(d) {
		t.Errorf("%+v, %v", report, err)
	}
	put(t, s, "more") // makes room by removing what is there
	if s.Has(d) {
		t.Error("the huge file is still there")
	}
}

// TestClockThatGoesBack: what was used last is removed last, whatever the clock
// says.
func TestClockThatGoesBack(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	var all []blob.Digest
	future := time.Now().AddDate(70, 0, 0)
	for i, when := range []time.Time{future, time.Unix(1, 0), time.Unix(2, 0)} {
		d := put(t, s, strings.Repeat(fmt.Sprint(i), 100))
		nettest.Check(t, os.Chtimes(s.Path(d), when, when))
		all = append(all, d)
	}
	s = open(t, s.Dir(), Limit{Bytes: 350})
	if _, err := read(s, all[1], 100); err != nil { // a use after the one in the future
		t.Fatal(err)
	}
	list, err := s.List()
	if err != nil || list[0].Digest != all[1] || !list[0].Used.After(future.Add(-time.Second)) {
		t.Errorf("%v, %v", list, err)
	}
	put(t, s, strings.Repeat("x", 250))
	if got := has(s, all); got != "b" {
		t.Errorf("left %q, want the last one used", got)
	}
}

func TestVerifyAll(t *testing.T) {
	s, all := filled(t, 5)
	pin(t, s, "last-good", all[1])
	text := bytes.Repeat([]byte("b"), 1000)
	text[500] ^= 1
	nettest.Check(t, os.WriteFile(s.Path(all[1]), text, 0o644))
	nettest.Check(t, os.Truncate(s.Path(all[2]), 10))
	before, err := os.Stat(s.Path(all[4]))
	nettest.Check(t, err)
	last := int64(0)
	report, err := s.VerifyAll(context.Background(), func(done, total int64) {
		if done <= last || total != 4010 {
			t.Errorf("%d of %d after %d", done, total, last)
		}
		last = done
	})
	if err != nil || report.Blobs != 5 || report.Bytes != 4010 || last != 4010 || len(report.Findings) != 2 {
		t.Fatalf("%+v, %v", report, err)
	}
	for _, f := range report.Findings {
		var corrupt *CorruptError
		if !errors.As(f.Err, &corrupt) || corrupt.Digest != f.Digest || f.Left != nil {
			t.Errorf("%+v", f)
		}
		if info, err := os.Stat(f.Moved); err != nil || info.Size() != f.Size || s.Has(f.Digest) {
			t.Errorf("%+v: %v", f, err)
		}
	}
	if got := has(s, all); got != "ade" {
		t.Errorf("left %q", got)
	}
	if after, err := os.Stat(s.Path(all[4])); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Error("verifying counted as a use")
	}
	if err := s.Verify(context.Background(), all[1]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a blob in quarantine: %v", err)
	}
	if got := s.Quarantined(); len(got) != 2 || got[0].Size+got[1].Size != 1010 {
		t.Errorf("%+v", got)
	}
	// What is in quarantine counts, and goes first.
	if report, err := s.GC(context.Background(), Limit{Bytes: 3005}); err != nil || report.Files == 0 || len(report.Blobs) != 0 || report.Used > 3005 {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestQuarantineOfWhatWasRepaired: only what was read is put aside.
func TestQuarantineOfWhatWasRepaired(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	d := put(t, s, "data")
	nettest.Check(t, os.WriteFile(s.Path(d), []byte("evil"), 0o644))
	repaired := false
	report, err := s.VerifyAll(context.Background(), func(_, _ int64) {
		if !repaired {
			repaired = true
			put(t, s, "data")
		}
	})
	if err != nil || len(report.Findings) != 1 || report.Findings[0].Moved != "" || !errors.Is(report.Findings[0].Left, errChanged) {
		t.Fatalf("%+v, %v", report, err)
	}
	nettest.Check(t, s.Verify(context.Background(), d))
}

// TestUnreadForAnotherReason: a blob is only put aside for what is wrong with it.
func TestUnreadForAnotherReason(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	d := put(t, s, "data")
	for _, err := range []error{syscall.EMFILE, syscall.ENOMEM, syscall.ESTALE, syscall.EACCES, errChanged} {
		if f := s.putAside(d, nil, fmt.Errorf("verify: %w", err)); f.Left == nil || f.Moved != "" || !s.Has(d) {
			t.Errorf("%v: %+v", err, f)
		}
	}
	if f := s.putAside(d, nil, fmt.Errorf("verify: %w", syscall.EIO)); f.Left != nil || f.Moved == "" || s.Has(d) {
		t.Errorf("%+v", f)
	}
}

// TestCrowd: no more names are looked at than memory holds.
func TestCrowd(t *testing.T) {
	s := open(t, nettest.MemoryDir(t), Limit{})
	for dir := range maxBlobs/maxEntries + 1 {
		folder := filepath.Join(s.Dir(), blobDir, fmt.Sprintf("%02x", dir))
		nettest.Check(t, os.Mkdir(folder, 0o755))
		for n := range maxEntries {
			nettest.Check(t, syscall.Mknod(filepath.Join(folder, fmt.Sprintf("%02x%062x.bin", dir, n+1)), syscall.S_IFREG|0o644, 0))
		}
	}
	if list, err := s.List(); err != nil || len(list) != maxBlobs {
		t.Errorf("%d blobs, %v", len(list), err)
	}
}

// TestOnlyLookedAt: who looks whether a part is being written is taken for a writer
// by nobody.
func TestOnlyLookedAt(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	partial(t, s, "data").Close()
	f, err := os.Open(partPath(s, blob.Of([]byte("data"))))
	nettest.Check(t, err)
	defer f.Close()
	if free, err := unlocked(f); err != nil || !free {
		t.Fatal(free, err)
	}
	if parts, err := s.Partials(); err != nil || len(parts) != 1 || parts[0].Writing {
		t.Errorf("%+v, %v", parts, err)
	}
}

// TestOpenReadOnlyWritesNothing: not to a store, and it makes none.
func TestOpenReadOnlyWritesNothing(t *testing.T) {
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		for _, how := range []func(string) (*Store, error){OpenReadOnly, OpenExisting} {
			if s, err := how(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("opened %v, %v", s, err)
			}
		}
	}
	w, all := filled(t, 2)
	pin(t, w, "one", all[0])
	partial(t, w, "half").Close()
	nettest.Check(t, os.WriteFile(filepath.Join(w.Dir(), tempDir, "cut"), []byte("half a blo"), 0o644))
	nettest.Check(t, os.WriteFile(w.Path(all[1]), []byte("rot"), 0o644))
	before := state(t, w.Dir())
	s, err := OpenReadOnly(w.Dir())
	nettest.Check(t, err)
	t.Cleanup(func() { s.Close() })
	if got, err := read(s, all[0], 1000); err != nil || len(got) != 1000 {
		t.Errorf("read: %v", err)
	}
	list, err := s.List()
	nettest.Check(t, err)
	parts, err := s.Partials()
	nettest.Check(t, err)
	if len(list) != 2 || len(parts) != 1 || parts[0].Size != 4 || parts[0].Writing {
		t.Errorf("%v, %v", list, parts)
	}
	report, err := s.VerifyAll(context.Background(), nil)
	if err != nil || len(report.Findings) != 1 || !errors.Is(report.Findings[0].Left, fs.ErrPermission) || report.Findings[0].Moved != "" {
		t.Errorf("%+v, %v", report, err)
	}
	for name, do := range refused(all[0]) {
		if err := do(s); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := state(t, w.Dir()); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	existing, err := OpenExisting(w.Dir())
	nettest.Check(t, err)
	t.Cleanup(func() { existing.Close() })
	if after := state(t, w.Dir()); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if report, err := existing.GC(context.Background(), Limit{}); err != nil || report.Files != 1 || report.Freed != 10 {
		t.Errorf("%+v, %v", report, err)
	}
}

// refused is all that writes.
func refused(d blob.Digest) map[string]func(s *Store) error {
	return map[string]func(s *Store) error{
		"put":        func(s *Store) error { return s.Put(blob.Of([]byte("new")), 3, strings.NewReader("new")) },
		"part":       func(s *Store) error { _, err := s.Partial(blob.Of([]byte("new")), 3); return err },
		"pin":        func(s *Store) error { return s.Pin("x", []blob.Digest{d}) },
		"unpin":      func(s *Store) error { return s.Unpin("one") },
		"remove":     func(s *Store) error { return s.Remove(d) },
		"quarantine": func(s *Store) error { _, err := s.Quarantine(d); return err },
		"gc":         func(s *Store) error { _, err := s.GC(context.Background(), Limit{Bytes: 1}); return err },
	}
}

// state describes all files of a folder, with their times.
func state(t *testing.T, dir string) (text string) {
	t.Helper()
	nettest.Check(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		text += fmt.Sprintln(path, info.Mode(), info.Size(), info.ModTime().UnixNano())
		return err
	}))
	return text
}

// TestLockIsWaitedFor: another process makes room; its end lets others go on.
func TestLockIsWaitedFor(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	flock := nettest.Tool(t, "flock")
	holder := exec.Command(flock, filepath.Join(s.Dir(), tempDir), "sh", "-c", "echo locked; exec cat")
	stdin, err := holder.StdinPipe()
	nettest.Check(t, err)
	stdout, err := holder.StdoutPipe()
	nettest.Check(t, err)
	nettest.Check(t, holder.Start())
	t.Cleanup(func() { stdin.Close(); holder.Wait() })
	if _, err := stdout.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	hasty := open(t, t.TempDir(), Limit{})
	hasty.patience = 10 * time.Millisecond
	nettest.Check(t, os.RemoveAll(filepath.Join(hasty.Dir(), tempDir)))
	if err := hasty.Pin("x", []blob.Digest{blob.Of(nil)}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("pinned without a lock: %v", err)
	}
	hasty, err = OpenExisting(s.Dir())
	nettest.Check(t, err)
	t.Cleanup(func() { hasty.Close() })
	hasty.patience = 10 * time.Millisecond
	var locked *LockedError
	if err := hasty.Pin("x", []blob.Digest{blob.Of(nil)}); !errors.As(err, &locked) || locked.Hint() == "" || !strings.Contains(err.Error(), s.Dir()) {
		t.Errorf("did not give up: %v", err)
	}
	hasty.patience = 24 * time.Hour // one wait in vain is enough
	if _, err := hasty.Partial(blob.Of([]byte("x")), 1); !errors.As(err, &locked) {
		t.Errorf("waited again: %v", err)
	}
	got := make(chan error, 1)
	go func() { got <- s.Pin("x", []blob.Digest{blob.Of(nil)}) }()
	select {
	case err := <-got:
		t.Fatalf("pinned under another's lock: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	nettest.Check(t, holder.Process.Kill())
	stdin.Close()
	nettest.Check(t, <-got)
	<-hasty.late // the lock that came too late was given back
	pin(t, hasty, "y", blob.Of(nil))
}
