package store

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/nettest"
)

// A file system that is smaller than the limit, and that others fill too, bounds the
// store as the limit does: what is old makes room for what is new.
func TestFileSystemBelowTheLimit(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("test", dir, "tmpfs", 0, "size=4m"); err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", "a file system cannot be mounted: "+err.Error())
	}
	t.Cleanup(func() { nettest.Check(t, unix.Unmount(dir, 0)) })
	const mega = 1 << 20
	s := open(t, filepath.Join(dir, "store"), Limit{Bytes: 64 * mega, Free: mega / 2})
	t.Cleanup(func() { s.Close() }) // before the file system goes
	random := func() string {
		data := make([]byte, mega)
		rand.Read(data)
		return string(data)
	}
	var last blob.Digest
	for range 12 {
		last = put(t, s, random())
	}
	left, err := s.List()
	nettest.Check(t, err)
	if len(left) != 3 || !s.Has(last) {
		t.Errorf("%d blobs of 1 MiB are left on 4 MiB, want 3 with the last", len(left))
	}
	nettest.Check(t, os.WriteFile(filepath.Join(dir, "foreign"), []byte(random()), 0o600)) // half of it is room that is to stay free
	put(t, s, random())
	if left, err = s.List(); err != nil || len(left) != 2 {
		t.Errorf("%d blobs are left beside a foreign file (%v), want 2", len(left), err)
	}
	// What is promised to a part is nobody else's.
	data := random()
	p, err := s.Partial(blob.Of([]byte(data)), mega)
	nettest.Check(t, err)
	defer p.Abort()
	var full *FullError
	if _, err := s.Create(blob.Of([]byte("another")), 2*mega); !errors.As(err, &full) || full.Protected != mega {
		t.Errorf("beside a part: %v", err)
	}
	writeAt(t, p, data, 0)
	nettest.Check(t, p.Commit())
}
