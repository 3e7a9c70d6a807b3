package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBoundedLog: it never takes more than twice its bound, tears no line, and
// goes on where it was.
func TestBoundedLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access")
	l := &boundedLog{path: path, most: 1000}
	if err := l.open(); err != nil {
		t.Fatal(err)
	}
	line := []byte(strings.Repeat("x", 98) + "\n")
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 25 {
				if _, err := l.Write(line); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + ".1"} {
		data, err := os.ReadFile(name)
		if err != nil || len(data) == 0 || len(data) > 1000 || len(bytes.ReplaceAll(data, line, nil)) > 0 {
			t.Errorf("%s: %d bytes, %v", name, len(data), err)
		}
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 2 {
		t.Errorf("%d files", len(entries))
	}
	again := &boundedLog{path: path, most: 1000}
	if err := again.open(); err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for i := range 10 {
		if _, err := again.Write(line); err != nil {
			t.Fatalf("line %d: %v", i, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 1000 {
		t.Errorf("a file that was there before: %v, %v", info, err)
	}
}

// TestLogThatIsNoFile: a pipe or a device is not put aside, however much goes
// through it, and is never replaced by a file.
func TestLogThatIsNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	l := &boundedLog{path: path, most: 100}
	if err := l.open(); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 10 {
		if _, err := l.Write([]byte("forty bytes of a line that is not short\n")); err != nil {
			t.Fatal(err)
		}
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 || entries[0].Type() != os.ModeNamedPipe {
		t.Errorf("%v", entries)
	}
}

// TestLogTakenAway: whoever moves the file to keep it finds a new one.
func TestLogTakenAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access")
	l := &boundedLog{path: path, most: 10}
	if err := l.open(); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, line := range []string{"12345678\n", "abcdefgh\n"} {
		if _, err := l.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != line {
			t.Errorf("%q, %v", data, err)
		}
		if err := os.Rename(path, path+".kept"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenAccessLog(t *testing.T) {
	dir := t.TempDir()
	var rest bytes.Buffer
	file := filepath.Join(dir, "access")
	for name, c := range map[string]struct{ file, rest bool }{"": {false, true}, "-": {false, true}, "off": {false, false}, file: {true, false}} {
		rest.Reset()
		log, closer, err := openAccessLog(name, slog.New(slog.NewTextHandler(&rest, nil)))
		if err != nil {
			t.Fatal(err)
		}
		log.Info("request")
		if err := closer.Close(); err != nil {
			t.Error(err)
		}
		text, _ := os.ReadFile(file)
		if strings.Contains(string(text), "request") != c.file || strings.Contains(rest.String(), "request") != c.rest {
			t.Errorf("%q: %q in the file, %q with the rest", name, text, &rest)
		}
		os.Remove(file)
	}
	if _, _, err := openAccessLog(filepath.Join(dir, "none", "access"), nil); err == nil || !strings.Contains(err.Error(), "--access-log") {
		t.Errorf("got %v", err)
	}
}

func TestCapacity(t *testing.T) {
	for _, c := range []struct {
		files, memory uint64
		want          int
	}{
		{1 << 20, 16 << 30, 2048},
		{4096, 16 << 30, 1592},     // a kernel's first process
		{1024, 16 << 30, 227},      // a user's
		{1 << 20, 512 << 20, 1024}, // a small machine
		{100, 16 << 30, 16},
		{1 << 20, 0, 16},
	} {
		if got := capacity(c.files, c.memory); got != c.want {
			t.Errorf("%d files, %d MiB: %d, want %d", c.files, c.memory>>20, got, c.want)
		}
	}
	if got := (serveLimits{requests: 7}).total(); got != 7 {
		t.Errorf("what was asked for: %d", got)
	}
	if got := (serveLimits{}).total(); got < 16 || got > 2048 {
		t.Errorf("this machine: %d", got)
	}
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]int64{
		"": 0, "1": 1, "1000": 1000, "500k": 500 << 10, "20M": 20 << 20, "20m": 20 << 20, "1G": 1 << 30, "3K": 3 << 10,
	} {
		if got, err := parseRate(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"0", "-1", "x", "M", "1.5M", "1MB", "20 M", "1T", " 1", "+1", "99999999999999999999", "1099511627775G", "0x10", "１"} {
		if got, err := parseRate(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 9 << 20: "9437184 bytes", 10 << 20: "10 MiB", 11 << 30: "11 GiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}
