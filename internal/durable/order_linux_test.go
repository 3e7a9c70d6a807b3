package durable

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/nettest"
)

// TestOrderOfSystemCalls asks the kernel, through strace, for the order that
// the package comment promises: a file system may do with other orders what it
// likes when the power fails, and no test of contents would notice.
func TestOrderOfSystemCalls(t *testing.T) {
	const role = "DURABLE_TEST_ORDER"
	if path := os.Getenv(role); path != "" {
		if err := WriteFile(path, []byte("new"), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	strace := nettest.Tracer(t)
	dir := t.TempDir()
	log := filepath.Join(t.TempDir(), "log")
	cmd := exec.Command(strace, "-f", "-qq", "-y", "-o", log, "-e", "trace=openat,write,pwrite64,fchmod,fsync,rename,renameat,renameat2",
		os.Args[0], "-test.run=^TestOrderOfSystemCalls$")
	cmd.Env = append(os.Environ(), role+"="+filepath.Join(dir, "file"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	got := steps(string(text), dir)
	want := []string{"openat temporary", "write temporary", "fchmod temporary", "fsync temporary", "renameat file", "openat directory", "fsync directory"}
	if !slices.Equal(got, want) {
		t.Errorf("the order is %q, want %q", got, want)
	}
}

var call = regexp.MustCompile(`(?m)^\d+ +(\w+)\((.*)$`)

// steps lists the system calls that concern dir, and with what.
func steps(log, dir string) (list []string) {
	for _, m := range call.FindAllStringSubmatch(log, -1) {
		name, args := m[1], m[2]
		switch {
		case strings.Contains(args, dir+"/file"):
			list = append(list, name+" file")
		case strings.Contains(args, dir+"/"+TempPrefix):
			list = append(list, name+" temporary")
		case strings.Contains(args, dir+">") || strings.Contains(args, `"`+dir+`"`):
			list = append(list, name+" directory")
		}
	}
	return list
}
