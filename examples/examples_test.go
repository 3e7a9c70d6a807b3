package examples_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"image/png"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/wasmbuild"
)

// TestPageIsRun runs the commands of docs/examples.md, in their order, with a node.
func TestPageIsRun(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: builds programs and modules and starts a node")
	}
	requireC(t)
	script := commandsOfPage(t)
	if n := strings.Count(script, "\n"); n < 18 {
		t.Fatalf("only %d lines of commands on the page", n)
	}
	bin, out := t.TempDir(), t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin+"/", "./cmd/phase", "./cmd/plasmd")
	build.Dir = ".."
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	runtime := startNode(t, filepath.Join(bin, "plasmd"))
	shell := exec.CommandContext(t.Context(), "sh", "-eux")
	shell.Dir = ".."
	shell.Stdin = strings.NewReader(strings.ReplaceAll(script, "build/", out+"/"))
	shell.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "XDG_RUNTIME_DIR="+runtime, "CGO_ENABLED=0")
	if said, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for name, size := range map[string]string{"fractal-go.png": "480x360", "whole.png": "240x180"} {
		if got := pictureSize(t, filepath.Join(out, name)); got != size {
			t.Errorf("%s is %s, want %s", name, got, size)
		}
	}
	numbers, err := os.ReadFile(filepath.Join(out, "numbers.txt"))
	if err != nil {
		t.Fatal(err)
	}
	digest := fmt.Sprintf("%x  /in/numbers.txt\n", sha256.Sum256(numbers))
	if got, err := os.ReadFile(filepath.Join(out, "numbers.sha256")); err != nil || string(got) != digest {
		t.Errorf("%v: %q, want %q", err, got, digest)
	}
	want := slowDigest(t, 100_000)
	if got, err := os.ReadFile(filepath.Join(out, "slow.txt")); err != nil || string(got) != want {
		t.Errorf("%v: %q, want %q", err, got, want)
	}
}

// requireC skips a test where C cannot be compiled to WebAssembly.
func requireC(t *testing.T) {
	t.Helper()
	source := filepath.Join(t.TempDir(), "nothing.c")
	if err := os.WriteFile(source, []byte("int main(void) { return 0; }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := wasmbuild.C(t.Context(), source, source+".wasm")
	if errors.Is(err, wasmbuild.ErrNoCompiler) {
		nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// commandsOfPage gives what the page tells people to type, without what installs.
func commandsOfPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../docs/examples.md")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for i, block := range strings.Split(string(page), "```") {
		body, isShell := strings.CutPrefix(block, "sh\n")
		if i%2 == 1 && isShell && !strings.HasPrefix(body, "sudo ") {
			script.WriteString(body)
		}
	}
	return script.String()
}

// startNode starts plasmd with a socket where phase looks for it, in the folder of
// the user's runtime files that it returns. It ends with the test.
func startNode(t *testing.T, plasmd string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "phase-ex") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket, config := filepath.Join(dir, "plasm", "plasmd.sock"), filepath.Join(dir, "config.json")
	content := fmt.Sprintf(`{"listen_addrs": [], "serve_port": 0, "job_socket": %q, "limits": {"max_timeout_seconds": 120}}`, socket)
	if err := errors.Join(os.Mkdir(filepath.Dir(socket), 0o700), os.WriteFile(config, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, plasmd, "start", "-c", config, "--state", filepath.Join(dir, "state"))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	cmd.Stdout, cmd.Stderr, cmd.Env = &log, &log, []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { stop(); <-ended })
	for range 1200 {
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			return dir
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("plasmd ended: %v\n%s", err, log.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatal("plasmd does not listen")
	return ""
}

// pictureSize reads a picture with a decoder that is not ours.
func pictureSize(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	picture, err := png.Decode(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	colours := map[any]bool{}
	b := picture.Bounds()
	for x := range b.Dx() {
		colours[picture.At(x, b.Dy()/2)] = true
	}
	if len(colours) < 20 {
		t.Errorf("%s has %d colours in its middle", path, len(colours))
	}
	return fmt.Sprintf("%dx%d", b.Dx(), b.Dy())
}

// slowDigest is what checksum writes for go.sum.
func slowDigest(t *testing.T, rounds int) string {
	t.Helper()
	input, err := os.ReadFile("../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(input)
	for range rounds {
		digest = sha256.Sum256(digest[:])
	}
	return fmt.Sprintf("%x  -\n", digest)
}
