package sysinit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/kmod"
	"github.com/phasebased/phase/internal/nettest"
)

// childEnv makes this test binary play a child; see TestMain.
const childEnv = "PHASE_SYSINIT_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "exit7":
		os.Exit(7)
	case "sleep":
		time.Sleep(time.Minute)
		os.Exit(0)
	case "ignore":
		signalIgnore()
		fmt.Println("ready")
		time.Sleep(time.Minute)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(kind string, stdout *os.File) Command {
	return Command{Path: "/proc/self/exe", Env: []string{childEnv + "=" + kind}, Files: []*os.File{nil, stdout}}
}

func running(t *testing.T) *Supervisor {
	t.Helper()
	s := NewSupervisor(nil)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	})
	return s
}

func TestSupervisorGivesEachChildItsExit(t *testing.T) {
	s := running(t)
	var children []*Child
	for range 8 {
		c, err := s.Start(child("exit7", nil))
		if err != nil {
			t.Fatal(err)
		}
		children = append(children, c)
	}
	for _, c := range children {
		exit, err := c.Wait(soon(t))
		if err != nil || exit.Code != 7 || exit.OK() || exit.String() != "exit status 7" {
			t.Errorf("Wait = %+v, %v", exit, err)
		}
		if err := c.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("a signal to an ended child: %v", err)
		}
	}
	if _, err := s.Start(Command{Path: "/nonexistent"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Start of nothing: %v", err)
	}
}

// TestKeptCapabilities: a child has the capabilities that it is given and can get no
// others; those of who starts it, and of other children, are as before.
func TestKeptCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has capabilities to give up")
	}
	s := running(t)
	status := func(cmd Command) map[string]string {
		t.Helper()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		cmd.Path, cmd.Args, cmd.Files = "/bin/cat", []string{"/proc/self/status"}, []*os.File{nil, w}
		c, err := s.Start(cmd)
		w.Close()
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if exit, err := c.Wait(soon(t)); err != nil || !exit.OK() {
			t.Fatalf("%v, %v", exit, err)
		}
		fields := map[string]string{}
		for line := range strings.Lines(string(said)) {
			if name, value, ok := strings.Cut(line, ":\t"); ok {
				fields[name] = strings.TrimSpace(value)
			}
		}
		return fields
	}
	before := status(Command{})
	if strings.Trim(before["CapPrm"], "0") == "" {
		t.Skip("root has no capabilities here")
	}
	kept := status(Command{Keep: []uintptr{unix.CAP_KILL, unix.CAP_SETUID}})
	const want = "00000000000000a0" // 5 and 7
	if kept["CapPrm"] != want || kept["CapEff"] != want || kept["CapBnd"] != want || strings.Trim(kept["CapInh"]+kept["CapAmb"], "0") != "" || kept["NoNewPrivs"] != "1" {
		t.Errorf("the child has %v", kept)
	}
	none := status(Command{Keep: []uintptr{}})
	if all := none["CapPrm"] + none["CapEff"] + none["CapBnd"]; strings.Trim(all, "0") != "" {
		t.Errorf("a child that keeps nothing has %v", none)
	}
	if after := status(Command{}); after["CapPrm"] != before["CapPrm"] || after["CapBnd"] != before["CapBnd"] || after["NoNewPrivs"] != before["NoNewPrivs"] {
		t.Errorf("another child has %v, before %v", after, before)
	}
	cmd := child("ignore", nil)
	cmd.Keep, cmd.OpenFiles = []uintptr{}, 300
	c, err := s.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	var files unix.Rlimit
	if err := unix.Prlimit(c.PID, unix.RLIMIT_NOFILE, nil, &files); err != nil || files.Max != 300 {
		t.Errorf("the child may have %d files, %v", files.Max, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	c.Stop(ended)
}

func TestStopKillsWhatDoesNotListen(t *testing.T) {
	s := running(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, err := s.Start(child("ignore", w))
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 8)); err != nil { // it ignores signals from now on
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if exit := c.Stop(ctx); exit.Signal != unix.SIGKILL {
		t.Errorf("exit = %v, want killed", exit)
	}
}

func TestReapTakesOrphans(t *testing.T) {
	s := running(t)
	// A process that the supervisor did not start, as an orphan is to PID 1.
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"orphan"}, &syscall.ProcAttr{Env: []string{childEnv + "=exit7"}})
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for unix.Kill(pid, 0) == nil && time.Now().Before(deadline) {
		c, err := s.Start(child("exit7", nil)) // each end of a child is a chance to reap
		if err != nil {
			t.Fatal(err)
		}
		<-c.Done()
	}
	if unix.Kill(pid, 0) == nil {
		t.Error("the orphan is still there")
	}
}

