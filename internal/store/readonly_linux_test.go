package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/nettest"
)

// nobody owns no files.
const nobody = 65534

// asNobody lets the rest of the test meet the permissions that do not stop root.
func asNobody(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	runtime.LockOSThread()    // and never unlock: the thread ends with the test
	_ = unix.Setfsuid(nobody) // which never says that it failed
	if now, err := unix.SetfsuidRetUid(-1); err != nil || now != nobody {
		nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", "permissions do not stop root, who cannot become nobody here")
	}
}

func TestReadOnlyStore(t *testing.T) {
	asNobody(t)
	dir, err := os.MkdirTemp("/tmp", "phase-store-") // where nobody may write
	nettest.Check(t, err)
	t.Cleanup(func() { nettest.Check(t, os.RemoveAll(dir)) })
	put(t, open(t, dir, Limit{}), "data")
	mode := func(perm fs.FileMode) {
		nettest.Check(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				err = os.Chmod(p, perm)
			}
			return err
		}))
	}
	mode(0o555)
	t.Cleanup(func() { mode(0o755) })
	s := open(t, dir, Limit{})
	if got, err := read(s, blob.Of([]byte("data")), 4); err != nil || got != "data" {
		t.Errorf("%q, %v", got, err)
	}
	if err := s.Put(blob.Of([]byte("more")), 4, strings.NewReader("more")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("wrote to a read-only store: %v", err)
	}
}

// TestWhatCannotBeRemoved is passed over while others make room enough.
func TestWhatCannotBeRemoved(t *testing.T) {
	asNobody(t)
	dir, err := os.MkdirTemp("/tmp", "phase-store-") // where nobody may write
	nettest.Check(t, err)
	t.Cleanup(func() { nettest.Check(t, os.RemoveAll(dir)) })
	s := open(t, dir, Limit{Bytes: 3500})
	var all []blob.Digest
	for i, data := range []string{"a", "b", "c"} {
		d := put(t, s, strings.Repeat(data, 1000))
		when := time.Now().Add(time.Duration(i-10) * time.Hour)
		nettest.Check(t, os.Chtimes(s.Path(d), when, when))
		all = append(all, d)
	}
	stuck := filepath.Join(dir, tempDir, "stuck") // another user's: nobody knows whether it is in use
	nettest.Check(t, os.WriteFile(stuck, []byte("1"), 0))
	folder := filepath.Dir(s.Path(all[0]))
	nettest.Check(t, os.Chmod(folder, 0o555))
	t.Cleanup(func() { nettest.Check(t, os.Chmod(folder, 0o755)) })
	put(t, s, strings.Repeat("d", 1000))
	if got := has(s, all); got != "ac" {
		t.Errorf("left %q", got)
	}
	report, err := s.GC(t.Context(), Limit{Bytes: 2500})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "stuck") || len(report.Blobs) != 1 || has(s, all) != "a" {
		t.Errorf("left %q: %+v, %v", has(s, all), report, err)
	}
	report, err = s.GC(t.Context(), Limit{Bytes: 500})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "make room") || report.Used != 1001 {
		t.Errorf("%+v, %v", report, err)
	}
}
