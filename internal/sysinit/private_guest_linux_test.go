package sysinit_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/guest"
	"github.com/phasebased/phase/internal/sysinit"
)

// TestPrivate has one machine for all that only a kernel's owner may try.
func TestPrivate(t *testing.T) {
	disk := "null_blk nr_devices=1 memory_backed=1 gb=1"
	if !guest.Run(t, guest.Config{Modules: []string{"lzo_rle", "zram", disk}, Append: "crashkernel=64M"}) {
		return
	}
	t.Run("traces", testLeaveNoTrace)
	t.Run("clock", testClock)
	t.Run("disks", testDisks)
	t.Run("last words", testLastWords)
}

// testLeaveNoTrace: the machine does all that leaves traces, and each of it ends.
func testLeaveNoTrace(t *testing.T) {
	swapOn(t, "zram0")
	write(t, "/proc/sys/kernel/core_pattern", "/tmp/core.%p")
	write(t, "/proc/sys/fs/suid_dumpable", "2")
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1 << 30, Max: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_STATUS | unix.ADJ_MAXERROR}); err != nil || unsynced(t) {
		t.Fatalf("the clock is not in step to begin with: %v", err)
	}
	for range 2 { // a boot may come here again
		if err := sysinit.LeaveNoTrace("/"); err != nil {
			t.Fatal(err)
		}
	}
	if swaps := read(t, "/proc/swaps"); strings.Contains(swaps, "zram") {
		t.Errorf("it still swaps: %q", swaps)
	}
	for file, want := range map[string]string{
		"/proc/sys/kernel/core_pattern": "", "/proc/sys/kernel/core_uses_pid": "0", "/proc/sys/fs/suid_dumpable": "0",
		"/sys/kernel/kexec_crash_size": "0", "/sys/kernel/kexec_crash_loaded": "0", "/sys/module/pstore/parameters/backend": "(null)",
	} {
		if got := read(t, file); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
	if !unsynced(t) {
		t.Error("the kernel would set the hardware clock")
	}
	noCore(t)
}

// testClock: the hardware's clock goes on as it did, whatever the
// system's is set to.
func testClock(t *testing.T) {
	if err := sysinit.LeaveNoTrace("/"); err != nil {
		t.Fatal(err)
	}
	if err := sysinit.SetClock(time.Now().Add(30 * 24 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	if !unsynced(t) {
		t.Error("setting the clock has put it in step")
	}
	hardware, err := time.ParseDuration(read(t, "/sys/class/rtc/rtc0/since_epoch") + "s")
	if err != nil {
		t.Fatal(err)
	}
	if ahead := time.Until(time.Unix(0, 0).Add(hardware)); ahead > -29*24*time.Hour {
		t.Errorf("the hardware clock is %v ahead of the system's, which was set forward by 30 days", ahead)
	}
}

// testDisks: who opens a disk to write to it gets nowhere.
func testDisks(t *testing.T) {
	for _, on := range []bool{true, true, false, true} {
		if err := sysinit.SetDisksReadOnly("/", on); err != nil {
			t.Fatal(err)
		}
		want := "0"
		if on {
			want = "1"
		}
		if got := read(t, "/sys/block/nullb0/ro"); got != want {
			t.Errorf("read-only %v: nullb0 says %q", on, got)
		}
		if err := overwrite("/dev/nullb0"); (err != nil) != on {
			t.Errorf("read-only %v: writing says %v", on, err)
		}
		if got := read(t, "/sys/block/zram0/ro"); got != "0" {
			t.Errorf("what is in memory is read-only: %q", got)
		}
	}
}

// overwrite writes to the beginning of a disk, past the kernel's memory.
func overwrite(device string) error {
	f, err := os.OpenFile(device, os.O_WRONLY|unix.O_SYNC, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	return errors.Join(err, f.Close())
}

// testLastWords: a kernel with its own place for them is told by name.
func testLastWords(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "sys/module/pstore/parameters/backend")
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("erst\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	err := sysinit.LeaveNoTrace(root)
	var left *sysinit.TraceError
	if !errors.As(err, &left) || !strings.Contains(err.Error(), `"erst" keeps them (the kernel option pstore.backend=none prevents it)`) {
		t.Errorf("got %v", err)
	}
}

// swapOn swaps to compressed memory, with a header as mkswap writes it.
func swapOn(t *testing.T, disk string) {
	t.Helper()
	const size = 16 << 20
	write(t, "/sys/block/"+disk+"/disksize", "16M")
	header := make([]byte, os.Getpagesize())
	binary.NativeEndian.PutUint32(header[1024:], 1)
	binary.NativeEndian.PutUint32(header[1028:], uint32(size/len(header)-1))
	copy(header[len(header)-10:], "SWAPSPACE2")
	f, err := os.OpenFile("/dev/"+disk, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = f.Write(header); errors.Join(err, f.Close()) != nil {
		t.Fatal(err)
	}
	path, _ := unix.BytePtrFromString("/dev/" + disk)
	if _, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(path)), 0, 0); errno != 0 {
		t.Fatalf("swapon: %v", errno)
	}
	if !strings.Contains(read(t, "/proc/swaps"), disk) {
		t.Fatal("it does not swap")
	}
}

// noCore: not even root's limits let this process be dumped.
func noCore(t *testing.T) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit != (unix.Rlimit{}) {
		t.Errorf("limit of core dumps %+v, %v", limit, err)
	}
}

func unsynced(t *testing.T) bool {
	t.Helper()
	var x unix.Timex
	if _, err := unix.Adjtimex(&x); err != nil {
		t.Fatal(err)
	}
	return x.Status&unix.STA_UNSYNC != 0
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(string(data), "\n")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text+"\n"), 0); err != nil {
		t.Fatal(err)
	}
}
