package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"github.com/phasebased/phase/internal/nettest"
)

// TestNewFoldersAreFlushed: a pointer that survives a power cut names nothing that
// does not.
func TestNewFoldersAreFlushed(t *testing.T) {
	strace := nettest.Tracer(t)
	log := filepath.Join(t.TempDir(), "log")
	cmd := exec.Command(strace, "-f", "-qq", "-y", "-o", log, "-e", "trace=fsync,mkdirat", os.Args[0], "-test.run=^TestChunkListsArePublished$")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(log)
	nettest.Check(t, err)
	made := regexp.MustCompile(`mkdirat\([^"]*"([^"]*/(?:blobs|stable)(?:/[^"]*)?)"[^)]*\) += 0`).FindAllSubmatch(text, -1)
	if len(made) < 6 { // blobs, stable, and what is in them
		t.Fatalf("made %q:\n%s", made, text)
	}
	for _, m := range made {
		parent := filepath.Dir(string(m[1]))
		if !regexp.MustCompile(`fsync\(\d+<` + regexp.QuoteMeta(parent) + `>`).Match(text) {
			t.Errorf("%s was not flushed after %s was made", parent, m[1])
		}
	}
}

func TestDescribeDoesNotWait(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	nettest.Check(t, syscall.Mkfifo(pipe, 0o644))
	if f, err := Describe(pipe, nil); err == nil {
		t.Errorf("a pipe is %+v", f)
	}
}