func TestServiceStartsAgainWithGrowingPauses(t *testing.T) {
	s := running(t)
	ctx, cancel := context.WithCancel(soon(t))
	var pauses []time.Duration
	var starts int
	err := s.Service(ctx, Service{
		Name: "failing", Command: child("exit7", nil), First: time.Millisecond, Most: 4 * time.Second,
		Started: func(int) { starts++ },
		Ended: func(exit Exit, err error, again time.Duration) {
			if exit.Code != 7 || err != nil {
				t.Errorf("ended with %v, %v", exit, err)
			}
			if pauses = append(pauses, again); len(pauses) == 3 {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) || starts != 3 {
		t.Errorf("Service = %v after %d starts", err, starts)
	}
	if want := []time.Duration{time.Millisecond, 2 * time.Millisecond, 4 * time.Millisecond}; !slices.Equal(pauses, want) {
		t.Errorf("pauses %v, want %v", pauses, want)
	}
}

func TestServiceStopsItsProgram(t *testing.T) {
	s := running(t)
	ctx, cancel := context.WithCancel(soon(t))
	var pid int
	err := s.Service(ctx, Service{Command: child("sleep", nil), Grace: 10 * time.Second, Started: func(p int) { pid = p; cancel() }})
	if !errors.Is(err, context.Canceled) || pid == 0 {
		t.Errorf("Service = %v", err)
	}
	if unix.Kill(pid, 0) == nil {
		t.Error("the program outlived its service")
	}
}

func TestWalkAsksForEveryBus(t *testing.T) {
	files := fstest.MapFS{"m/modules.dep": file("virtio_net.ko:\n"), "m/modules.alias": file("alias virtio:d00000001v* virtio_net\nalias usb:v*ic08isc06ip50in* usb_storage\nalias cpu:type:x86,* kvm\n")}
	index, err := kmod.Load(files, "m")
	if err != nil {
		t.Fatal(err)
	}
	m := &Modules{dir: t.TempDir(), index: index, done: map[string]error{}, seen: map[string]bool{}}
	if err := m.walk(disks()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, missing := range m.Missing() {
		got = append(got, missing.String())
	}
	want := []string{
		"device usb/1-1:1.0 wants module usb_storage, not in this image",
		"device virtio/virtio0 wants module virtio_net, not in this image",
	}
	if !slices.Equal(got, want) {
		t.Errorf("missing = %q\nwant %q", got, want)
	}
	m.event(Uevent{Action: "add", DevPath: "/devices/x", Env: map[string]string{"MODALIAS": "virtio:d00000001v00001AF4"}})
	if len(m.Missing()) != 2 {
		t.Error("a modalias must be looked up once")
	}
	if err := m.Load("nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of an unknown module: %v", err)
	}
}

func TestActiveConsoles(t *testing.T) {
	if got, err := ActiveConsoles(disks()); err != nil || !slices.Equal(got, []string{"tty0", "ttyS0"}) {
		t.Errorf("ActiveConsoles = %v, %v", got, err)
	}
	if _, err := ActiveConsoles(fstest.MapFS{}); err == nil {
		t.Error("none: no error")
	}
	for name, want := range map[string]bool{"tty0": true, "tty12": true, "ttyS0": false, "ttyAMA0": false, "tty": false, "hvc0": false} {
		if isVT(name) != want {
			t.Errorf("isVT(%s) = %v", name, !want)
		}
	}
}

func TestEarlyTable(t *testing.T) {
	table := Early()
	for i, fs := range table {
		if parent := filepath.Dir(fs.Target); parent != "/" {
			before := slices.ContainsFunc(table[:i], func(f Filesystem) bool { return strings.HasPrefix(fs.Target, f.Target+"/") })
			if !before {
				t.Errorf("%s comes before the file system that it lies in", fs.Target)
			}
		}
	}
	for _, target := range []string{"/proc", "/sys", "/dev", "/run"} {
		i := slices.IndexFunc(table, func(f Filesystem) bool { return f.Target == target })
		if i < 0 || table[i].Optional {
			t.Errorf("%s must be there and required", target)
		}
	}
}

func TestRequiredOnly(t *testing.T) {
	optional := &MountError{Filesystem: Filesystem{Target: "/a", Optional: true}, Err: unix.ENODEV}
	required := &MountError{Filesystem: Filesystem{Target: "/b"}, Err: unix.EPERM}
	if err := RequiredOnly(errors.Join(optional)); err != nil {
		t.Errorf("optional only: %v", err)
	}
	err := RequiredOnly(errors.Join(optional, required))
	if !errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENODEV) {
		t.Errorf("both: %v", err)
	}
	if RequiredOnly(nil) != nil {
		t.Error("nil")
	}
}

// unmount takes away what a test has mounted, before its folder is removed.
func unmount(t *testing.T, target string) {
	t.Cleanup(func() { nettest.Check(t, unix.Unmount(target, unix.MNT_DETACH)) })
}

func TestMountAllMakesDirectoriesAndGoesOn(t *testing.T) {
	if !nettest.Isolated(t, nettest.Config{}) {
		return
	}
	root := t.TempDir()
	err := MountAll(root, []Filesystem{
		{Type: "tmpfs", Target: "/run/deep", Data: "mode=0755"},
		{Type: "nosuchfs", Target: "/none", Optional: true},
		{Type: "nosuchfs", Target: "/needed"},
		{Type: "tmpfs", Target: "/run/deep/er"},
	})
	unmount(t, filepath.Join(root, "run/deep"))
	if n := strings.Count(fmt.Sprint(err), "mount nosuchfs"); n != 2 {
		t.Errorf("err = %v, want both failures", err)
	}
	if required := RequiredOnly(err); required == nil || strings.Contains(required.Error(), "/none") {
		t.Errorf("required = %v", required)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Join(root, "run/deep/er"), &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		t.Errorf("the last line was not mounted: %#x, %v", st.Type, err)
	}
}

// TestMountTwice: who begins again must find what is in memory, and can take away
// what an earlier run has mounted.
func TestMountTwice(t *testing.T) {
	if !nettest.Isolated(t, nettest.Config{}) {
		return
	}
	root := t.TempDir()
	table := []Filesystem{{Type: "tmpfs", Target: "/run", Data: "mode=0755"}, {Type: "proc", Target: "/run/proc"}}
	nettest.Check(t, MountAll(root, table))
	run := filepath.Join(root, "run")
	unmount(t, run)
	note := filepath.Join(run, "note")
	nettest.Check(t, os.WriteFile(note, []byte("x"), 0o600))
	nettest.Check(t, MountAll(root, table))
	if _, err := os.Stat(note); err != nil {
		t.Errorf("the second time: %v", err)
	}
	held := filepath.Join(run, "deep/er")
	nettest.Check(t, MountTmpfs(filepath.Join(run, "deep"), 1<<20))
	nettest.Check(t, MountTmpfs(held, 1<<20))
	busy, err := os.Create(filepath.Join(held, "busy"))
	nettest.Check(t, err)
	defer busy.Close()
	nettest.Check(t, UnmountBelow(run))
	for _, m := range mounts() {
		if strings.HasPrefix(m.target, run+"/") {
			t.Errorf("%s is still there", m.target)
		}
	}
	if _, err := os.Stat(note); err != nil {
		t.Errorf("the folder itself was unmounted: %v", err)
	}
}

func TestEmptyRAMRootNeverCrosses(t *testing.T) {
	if !nettest.Isolated(t, nettest.Config{}) {
		return
	}
	root, disk := t.TempDir(), t.TempDir()
	keep := filepath.Join(disk, "precious")
	must := func(err error) { t.Helper(); nettest.Check(t, err) }
	must(os.WriteFile(keep, []byte("x"), 0o600))
	must(MountTmpfs(root, 1<<20))
	unmount(t, root)
	must(os.MkdirAll(filepath.Join(root, "a/b/c"), 0o755))
	must(os.WriteFile(filepath.Join(root, "a/b/file"), []byte("x"), 0o600))
	must(os.Symlink(disk, filepath.Join(root, "a/link")))
	must(MountTmpfs(filepath.Join(root, "a/b/other"), 1<<20))
	must(os.WriteFile(filepath.Join(root, "a/b/other/kept"), []byte("x"), 0o600))
	top, err := os.Open(root)
	must(err)
	defer top.Close()
	if err := EmptyRAMRoot(top); err != nil {
		t.Errorf("EmptyRAMRoot = %v", err)
	}
	for path, want := range map[string]bool{"a/link": false, "a/b/c": false, "a/b/file": false, "a/b/other/kept": true} {
		if _, err := os.Lstat(filepath.Join(root, path)); (err == nil) != want {
			t.Errorf("%s: there = %v, want %v", path, err == nil, want)
		}
	}
	if _, err := os.Stat(keep); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
}

func TestEmptyRAMRootRefusesDisks(t *testing.T) {
	dir := "."
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC {
		dir = "/proc" // the source tree lies in memory here
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := checkInMemory(f); err == nil {
		t.Error("a disk counts as memory")
	}
}

func TestSwitchRootRefuses(t *testing.T) {
	for _, root := range []string{"/run/newroot", "/tmp", "/dev/x", "/", "/nonexistent"} {
		if err := checkNewRoot(root); err == nil {
			t.Errorf("%s was accepted", root)
		}
	}
}

func TestModuleErrorsHaveWords(t *testing.T) {
	for _, errno := range []unix.Errno{unix.ENOEXEC, unix.ENOENT, unix.ENOKEY, unix.EKEYREJECTED, unix.EOPNOTSUPP, unix.EIO} {
		err := moduleError("a.ko", errno)
		if errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v reads as a module that is not in the image: %v", errno, err)
		}
		if !strings.HasPrefix(err.Error(), "a.ko") {
			t.Errorf("%v does not name the file", err)
		}
	}
	for path, want := range map[string]string{"a.ko": "", "a.ko.xz": ".xz", "a.ko.zst": ".zst", "a.tar.xz": ""} {
		if got := kmodSuffix(path); got != want {
			t.Errorf("kmodSuffix(%s) = %q, want %q", path, got, want)
		}
	}
}

func TestWatcherEndsWithItsContext(t *testing.T) {
	w, err := NewWatcher()
	if err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", fmt.Sprintf("no uevents here: %v", err))
	}
	defer w.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	for {
		if _, err := w.Next(ctx); err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Next = %v", err)
			}
			return
		}
	}
}
