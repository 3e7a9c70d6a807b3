package vm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/vm"
)

// TestReleaseForStrangers builds a whole release as a publisher does, from copies
// of packages and programs with old dates, and again as --check does. Then it is
// verified with what strangers have. No machine is started.
func TestReleaseForStrangers(t *testing.T) {
	setup(t) // the packages and the programs are there
	phase, err := filepath.Abs(filepath.Join(repository, "build", "bin", "phase"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(phase); err != nil {
		skip(t, "build/bin/phase is missing: run `make tools` first")
	}
	for _, tool := range []string{"openssl", "minisign", "sha256sum"} {
		nettest.Tool(t, tool)
	}
	dir, old := t.TempDir(), time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	copyFolder(t, filepath.Join(repository, "build", "lab", "inputs", "packages"), filepath.Join(dir, "work", "inputs", "packages"), old)
	copyFolder(t, filepath.Join(repository, "build", "target", vm.X8664), filepath.Join(dir, "target"), old)
	run := func(folder, name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Env = folder, append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.FormatInt(labTime.Unix(), 10))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	out := run(dir, phase, "release", "build", "--work", "work", "--target", "target", "--flavour", "cloud", "--images", "raw,qcow2,iso", "--check")
	if !strings.Contains(out, "built twice: every byte is the same") {
		t.Error(out)
	}
	media := filepath.Join(dir, "build", "published", "media", "stable-1")
	key := filepath.Join(media, "..", "media-key")
	run(media, "sha256sum", "--strict", "-c", "SHA256SUMS")
	run(media, "openssl", "pkeyutl", "-verify", "-pubin", "-inkey", key+".pem", "-rawin", "-in", "SHA256SUMS", "-sigfile", "SHA256SUMS.sig")
	run(media, "minisign", "-V", "-p", key+".minisign", "-m", "SHA256SUMS")
	if out := run(media, phase, "image", "verify", ".", "--key", key+".pem"); !strings.Contains(out, "VERIFIED") {
		t.Error(out)
	}
	names, err := filepath.Glob(filepath.Join(media, "*"))
	if err != nil || len(names) != 11 { // three images, their bills, the root, the notes, the list, two signatures
		t.Error(names, err)
	}
	// Strangers make it again, without the keys: docs/downloads.md.
	if err := os.Mkdir(filepath.Join(dir, "again"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "work", "inputs"), filepath.Join(dir, "again", "inputs")); err != nil {
		t.Fatal(err)
	}
	run(dir, phase, "image", "build", "--root", filepath.Join(media, "root.json"), "--flavour", "cloud", "--work", "again", "--target", "target",
		"--offline", "--out", filepath.Join(dir, "again", "phase-x86_64-cloud.img"), "--format", "iso,qcow2")
	made := run(filepath.Join(dir, "again"), "sh", "-c", `grep -v json "$0" | sha256sum --ignore-missing --strict -c`, filepath.Join(media, "SHA256SUMS"))
	if strings.Count(made, ": OK") != 3 {
		t.Error(made)
	}
}
