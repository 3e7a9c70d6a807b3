package vm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/nettest"
)

// needQEMU skips the test, with the reason, on a machine without QEMU; with
// PHASE_REQUIRE_TOOLS=1 it fails instead.
func needQEMU(t *testing.T) {
	t.Helper()
	needQEMUFor(t, X8664)
}

func needQEMUFor(t *testing.T, arch string) {
	t.Helper()
	if _, err := FindQEMU(arch); err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", err.Error())
	}
}

// guest is a small machine which greets on its console and resets.
func guest(t *testing.T) Config {
	t.Helper()
	needQEMU(t)
	return Config{
		Accel: AccelTCG, BIOS: true, CPUs: 1, Memory: 64, Dir: t.TempDir(),
		Disks: []Disk{{Path: diskFile(t, greetingDisk()), Snapshot: true}},
	}
}

// idleGuest is a machine that halts for ever.
func idleGuest(t *testing.T) Config {
	cfg := guest(t)
	halt := make([]byte, 1<<20)
	copy(halt, []byte{0xfa, 0xf4}) // cli; hlt
	halt[510], halt[511] = 0x55, 0xaa
	cfg.Disks[0].Path = diskFile(t, halt)
	return cfg
}

func diskFile(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk, with a comma.img")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestGuestRuns(t *testing.T) {
	cfg, ctx := guest(t), testContext(t)
	before := time.Now()
	m, err := Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	line, err := m.WaitConsole(ctx, contains(greeting))
	if err != nil {
		t.Fatal(err)
	}
	if line.At.Before(m.PowerOn()) || m.PowerOn().Before(before) {
		t.Errorf("power on at %v, greeting at %v, test began at %v", m.PowerOn(), line.At, before)
	}
	if e := m.Wait(); e.Reason != "guest-reset" || e.Err != nil {
		t.Errorf("exit %+v", e)
	}
	if _, open := <-m.Report(); open {
		t.Error("a report from a machine without report port")
	}
	if _, err := m.WaitConsoleAfter(ctx, line, contains(greeting)); !errors.Is(err, ErrEnded) || !strings.Contains(err.Error(), greeting) {
		t.Errorf("a second greeting: %v", err)
	}
	log, err := os.ReadFile(filepath.Join(cfg.Dir, "console.log"))
	if err != nil || !bytes.Contains(log, []byte(greeting+"\r\n")) {
		t.Errorf("console log %q, %v", log, err)
	}
}

func TestQuit(t *testing.T) {
	cfg, ctx := idleGuest(t), testContext(t)
	cfg.Display, cfg.Report = true, true
	m, err := Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SendConsole([]byte("nobody reads this\n")); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"screen.png", "screen.ppm"} {
		path := filepath.Join(cfg.Dir, name)
		if err := m.Screendump(ctx, path); err != nil {
			t.Error(err)
		}
		data, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(data, []byte("\x89PNG")) && !bytes.HasPrefix(data, []byte("P6")) {
			t.Errorf("%s: %.10q, %v", name, data, err)
		}
	}
	if e := m.Quit(ctx); e.Reason != "host-qmp-quit" || e.Err != nil {
		t.Errorf("exit %+v", e)
	}
	if err := m.Screendump(ctx, filepath.Join(cfg.Dir, "late.ppm")); err == nil {
		t.Error("screendump of an ended machine")
	}
	if e := m.Quit(ctx); e.Reason != "host-qmp-quit" {
		t.Errorf("second Quit: %+v", e)
	}
}

func TestContextEndsTheMachine(t *testing.T) {
	cfg := idleGuest(t)
	cfg.Dir = ""
	ctx, cancel := context.WithCancelCause(testContext(t))
	m, err := Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("enough")
	cancel(why)
	if e := m.Wait(); e.Reason != "killed" || !errors.Is(e.Err, why) {
		t.Errorf("exit %+v", e)
	}
	if _, err := os.Stat(m.plan.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary folder %s is still there (%v)", m.plan.Dir, err)
	}
	if _, err := Start(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("start with an ended context: %v", err)
	}
}

// TestQuitKills runs a program that is no QEMU: it greets as the monitor does
// and then ignores everything, with a child of its own.
func TestQuitKills(t *testing.T) {
	script := program(t, greets+"trap '' TERM INT HUP; sleep 1000 & echo child $! >&3; wait; sleep 1000")
	m, err := Start(testContext(t), Config{BIOS: true, Accel: AccelTCG, QEMU: script, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	line, err := m.WaitConsole(testContext(t), contains("child"))
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimPrefix(line.Text, "child "))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if e := m.Quit(ctx); e.Reason != "killed" {
		t.Errorf("exit %+v", e)
	}
	waitGone(t, child)
}

func TestStartFails(t *testing.T) {
	cfg := guest(t)
	absent := filepath.Join(t.TempDir(), "absent")
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"contradiction", func(c *Config) { c.Initrd = "x" }, "without a kernel"},
		{"no QEMU", func(c *Config) { c.QEMU = absent }, "no such file"},
		{"no disk", func(c *Config) { c.Disks = []Disk{{Path: absent}} }, "absent"},
		{"QEMU refuses", func(c *Config) { c.Extra = []string{"-nonsense"} }, "nonsense"},
		{"QEMU ends", func(c *Config) { c.Extra = []string{"-version"} }, "ended at once"},
		{"no firmware file", func(c *Config) { c.BIOS, c.Firmware = false, Firmware{absent, absent} }, "firmware variables"},
		{"no folder", func(c *Config) { c.Dir = "/dev/null/x" }, "not a directory"},
		{"no log", func(c *Config) { c.ConsoleLog = filepath.Join(absent, "log") }, "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := cfg
			tt.change(&cfg)
			_, err := Start(testContext(t), cfg)
			var se *StartError
			if !errors.As(err, &se) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a StartError with %q", err, tt.want)
			}
		})
	}
}

// TestMain lets the test binary play the parent that dies.
func TestMain(m *testing.M) {
	if disk := os.Getenv("PHASE_VM_TEST_PARENT"); disk != "" {
		parent(disk)
	}
	os.Exit(m.Run())
}

// parent starts a machine, prints its process id and waits to be killed.
func parent(disk string) {
	m, err := Start(context.Background(), Config{
		Accel: AccelTCG, BIOS: true, CPUs: 1, Memory: 64, Disks: []Disk{{Path: disk, ReadOnly: true}},
	})
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	println(m.PID())
	m.Wait()
	os.Exit(0)
}

func TestMachineDiesWithItsParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a process of its parent's death")
	}
	cfg := idleGuest(t)
	cmd := exec.CommandContext(testContext(t), os.Args[0])
	cmd.Env = append(os.Environ(), "PHASE_VM_TEST_PARENT="+cfg.Disks[0].Path, "TMPDIR="+t.TempDir())
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the parent was not killed")
	}
	waitGone(t, pid)
}

// waitGone waits for the end of a process that is not our child.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	for ctx := testContext(t); running(pid); {
		if ctx.Err() != nil {
			t.Fatalf("process %d is still there", pid)
		}
		time.Sleep(10 * time.Millisecond) // there is no event to wait for
	}
}

// running says whether a process exists and is more than an exit code that
// nobody has collected (Linux; elsewhere it says no).
func running(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}
