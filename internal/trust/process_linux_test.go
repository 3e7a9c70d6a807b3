package trust

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/manifest"
)

// These tests need other processes, which are this test binary in another role.

const roleVar = "TRUST_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		runtime.LockOSThread() // strace counts the system calls of each thread
		if err := roles[role](os.Args[1:]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var roles = map[string]func(args []string) error{
	"live": live, "raise": raiseAll, "once": once,
}

// child returns the command that plays a role.
func child(role string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// saveAll saves one more version of everything.
func saveAll(s *State, version int64) error {
	return errors.Join(
		s.SaveFloor(want, floor(version), nil),
		s.SaveTime(moment.Add(time.Duration(version)*time.Minute)),
		s.Tried(want, payload(version), document(version), proof(version)),
		s.Confirm(want, payload(version)),
	)
}

// live saves one version after the other, from args[1] on, and prints each when
// it is saved. It ends by being killed.
func live(args []string) error {
	s := OpenState(args[0])
	version, err := strconv.ParseInt(args[1], 10, 64)
	for ; err == nil; version++ {
		if err = saveAll(s, version); err == nil {
			fmt.Println(version)
		}
	}
	return err
}

// TestKilledAtAnyMoment kills a process with SIGKILL at random moments. What
// it had saved by then must be there, and at most the version after it.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	kills := 200
	if testing.Short() {
		kills = 20
	}
	var s *State
	var last int64
	for n := range kills {
		if n%20 == 0 { // so that the first saves are killed, too
			s, last = OpenState(filepath.Join(nettest.MemoryDir(t), "state")), 0
		}
		saved := killed(t, s.dir, last)
		got, err := s.Floor(want)
		if err != nil || got.ManifestVersion < saved || got.ManifestVersion > saved+1 {
			t.Fatalf("kill %d after %d: floor %d, %v", n, saved, got.ManifestVersion, err)
		}
		at, err := s.Time()
		if minutes := int64(at.Sub(moment) / time.Minute); err != nil || (saved > 0 && (minutes < saved || minutes > saved+1)) {
			t.Fatalf("kill %d after %d: time %s, %v", n, saved, at, err)
		}
		releases, err := s.LastGood(want)
		if err != nil || (saved > 0 && len(releases) == 0) {
			t.Fatalf("kill %d after %d: %v, %v", n, saved, releases, err)
		}
		if text := describe(t, releases); saved > 0 && !strings.HasPrefix(text, fmt.Sprint(saved, " confirmed")) &&
			!strings.HasPrefix(text, fmt.Sprint(saved+1, " confirmed")) {
			t.Fatalf("kill %d after %d: %s", n, saved, text)
		}
		last = saved
	}
	if n := len(files(t, s.dir)); n > 30 {
		t.Errorf("%d files are left: %v", n, files(t, s.dir))
	}
}

// killed lets a process save versions from last+1 on, kills it, and returns the
// last version that it had saved.
func killed(t *testing.T, dir string, last int64) int64 {
	t.Helper()
	cmd := child("live", dir, strconv.FormatInt(last+1, 10))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Most kills fall into a save: one takes a few milliseconds.
	timer := time.AfterFunc(time.Duration(rand.Int64N(int64(60*time.Millisecond))), func() { cmd.Process.Kill() })
	defer timer.Stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if last, err = strconv.ParseInt(lines.Text(), 10, 64); err != nil {
			t.Fatalf("the process says %q", lines.Text())
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the process was not killed: %v", err)
	}
	return last
}

// raiseAll is process args[1] of args[2]: it raises to every version that is its
// own, and fails if one that it saved is lost.
func raiseAll(args []string) error {
	s := OpenState(args[0])
	own, err := strconv.ParseInt(args[1], 10, 64)
	of, err2 := strconv.ParseInt(args[2], 10, 64)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	for version := own + 1; version <= raises*of; version += of {
		if err := s.SaveFloor(want, floor(version), nil); err != nil && !errors.Is(err, ErrLower) {
			return err
		}
		if err := s.SaveTime(moment.Add(time.Duration(version) * time.Minute)); err != nil {
			return err
		}
		got, err := s.Floor(want)
		if err != nil || got.ManifestVersion < version {
			return fmt.Errorf("saved %d, but the floor is %d, %v", version, got.ManifestVersion, err)
		}
		at, err := s.Time()
		if err != nil || at.Before(moment.Add(time.Duration(version)*time.Minute)) {
			return fmt.Errorf("saved minute %d, but the time is %s, %v", version, at, err)
		}
	}
	return nil
}

// raises is how many versions each process saves.
const raises = 25

func TestManyProcessesNeverLowerAFloor(t *testing.T) {
	const processes = 5
	dir := filepath.Join(t.TempDir(), "state")
	var group sync.WaitGroup
	for i := range processes {
		group.Go(func() {
			if out, err := child("raise", dir, strconv.Itoa(i), strconv.Itoa(processes)).Output(); err != nil {
				t.Errorf("process %d: %v\n%s", i, err, out)
			}
		})
	}
	ended := make(chan struct{})
	go func() { group.Wait(); close(ended) }()
	s := OpenState(dir)
	var last manifest.Floor
	for watching := true; watching; {
		select {
		case <-ended:
			watching = false
		default:
		}
		got, err := s.Floor(want)
		if err != nil || got.ManifestVersion < last.ManifestVersion {
			t.Fatalf("the floor was %d and is %d, %v", last.ManifestVersion, got.ManifestVersion, err)
		}
		last = got
	}
	mustLoad(t, s, floor(raises*processes))
	if at, err := s.Time(); err != nil || !at.Equal(moment.Add(raises*processes*time.Minute)) {
		t.Errorf("time is %s, %v", at, err)
	}
}
