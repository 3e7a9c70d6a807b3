package fetch

import (
	"context"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFileIsSealed(t *testing.T) {
	data := content(10_000)
	file, err := quick(t).file(context.Background(), jobFor(data, serve(t, honest(data))))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	f := file.File()
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	const want = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if err != nil || seals&want != want {
		t.Errorf("seals %#x, %v; want %#x", seals, err, want)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("the descriptor can be written")
	}
	// A fresh writable descriptor, as an attacker in this process might get.
	rw, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR, 0)
	if err == nil {
		defer rw.Close()
		if _, err := rw.WriteAt([]byte("x"), 0); err == nil {
			t.Error("the sealed content was changed")
		}
		if err := rw.Truncate(1); err == nil {
			t.Error("the sealed content was cut")
		}
		if _, err := unix.Mmap(int(rw.Fd()), 0, 4096, unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
			t.Error("the sealed content was mapped writable")
		}
	}
}
