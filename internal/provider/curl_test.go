package provider

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/phasebased/phase/internal/nettest"
)

// TestCurl resumes a download and asks conditionally with the program that
// most people would use.
func TestCurl(t *testing.T) {
	curl := nettest.Tool(t, "curl")
	_, url := start(t, Config{})
	run := func(args ...string) []byte {
		t.Helper()
		out, err := exec.Command(curl, append([]string{"--noproxy", "*", "-sS", "--fail"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("curl %q: %v %s", args, err, out)
		}
		return out
	}
	kernel := contents["kernel"]
	path := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(path, kernel[:1_000_001], 0o644); err != nil {
		t.Fatal(err)
	}
	run("-C", "-", "-o", path, url+"/stable/x86_64/kernel")
	if got, _ := os.ReadFile(path); !bytes.Equal(got, kernel) {
		t.Errorf("resumed to %d bytes that differ", len(got))
	}
	tags := filepath.Join(t.TempDir(), "etag")
	run("--etag-save", tags, "-o", os.DevNull, url+"/manifest.json")
	code := run("--etag-compare", tags, "-o", os.DevNull, "-w", "%{http_code}", url+"/manifest.json")
	if string(code) != "304" {
		t.Errorf("unchanged manifest: status %s", code)
	}
}
