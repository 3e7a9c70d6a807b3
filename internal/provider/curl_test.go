package provider

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/nettest"
)

// tool returns a function that runs a program that people download with.
func tool(t *testing.T, name string, always ...string) func(args ...string) string {
	path := nettest.Tool(t, name)
	return func(args ...string) string {
		t.Helper()
		out, err := exec.Command(path, append(always, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v %s", name, args, err, out)
		}
		return string(out)
	}
}

// part writes the first bytes of a file, as an interrupted download leaves it.
func part(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "part")
	write(t, "/", path, data)
	return path
}

// holds fails unless the file has these bytes.
func holds(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes that differ, %v", path, len(got), err)
	}
}

// TestCurl resumes, asks for a part and asks conditionally with the program that
// most people would use.
func TestCurl(t *testing.T) {
	curl := tool(t, "curl", "--noproxy", "*", "-sS", "--fail")
	base := t.TempDir()
	publish(t, base, 7)
	age(t, filepath.Join(base, "stable/x86_64/manifest.json"))
	_, url := start(t, Config{Base: base})
	kernel := contents["kernel"]
	path := part(t, kernel[:1_000_001])
	curl("-C", "-", "-o", path, url+"/"+blobPath(kernel))
	holds(t, path, kernel)
	curl("-r", "7-1000006", "-o", path, url+"/stable/x86_64/kernel")
	holds(t, path, kernel[7:1_000_007])

	tags, code := filepath.Join(t.TempDir(), "etag"), []string{"-o", os.DevNull, "-w", "%{http_code}"}
	curl("--etag-save", tags, "-o", os.DevNull, url+"/manifest.json")
	if got := curl(append(code, "--etag-compare", tags, url+"/manifest.json")...); got != "304" {
		t.Errorf("unchanged manifest: status %s", got)
	}
	curl("-R", "-o", path, url+"/manifest.json")
	if got := curl(append(code, "-z", path, url+"/manifest.json")...); got != "304" {
		t.Errorf("manifest of the same date: status %s", got)
	}
	if got := curl("-I", "-o", os.DevNull, "-w", "%{http_code} %header{x-artifact-hash} %header{content-length} %header{accept-ranges}", url+"/stable/x86_64/kernel"); got != "200 "+blob.Of(kernel).String()+" 3500000 bytes" {
		t.Errorf("HEAD: %s", got)
	}
}

// TestAria2 downloads over several connections and checks the sum.
func TestAria2(t *testing.T) {
	aria2 := tool(t, "aria2c", "--no-conf", "--all-proxy=", "--console-log-level=warn", "--summary-interval=0", "--file-allocation=none",
		"--max-connection-per-server=4", "--split=4", "--min-split-size=1M", "--allow-overwrite")
	p, url, path := startBig(t, Config{})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	aria2("--checksum=sha-256="+blob.Of(whole).Hex(), "--dir="+dir, "--out=kernel", url+"/"+blobPath(whole))
	holds(t, filepath.Join(dir, "kernel"), whole)
	parts := int64(0)
	for o, n := range p.counters.snapshot() {
		if o.status == 206 {
			parts += n.requests
		}
	}
	if parts < 3 {
		t.Errorf("%d requests for a part", parts)
	}
}

// TestWget resumes with the other program that most people would use, where it is
// installed: what curl proves is enough.
func TestWget(t *testing.T) {
	if _, err := exec.LookPath("wget"); err != nil {
		t.Skip(err)
	}
	wget := tool(t, "wget", "--no-config", "--no-proxy", "-q", "--tries=1")
	_, url := start(t, Config{})
	kernel := contents["kernel"]
	path := part(t, kernel[:1_000_001])
	wget("-c", "-O", path, url+"/"+blobPath(kernel))
	holds(t, path, kernel)
}
