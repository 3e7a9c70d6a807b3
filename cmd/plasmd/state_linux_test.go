package main

import (
	"bytes"
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
