// Package quickstart_test types what README.md and the quickstarts say, block after
// block, as a stranger would: it builds, signs, serves, and boots virtual machines.
//
// What is typed are the fenced blocks of the kind sh. One that no test can type stands
// behind a line that says why: <!-- not run: needs a USB stick -->.
package quickstart_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/nettest"
)

// repository is the root of the sources.
const repository = "../.."

// pages are typed in this order, in one folder.
var pages = []struct {
	name         string
	run, skipped int    // blocks; a test that finds fewer has lost some
	needs        string // to be there
	all          bool   // type what a faster test of the page leaves out as well
}{
	{"README.md", 2, 4, "qemu-system-x86_64", false},
	{"docs/quickstart-vm.md", 12, 1, "qemu-system-x86_64", false},
	{"docs/quickstart-x86_64.md", 7, 2, "qemu-system-x86_64", false},
	{"docs/publishing.md", 13, 4, "qemu-system-x86_64", true},
	{"docs/quickstart-arm64.md", 7, 2, "qemu-system-aarch64", false},
}

var (
	fence  = regexp.MustCompile("(?ms)^(<!-- not run: [^\n]*-->\n)?```sh\n(.*?)^```$")
	reason = regexp.MustCompile(`^<!-- not run: \S+( \S+)+ -->\n$`)
)

// blocks are a page's blocks of shell: to run, and with a reason not to, which all
// leaves aside.
func blocks(t *testing.T, name string, all bool) (run, skipped []string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(repository, name))
	if err != nil {
		t.Fatal(err)
	}
	reasons := 0
	for _, m := range fence.FindAllStringSubmatch(string(raw), -1) {
		if m[1] != "" {
			reasons++
		}
		switch {
		case m[1] == "" || all:
			run = append(run, m[2])
		case reason.MatchString(m[1]):
			skipped = append(skipped, m[2])
		default:
			t.Errorf("%s: no reason is a reason in %q", name, m[1])
		}
	}
	if n := strings.Count(string(raw), "<!-- not run"); n != reasons {
		t.Errorf("%s: %d remarks that something is not run, before %d blocks", name, n, reasons)
	}
	return run, skipped
}

// TestBlocks: the pages have as many blocks as they had, and each of them is shell.
func TestBlocks(t *testing.T) {
	for _, page := range pages {
		run, skipped := blocks(t, page.name, false)
		if len(run) != page.run || len(skipped) != page.skipped {
			t.Errorf("%s: %d blocks to type and %d to leave out; there were %d and %d",
				page.name, len(run), len(skipped), page.run, page.skipped)
		}
		for _, block := range append(run, skipped...) {
			cmd := exec.CommandContext(t.Context(), "bash", "-n")
			cmd.Stdin = strings.NewReader(block)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s\n%s", page.name, err, out, block)
			}
		}
	}
}

// TestPages types the pages in a copy of the sources.
func TestPages(t *testing.T) {
	if testing.Short() {
		t.Skip("boots ten virtual machines")
	}
	for _, page := range pages {
		if _, err := exec.LookPath(page.needs); err != nil {
			nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", page.needs+" is missing: build/bin/phase doctor --install --task test brings it")
		}
	}
	dir := sources(t)
	port := freePort(t)
	for _, page := range pages {
		ok := t.Run(filepath.Base(page.name), func(t *testing.T) {
			run, _ := blocks(t, page.name, page.all)
			typePage(t, dir, port, run)
		})
		if !ok {
			return // the next would fail for want of what this one makes
		}
	}
}

// sources copies the files of the repository, and the packages that other tests have
// downloaded.
func sources(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = repository
	out, err := cmd.Output()
	if err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", "the sources' list of files: "+err.Error())
	}
	dir := t.TempDir()
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if err := copyFile(filepath.Join(repository, name), filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	packages := filepath.Join("build", "lab", "inputs")
	err = filepath.WalkDir(filepath.Join(repository, packages), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			err = copyFile(path, filepath.Join(dir, strings.TrimPrefix(path, repository)))
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // others work there
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, raw, info.Mode().Perm())
}

// typePage types blocks in one shell. What they leave running ends with the test.
func typePage(t *testing.T, dir, port string, blocks []string) {
	t.Helper()
	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	for i, block := range blocks {
		fmt.Fprintf(&script, "echo \"--- block %d, after $SECONDS s\" >&2\n%s", i+1, block)
	}
	text := regexp.MustCompile(`\b8080\b`).ReplaceAllString(script.String(), port)
	cmd := exec.CommandContext(t.Context(), "bash", "-c", text)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(dir, "build", "state"), "TERM=dumb")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = 10 * time.Second // a provider that a failed page left holds the pipes
	err := cmd.Run()
	stop(dir)
	if err != nil {
		t.Fatalf("%v\n%s", err, tail(said.String(), 200))
	}
	t.Log(tail(said.String(), 40))
}

// stop ends the provider of a page that did not come to its end, if it wrote down its
// number.
func stop(dir string) {
	raw, err := os.ReadFile(filepath.Join(dir, "build", "serve.pid"))
	if err != nil {
		return
	}
	if link, _ := os.Readlink(filepath.Join("/proc", strings.TrimSpace(string(raw)), "exe")); link != filepath.Join(dir, "build", "bin", "plasmd") {
		return // gone, and the number may be somebody else's
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(raw))); err == nil {
		if process, err := os.FindProcess(pid); err == nil {
			_ = process.Kill()
		}
	}
}

// tail are the last lines of a text.
func tail(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}

// freePort is a TCP port that nobody has just now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
