package trust

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/manifest"
)

// once saves version 8 of everything, and prints "saved" or what went wrong.
func once(args []string) error {
	err := saveAll(OpenState(args[0]), 8)
	if err == nil {
		fmt.Println("saved")
	}
	return err
}

// TestEverySystemCallFails lets each system call of a save fail, or kill the
// process, one after the other. What was saved is there; what was not leaves
// the old value; nothing is ever unreadable. (close is not among them: strace
// would skip the call, and with it the release of the lock.)
func TestEverySystemCallFails(t *testing.T) {
	t.Parallel()
	strace := nettest.Tracer(t)
	faults := []struct{ call, fault string }{
		{"openat", "error=EIO"}, {"read", "error=EIO"}, {"fstat", "error=EIO"}, {"flock", "error=EIO"}, {"getdents64", "error=EIO"},
		{"write", "error=ENOSPC"}, {"write", "error=EIO"}, {"fchmod", "error=EIO"},
		{"fsync", "error=EIO"}, {"fsync", "error=ENOSPC"}, {"renameat", "error=EIO"}, {"unlinkat", "error=EIO"},
		{"write", "signal=SIGKILL"}, {"fsync", "signal=SIGKILL"}, {"renameat", "signal=SIGKILL"},
	}
	if testing.Short() {
		faults = faults[8:9]
	}
	template := OpenState(filepath.Join(nettest.MemoryDir(t), "state"))
	for _, version := range []int64{5, 6, 7} {
		if err := saveAll(template, version); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range faults {
		t.Run(f.call+" "+f.fault, func(t *testing.T) {
			hits := 0
			for hits < 200 && injected(t, strace, template.dir, f.call, f.fault, hits+1) {
				hits++
			}
			if hits == 0 || hits == 200 {
				t.Errorf("%d of these calls failed", hits)
			}
			t.Logf("%d calls", hits)
		})
	}
}

// injected runs a save on a copy of a state, whose nth such call fails, and
// checks what is left. It reports false if there was no nth call.
func injected(t *testing.T, strace, template, call, fault string, n int) bool {
	t.Helper()
	s := OpenState(filepath.Join(nettest.MemoryDir(t), "state"))
	if err := os.CopyFS(s.dir, os.DirFS(template)); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(nettest.MemoryDir(t), "log")
	inject := fmt.Sprintf("inject=%s:%s:when=%d", call, fault, n)
	save := child("once")
	save.Path, save.Args = strace, []string{"strace", "-f", "-qq", "-o", log, "-e", "trace=" + call, "-e", inject, os.Args[0], s.dir}
	save.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var stdout bytes.Buffer
	save.Stdout, save.Stderr = &stdout, &stdout
	if err := save.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(time.Minute, func() {
		t.Errorf("%s: no end", inject)
		syscall.Kill(-save.Process.Pid, syscall.SIGKILL)
	})
	err := save.Wait()
	timer.Stop()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	text, readErr := os.ReadFile(log)
	if readErr != nil {
		t.Fatal(readErr)
	}
	hit := bytes.Contains(text, []byte("(INJECTED)")) || bytes.Contains(text, []byte("killed by SIGKILL"))
	if !hit && !strings.Contains(stdout.String(), "saved") {
		t.Fatalf("%s: %v\n%s", inject, err, stdout.String())
	}
	checkAfter(t, s, inject, strings.Contains(stdout.String(), "saved"))
	return hit
}

// checkAfter wants version 7 of everything, or 8; only 8 if it was saved.
func checkAfter(t *testing.T, s *State, what string, saved bool) {
	t.Helper()
	got, err := s.Floor(want)
	if err != nil || (got != floor(8) && (saved || got != floor(7))) {
		t.Fatalf("%s: floor %+v, %v", what, got, err)
	}
	at, err := s.Time()
	if minutes := at.Sub(moment).Minutes(); err != nil || (minutes != 8 && (saved || minutes != 7)) {
		t.Fatalf("%s: time %s, %v", what, at, err)
	}
	releases, err := s.LastGood(want)
	text := describe(t, releases)
	if err != nil || (!strings.HasPrefix(text, "8 confirmed") && (saved || !strings.HasPrefix(text, "7 confirmed"))) {
		t.Fatalf("%s: releases %s, %v", what, text, err)
	}
}

// TestFullReadOnlyAndBrokenMedium lets the kernel fail for real, on a medium that
// nobody else sees: a full and a read-only file system, and slots whose reading
// gives EIO.
func TestFullReadOnlyAndBrokenMedium(t *testing.T) {
	if !nettest.Isolated(t, nettest.Config{}) {
		return
	}
	medium := t.TempDir()
	nettest.Check(t, syscall.Mount("tmpfs", medium, "tmpfs", 0, "size=64k,nr_inodes=40"))
	t.Cleanup(func() { nettest.Check(t, syscall.Unmount(medium, syscall.MNT_DETACH)) })
	for _, step := range []func(s *State) error{fullMedium, noMoreFiles, readOnlyMedium, brokenSlots} {
		s := OpenState(filepath.Join(medium, "state"))
		nettest.Check(t, errors.Join(os.RemoveAll(s.dir), saveAll(s, 5), saveAll(s, 6)))
		nettest.Check(t, step(s))
	}
}

// refusals tries to save everything and wants typed errors around cause, and
// version 6 to be still there.
func refusals(s *State, cause error) error {
	for what, err := range map[string]error{
		"floor": s.SaveFloor(want, floor(7), nil), "time": s.SaveTime(moment.AddDate(0, 1, 0)),
		"tried": s.Tried(want, payload(7), document(7), proof(7)), "root": s.SaveRoot(2, make([]byte, 9000)),
	} {
		var typed *Error
		if !errors.As(err, &typed) || !errors.Is(err, cause) || typed.Hint() == "" {
			return fmt.Errorf("%s: %v, want %v", what, err, cause)
		}
		if code := typed.Code(); what == "floor" && code != "VFY-022" || what != "floor" && code != "VFY-023" {
			return fmt.Errorf("%s: code %s", what, code)
		}
	}
	got, err := s.Floor(want)
	if err != nil || got != floor(6) {
		return fmt.Errorf("floor %+v, %v", got, err)
	}
	if at, err := s.Time(); err != nil || at.Sub(moment).Minutes() != 6 {
		return fmt.Errorf("time %s, %v", at, err)
	}
	releases, err := s.LastGood(want)
	if err != nil || len(releases) == 0 || releases[0].Payload != payload(6) || !releases[0].Confirmed {
		return fmt.Errorf("releases %v, %v", releases, err)
	}
	return s.SaveFloor(want, floor(6), nil) // nothing to write, so no error
}

func fullMedium(s *State) error {
	filler := s.path("filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("the medium cannot be filled: %v", err)
	}
	err := refusals(s, syscall.ENOSPC)
	return errors.Join(err, noTemporaryFiles(s), os.Remove(filler), saveAll(s, 7))
}

func noMoreFiles(s *State) error {
	var fillers []string
	for i := 0; ; i++ {
		fillers = append(fillers, s.path(fmt.Sprint("filler", i)))
		if err := os.WriteFile(fillers[i], nil, 0o600); errors.Is(err, syscall.ENOSPC) {
			break
		} else if err != nil || i > 100 {
			return fmt.Errorf("files do not run out: %v", err)
		}
	}
	err := errors.Join(refusals(s, syscall.ENOSPC), noTemporaryFiles(s))
	for _, filler := range fillers[:len(fillers)-1] {
		err = errors.Join(err, os.Remove(filler))
	}
	return errors.Join(err, saveAll(s, 7))
}

func noTemporaryFiles(s *State) error {
	left, err := filepath.Glob(s.path(".durable-*"))
	if len(left) > 0 {
		return fmt.Errorf("left behind: %q", left)
	}
	return err
}

func readOnlyMedium(s *State) error {
	mount := filepath.Dir(s.dir)
	if err := syscall.Mount("", mount, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return err
	}
	err := refusals(s, syscall.EROFS)
	return errors.Join(err, syscall.Mount("", mount, "", syscall.MS_REMOUNT, ""), saveAll(s, 7))
}

// brokenSlots mounts a file over slots whose first byte the kernel cannot read:
// the memory of this process at address 0.
func brokenSlots(s *State) error {
	one, other := slotPath(s, 1), slotPath(s, 0)
	if err := syscall.Mount("/proc/self/mem", one, "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	if got, err := s.Floor(want); err != nil || got != floor(6) {
		return fmt.Errorf("one slot gives EIO: %+v, %v", got, err)
	}
	if err := syscall.Mount("/proc/self/mem", other, "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	var typed *Error
	got, err := s.Floor(want)
	if !errors.As(err, &typed) || !errors.Is(err, ErrUnreadable) || !errors.Is(err, syscall.EIO) || typed.Code() != "VFY-020" {
		return fmt.Errorf("both slots give EIO: %+v, %v", got, err)
	}
	if got != (manifest.Floor{}) {
		return fmt.Errorf("%+v together with %v", got, err)
	}
	if err := s.SaveFloor(want, floor(7), nil); !errors.As(err, &typed) || typed.Code() != "VFY-022" {
		return fmt.Errorf("nothing can be renamed over a mount, but: %v", err)
	}
	if err := errors.Join(syscall.Unmount(one, 0), syscall.Unmount(other, 0)); err != nil {
		return err
	}
	if got, err := s.Floor(want); err != nil || got != floor(6) {
		return fmt.Errorf("after the fault: %+v, %v", got, err)
	}
	return nil
}
