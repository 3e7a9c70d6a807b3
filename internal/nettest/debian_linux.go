package nettest

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Debian makes a Debian system by debootstrap with options, once: it is kept below the
// folder build, for all tests that want the same one, also those of other packages that
// run meanwhile. Nobody may write to it; lay something over it, or copy it. It needs
// root, and the tools debootstrap and unshare.
func Debian(t *testing.T, build, options string) (root string) {
	t.Helper()
	Require(t, "debootstrap", "unshare")
	suite, mirror := aptSource(t)
	what := suite + " " + options + "\n"
	sum := sha256.Sum256([]byte(what))
	dir, err := filepath.Abs(filepath.Join(build, "debootstrap", hex.EncodeToString(sum[:4])))
	Check(t, err)
	Check(t, os.MkdirAll(filepath.Dir(dir), 0o755))
	defer lock(t, dir+".lock")()
	root, made := filepath.Join(dir, "root"), filepath.Join(dir, "made")
	if was, err := os.ReadFile(made); err == nil && string(was) == what {
		return root
	}
	Check(t, os.RemoveAll(dir))
	Check(t, os.Mkdir(dir, 0o755))
	// In memory, where it takes half the time; nothing stays mounted.
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private", "sh", "-ec", `
		mkdir "$1/root" "$1/memory"
		mount -t tmpfs tmpfs "$1/memory"
		debootstrap $2 "$3" "$1/memory" "$4"
		cp -a "$1/memory/." "$1/root"`, "sh", dir, options, suite, mirror)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("debootstrap: %v\n%s", err, out[max(0, len(out)-2000):])
	}
	Check(t, os.WriteFile(made, []byte(what), 0o644))
	return root
}

// lock waits until no other process holds the file.
func lock(t *testing.T, path string) (unlock func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	Check(t, err)
	Check(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	return func() { f.Close() }
}

// aptSource is where this machine's apt has Debian from.
func aptSource(t *testing.T) (suite, mirror string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(CODENAME) $(SITE)", "Created-By: Packages").Output()
	if err == nil {
		for line := range strings.Lines(string(out)) {
			f := strings.Fields(line)
			if len(f) == 4 && f[0] == "Debian" && f[1] == "main" && regexp.MustCompile(`^[a-z]+$`).MatchString(f[2]) {
				return f[2], f[3]
			}
		}
	}
	Lacking(t, "PHASE_REQUIRE_TOOLS", "apt has no Debian here")
	return "", ""
}
