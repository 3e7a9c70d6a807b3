package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/examples"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/nettest"
)

// TestSmallDisk: what a node keeps fits on a cache partition, too.
func TestSmallDisk(t *testing.T) {
	nettest.Root(t, "to mount a small file system")
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=32m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if got := spared(dir); got != 2<<20 {
		t.Errorf("%d bytes are spared", got)
	}
	s, err := openState(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := s.modules(job.DefaultNodeLimits)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	hello := blob.Of(examples.Hello)
	if err := kept.PutFor("test", hello, int64(len(examples.Hello)), bytes.NewReader(examples.Hello)); err != nil || !kept.Has(hello) {
		t.Errorf("the module was not kept: %v", err)
	}
}

// TestStateIsTheNodesOwn: inputs, outputs and receipts of one user's jobs are nothing for
// another user of the machine, whatever an earlier version has made.
func TestStateIsTheNodesOwn(t *testing.T) {
	private := []string{"receipts", "jobs", "blobs", "tmp"}
	modes := func(dir string) (list []string) {
		for _, name := range append([]string{".", "empty"}, private...) {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, info.Mode().Perm().String())
		}
		return list
	}
	old := t.TempDir()
	if err := os.Chmod(old, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range private {
		if err := os.Mkdir(filepath.Join(old, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for dir, own := range map[string]string{filepath.Join(t.TempDir(), "new"): "-rwx------", old: "-rwxr-xr-x"} {
		s, err := openState(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := s.modules(job.DefaultNodeLimits)
		if err != nil {
			t.Fatal(err)
		}
		kept.Close()
		want := []string{own, "-r-xr-xr-x", "-rwx------", "-rwx------", "-rwx------", "-rwx------"}
		if got := modes(dir); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
}
