package nettest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Require says that the test needs programs. It may be called at any time.
func Require(t testing.TB, programs ...string) {
	t.Helper()
	for _, name := range programs {
		Tool(t, name)
	}
}

// Tool is Require for one program, and returns its path.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := find(name)
	if err != nil {
		Lacking(t, "PHASE_REQUIRE_TOOLS", err.Error())
	}
	return path
}

// Root ends a test that needs root for something, as Lacking does, where it is not.
func Root(t testing.TB, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", "needs root, "+why)
	}
}

// Lacking ends a test because of what this machine lacks: as a failure where the
// variable says that it must have it, and else as skipped.
func Lacking(t testing.TB, variable, what string) {
	t.Helper()
	if os.Getenv(variable) == "1" {
		t.Fatalf("%s is set, but: %s", variable, what)
	}
	t.Skip(what)
}

// searchPath is where programs are, servers among them: not everybody's PATH has
// those.
func searchPath() string {
	return os.Getenv("PATH") + ":/usr/local/sbin:/usr/sbin:/sbin"
}

// find is exec.LookPath with the servers' folders.
func find(name string) (string, error) {
	if strings.Contains(name, "/") {
		return exec.LookPath(name)
	}
	for _, dir := range filepath.SplitList(searchPath()) {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", name)
}

// Check ends the test if there is an error.
func Check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Tracer is the path of an strace that may trace here.
func Tracer(t testing.TB) string {
	t.Helper()
	strace := Tool(t, "strace")
	if out, err := exec.Command(strace, "-qq", "-e", "trace=none", "true").CombinedOutput(); err != nil {
		Lacking(t, "PHASE_REQUIRE_TOOLS", fmt.Sprintf("strace cannot trace here: %v, %s", err, out))
	}
	return strace
}

// MemoryDir is a folder in memory if there is such a file system: what a killed process
// wrote stays there too, and nobody waits for a disk.
func MemoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "phase-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
