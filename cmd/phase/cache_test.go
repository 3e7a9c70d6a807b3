package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/store"
)

// TestCachePageIsRun: what docs/cache.md tells people to type is what the script
// runs.
func TestCachePageIsRun(t *testing.T) {
	page, err := os.ReadFile("../../docs/cache.md")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("testdata/script/cache.txt")
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]bool{}
	for line := range strings.Lines(string(script)) {
		if _, command, ok := strings.Cut(line, "exec "); ok {
			ran[strings.TrimSpace(command)] = true
		}
	}
	shown := commandsOf(string(page))
	if len(shown) < 5 {
		t.Errorf("only %d commands found on the page", len(shown))
	}
	for _, command := range shown {
		if !ran[strings.TrimSpace(command)] {
			t.Errorf("the script does not run: %s", command)
		}
	}
}

func TestCacheUsageErrors(t *testing.T) {
	for _, args := range []string{
		"frob", "ls x", "ls --format xml", "verify --format xml", "verify x", "gc x", "path x", "path --dir x",
		"gc --limit 0", "gc --limit -1", "gc --limit +1", "gc --limit 1.5G", "gc --limit G", "gc --limit 1KB",
		"gc --limit 1GiBB", "gc --limit 9223372036854775808", "gc --limit 10000000T", "gc --limit=", "gc --format xml",
	} {
		wrongUsage(t, "cache "+args)
	}
}

// TestCacheWords: what strangers can name is cleaned, and what was left in its
// place is said with the reason.
func TestCacheWords(t *testing.T) {
	var out bytes.Buffer
	report := store.VerifyReport{Blobs: 1, Findings: []store.Finding{
		{Digest: blob.Of(nil), Err: errors.New("read /x\x1b[2J"), Left: errors.New("read-only file system")},
	}}
	if err := newCacheVerified("dir", report).text(&out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "left in its place: read-only file system") || strings.Contains(got, "\x1b") {
		t.Errorf("%q", got)
	}
	left := &rotError{rotten: 1, blobs: 1, left: 1}
	if left.Hint() == (&rotError{}).Hint() || left.Hint() == "" {
		t.Errorf("%q", left.Hint())
	}
	out.Reset()
	l := cacheList{Dir: "dir\x1b[2J"}
	l.addPart(store.PartialInfo{Digest: blob.Of(nil), Size: 1e6, OnDisk: 5e5, Used: time.Unix(0, 0), Writing: true}, []string{"x\x1b"})
	if err := l.text(&out); err != nil || strings.Contains(out.String(), "\x1b") || !strings.Contains(out.String(), "500.0 kB of 1.0 MB  1970-01-01 00:00:00  (arriving)") {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// TestVerifyOfWhatCannotBeWritten: what cannot be put aside is named all the same.
func TestVerifyOfWhatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "blobs", blob.Of(nil).Hex()[:2], blob.Of(nil).Hex()+".bin")
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("x"), 0o644),
		os.WriteFile(filepath.Join(dir, "tmp"), nil, 0o644)); err != nil { // so that there is no lock
		t.Fatal(err)
	}
	var out bytes.Buffer
	o := cacheOptions{dir: dir, format: "text"}
	var rot *rotError
	if err := o.verify(t.Context(), &out); !errors.As(err, &rot) || rot.left != 1 || !strings.Contains(out.String(), "left in its place") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
