package fetch

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/nettest"
)

// TestPythonServer fetches from a server that we did not write: HTTP/1.0, no
// ranges, no entity tags, as people use to publish a folder in a hurry.
func TestPythonServer(t *testing.T) {
	python := nettest.Tool(t, "python3")
	dir := t.TempDir()
	data := content(5 << 20)
	if err := os.WriteFile(filepath.Join(dir, "kernel"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", dir, "0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("python3 does not start: %v", err)
	}
	defer func() { cancel(); cmd.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n') // Serving HTTP on … (http://127.0.0.1:port/) ...
	_, after, ok := strings.Cut(line, "(")
	url, _, ok2 := strings.Cut(after, ")")
	if err != nil || !ok || !ok2 {
		nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", fmt.Sprintf("python3 -m http.server said %q, %v", line, err))
	}
	f := quick(t)
	mustFile(t, f, jobFor(data, url+"kernel"), data)
	_, err = f.file(context.Background(), jobFor(data, url+"missing"))
	if err == nil || !strings.Contains(attempts(err), "404") {
		t.Errorf("missing file: %v%s", err, attempts(err))
	}
	// Its listing of a folder is a web page.
	if _, err := f.Get(context.Background(), url, 1<<20); err == nil {
		t.Error("a directory listing was taken for a document")
	}
}
