// Package deb_test puts the Debian package of the node through its life, in a Debian
// made by debootstrap whose init is systemd, in a container: installed, upgraded, hung,
// restarted, disabled, removed, purged. No virtual machine is needed.
package deb_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/deb"
	"github.com/phasebased/phase/internal/nettest"
)

const repository = "../.."

// rebooted is what systemd-nspawn ends with when the container wants to start again.
const rebooted = 133

// TestLifeOfThePackage runs testdata/life.sh as root of that Debian.
func TestLifeOfThePackage(t *testing.T) {
	needs(t, "systemd-nspawn", "debootstrap", "dpkg-deb", "unshare")
	if kinds, err := os.ReadFile("/proc/filesystems"); err != nil || !strings.Contains(string(kinds), "cgroup2") {
		nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", "the kernel has no unified control groups, which systemd needs")
	}
	root, dir := debian(t), t.TempDir()
	packages(t, filepath.Join(dir, "packages"))
	copyTo(t, "testdata/life.sh", filepath.Join(dir, "packages", "life.sh"))
	units := filepath.Join(dir, "upper", "etc", "systemd", "system")
	place(t, units)
	write(t, filepath.Join(units, "plasmd.service.d", "short.conf"), []byte("[Service]\nWatchdogSec=20\n"))
	code := rebooted
	starts := 0
	for ; code == rebooted && starts < 4; starts++ {
		code = boot(t, root, dir)
	}
	said, err := os.ReadFile(filepath.Join(dir, "packages", "said"))
	if err != nil {
		t.Fatal(err)
	}
	if code != 0 || starts != 2 || bytes.Contains(said, []byte("FAIL")) || !bytes.Contains(said, []byte("all is well")) {
		t.Errorf("%d starts, the last ended with %d:\n%s", starts, code, said)
	}
	exposure := regexp.MustCompile(`exposure level for plasmd.service: (\d+\.\d)`).FindSubmatch(said)
	if exposure == nil || string(exposure[1]) > "4.2" || len(exposure[1]) != 3 {
		t.Errorf("systemd-analyze security: %q", exposure)
	}
}

// boot starts the container and gives its exit status.
func boot(t *testing.T, root, dir string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	script := absolute(t, "testdata/boot.sh")
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--propagation", "private", "--cgroup", "sh", script, root, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	console, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == rebooted {
		return rebooted
	}
	if err != nil {
		t.Errorf("%v\n%s", err, console[max(0, len(console)-4000):])
		return 1
	}
	return 0
}

// packages builds an old and a new version of the node's package, of one program, and
// the old version of others.
func packages(t *testing.T, dir string, others ...string) {
	t.Helper()
	programs := []string{"plasmd", "plasm-jail"}
	if slices.Contains(others, "phase") {
		programs = append(programs, "phase", "phase-discover", "phase-fetch", "phase-verify")
	}
	cfg := deb.Config{
		Programs: t.TempDir(), Time: time.Unix(1_790_000_000, 0), Loose: true,
		Config: []byte(`{"listen_addrs":["/ip4/0.0.0.0/tcp/4001"]}` + "\n"),
		Arch:   map[string]string{"amd64": "x86_64", "arm64": "arm64"}[strings.TrimSpace(command(t, "go", "env", "GOARCH"))],
	}
	build := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", cfg.Programs}
	for _, program := range programs {
		build = append(build, "./cmd/"+program)
	}
	command(t, "go", build...)
	pack := func(version, name, to string) {
		cfg.Version, cfg.Only, cfg.Out = version, []string{name}, t.TempDir()
		made, err := deb.Build(t.Context(), cfg)
		check(t, err)
		copyTo(t, made[0], filepath.Join(dir, to))
	}
	pack("0.1.0", "plasmd", "old.deb")
	pack("0.2.0", "plasmd", "new.deb")
	for _, name := range others {
		pack("0.1.0", name, name+".deb")
	}
}

// place puts what starts life.sh into the system.
func place(t *testing.T, units string) {
	t.Helper()
	copyTo(t, "testdata/life.service", filepath.Join(units, "life.service"))
	wants := filepath.Join(units, "default.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../life.service", filepath.Join(wants, "life.service")); err != nil {
		t.Fatal(err)
	}
}

// debian is a Debian system, to lay something over.
func debian(t *testing.T) string {
	t.Helper()
	return nettest.Debian(t, filepath.Join(repository, "build"), "--variant=minbase --include=systemd-sysv,udev")
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = repository
	cmd.Env = append(os.Environ(), "LC_ALL=C", "CGO_ENABLED=0", "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out[max(0, len(out)-2000):])
	}
	return string(out)
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, data)
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
