package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/nettest"
)

// TestGuides types what the pages for publishers, fleets and Private mode say, block after block in
// one shell, with our programs and small files in place of the systems that take minutes
// to build. A block that is left out says why in the line before it.
func TestGuides(t *testing.T) {
	programs := guidePrograms(t)
	for _, guide := range []struct {
		page    string
		before  string // page that is typed first, in the same folder
		blocks  int    // of the page, at least so many are run
		skipped int    // exactly so many are not
	}{
		{"publishing.md", "", 12, 4},
		{"fleet.md", "publishing.md", 4, 3},
		{"private.md", "", 1, 1},
	} {
		t.Run(guide.page, func(t *testing.T) {
			run, skipped := guideBlocks(t, guide.page)
			if len(run) < guide.blocks || len(skipped) != guide.skipped {
				t.Fatalf("%d blocks to run and %d to leave out; want at least %d, and %d:\n%s",
					len(run), len(skipped), guide.blocks, guide.skipped, strings.Join(skipped, "\n"))
			}
			if guide.before != "" {
				before, _ := guideBlocks(t, guide.before)
				run = append(before, run...)
			}
			top := t.TempDir()
			const folder = "build/trial" // in which both pages are typed
			guideFiles(t, top, folder)
			typeGuide(t, filepath.Join(top, folder), programs, run)
		})
	}
}

// notRun is the line before a block that a test leaves out, with the reason.
var notRun = regexp.MustCompile("(?m)^<!-- not run: .+ -->\n(```sh\n(?s:.*?)```)")

// guideBlocks returns a page's blocks of shell: those to run, and those that are left out.
func guideBlocks(t *testing.T, name string) (run, skipped []string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	for _, m := range notRun.FindAllStringSubmatch(page, -1) {
		skipped = append(skipped, m[1])
	}
	page = notRun.ReplaceAllString(page, "")
	for _, m := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(page, -1) {
		run = append(run, m[1])
	}
	return run, skipped
}

// guidePrograms builds what people have after `make tools`.
func guidePrograms(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds five programs, which takes a minute")
	}
	nettest.Require(t, "bash", "curl")
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", dir,
		"../phase", "../phase-verify", "../phase-discover", "../phase-fetch", "../plasmd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// guideFiles lays out what a guide finds: a node system and an image that are none, and
// the files of the sources that it names.
func guideFiles(t *testing.T, top, folder string) {
	t.Helper()
	hello, err := os.ReadFile("../../examples/hello/hello.wasm")
	if err != nil {
		t.Fatal(err)
	}
	system := filepath.Join(folder, "system", "stable", "x86_64")
	for name, content := range map[string][]byte{
		"examples/hello/hello.wasm":        hello,
		filepath.Join(folder, "trial.img"): []byte("This would be an image."),
		filepath.Join(system, "kernel"):    []byte("This would be a kernel."),
		filepath.Join(system, "initramfs"): []byte("This would be its initramfs."),
		filepath.Join(system, "rootfs"):    withHashTree(bytes.Repeat([]byte("And this its root file system.\n\n"), 1024)),
	} {
		path := filepath.Join(top, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// withHashTree puts the hash tree of dm-verity behind up to 128 whole blocks.
func withHashTree(data []byte) []byte {
	const block = 4096
	tree := make([]byte, 0, block)
	for i := 0; i < len(data); i += block {
		sum := sha256.Sum256(data[i : i+block])
		tree = append(tree, sum[:]...)
	}
	return append(data, tree[:block]...)
}

// typeGuide runs blocks in one shell. What they leave running ends with the test.
func typeGuide(t *testing.T, dir, programs string, blocks []string) {
	t.Helper()
	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	for i, block := range blocks {
		fmt.Fprintf(&script, "echo '--- block %d' >&2\n%s", i+1, block)
	}
	port := strconv.Itoa(freePort(t))
	text := regexp.MustCompile(`\b8080\b`).ReplaceAllString(script.String(), port)
	cmd := exec.CommandContext(t.Context(), "bash", "-c", text)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + programs + ":" + os.Getenv("PATH"), "HOME=" + dir, "USER=" + os.Getenv("USER"), "TERM=dumb"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = 5 * time.Second // whatever runs on in the background holds the pipes
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) // nobody is left, if all went well
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	t.Log(said.String())
}

// freePort is a TCP port that nobody has just now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
