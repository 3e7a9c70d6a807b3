package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/phasebased/phase/internal/nettest"
)

func cpioTree(big string) *Tree {
	var t Tree
	t.Dir("proc", 0o555)
	t.Bytes("init", 0o755, []byte("#!/bin/true\n"))
	t.Symlink("bin/phase-verify", "/init")
	t.CharDevice("dev/console", 0o600, 5, 1)
	t.File("lib/big", 0o644, big)
	t.Bytes("empty", 0o644, nil)
	return &t
}

// listCPIO is an independent reader of the format, strict about alignment.
func listCPIO(t *testing.T, b []byte) []string {
	t.Helper()
	var list []string
	for pos := 0; ; {
		if string(b[pos:pos+6]) != "070701" {
			t.Fatalf("no magic at %d", pos)
		}
		field := func(i int) int {
			v, err := strconv.ParseUint(string(b[pos+6+8*i:pos+14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(v)
		}
		size, nameLen := field(6), field(11)
		name := string(b[pos+110 : pos+110+nameLen-1])
		data := (pos + 110 + nameLen + 3) &^ 3
		if name == "TRAILER!!!" {
			if len(b)%512 != 0 {
				t.Errorf("length %d is not a multiple of 512", len(b))
			}
			return list
		}
		list = append(list, fmt.Sprintf("%s %o %d,%d uid=%d gid=%d t=%d %d", name, field(1), field(9), field(10), field(2), field(3), field(5), size))
		pos = (data + size + 3) &^ 3
	}
}

func TestCPIO(t *testing.T) {
	big := writeFile(t, "big", pattern(100_001))
	var a bytes.Buffer
	if err := WriteCPIO(&a, cpioTree(big), epoch); err != nil {
		t.Fatal(err)
	}
	stamp := epoch.Unix()
	want := []string{
		"bin 40755 0,0 uid=0 gid=0 t=%d 0",
		"bin/phase-verify 120777 0,0 uid=0 gid=0 t=%d 5",
		"dev 40755 0,0 uid=0 gid=0 t=%d 0",
		"dev/console 20600 5,1 uid=0 gid=0 t=%d 0",
		"empty 100644 0,0 uid=0 gid=0 t=%d 0",
		"init 100755 0,0 uid=0 gid=0 t=%d 12",
		"lib 40755 0,0 uid=0 gid=0 t=%d 0",
		"lib/big 100644 0,0 uid=0 gid=0 t=%d 100001",
		"proc 40555 0,0 uid=0 gid=0 t=%d 0",
	}
	got := listCPIO(t, a.Bytes())
	for i := range want {
		if w := fmt.Sprintf(want[i], stamp); i >= len(got) || got[i] != w {
			t.Errorf("entry %d: got %q\nwant %q", i, got[i], w)
		}
	}
	touch(t, big)
	var b bytes.Buffer
	if err := WriteCPIO(&b, cpioTree(big), epoch); err != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Errorf("two builds differ (err %v)", err)
	}
}

func TestCPIOByTool(t *testing.T) {
	var a bytes.Buffer
	if err := WriteCPIO(&a, cpioTree(writeFile(t, "big", pattern(5000))), epoch); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(nettest.Tool(t, "cpio"), "-t", "--quiet")
	cmd.Stdin = &a
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "\n") != 9 {
		t.Errorf("cpio -t: %v\n%s", err, out)
	}
}

func TestCPIORefusals(t *testing.T) {
	huge := &Tree{}
	huge.add(&Entry{Path: "huge", Size: 1 << 33})
	odd := &Tree{}
	odd.add(&Entry{Path: "pipe", Mode: fs.ModeNamedPipe})
	gone := writeFile(t, "gone", []byte("x"))
	missing := &Tree{}
	missing.File("gone", 0o644, gone)
	os.Remove(gone)
	trailer := &Tree{}
	trailer.Bytes("TRAILER!!!", 0o644, nil)
	for name, tree := range map[string]*Tree{"trailer": trailer, "over 4 GiB": huge, "named pipe": odd, "vanished source": missing} {
		if err := WriteCPIO(io.Discard, tree, epoch); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := WriteCPIO(io.Discard, &Tree{}, time.Unix(-1, 0)); err == nil {
		t.Error("time before 1970 accepted")
	}
	if err := WriteCPIO(&failingWriter{left: 1000}, cpioTree(writeFile(t, "b", pattern(9000))), epoch); err == nil {
		t.Error("write error lost")
	}
}

// failingWriter accepts a number of bytes and then reports a full disk.
type failingWriter struct{ left int }

func (f *failingWriter) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, fmt.Errorf("no space")
	}
	return len(p), nil
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.Chtimes(path, time.Unix(1e9, 0), time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
}

// TestZstd compresses more than the pieces that are compressed at the same time,
// with parts that repeat across their borders.
func TestZstd(t *testing.T) {
	data := slices.Concat(pattern(5<<20), make([]byte, 1<<20), pattern(13<<20))
	compress := func(processors int) []byte {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors))
		var b bytes.Buffer
		w, err := NewZstdWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		for chunk := range slices.Chunk(data, 99_999) {
			w.Write(chunk)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	a := compress(1)
	for _, processors := range []int{2, 5} {
		if !bytes.Equal(a, compress(processors)) {
			t.Errorf("%d processors give other bytes than one", processors)
		}
	}
	var frame zstd.Header
	if err := frame.Decode(a); err != nil || frame.WindowSize != zstdWindow || !frame.HasCheckSum {
		t.Errorf("frame header %+v (%v)", frame, err)
	}
	r, err := zstd.NewReader(bytes.NewReader(a), zstd.WithDecoderMaxWindow(zstdWindow))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	back, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(back, data) {
		t.Errorf("round trip: %d bytes, %v", len(back), err)
	}
}

// TestZstdByTool has the reference decoder read a frame of several pieces.
func TestZstdByTool(t *testing.T) {
	data := slices.Concat(pattern(9<<20), pattern(9<<20))
	path := filepath.Join(t.TempDir(), "x.zst")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := NewZstdWriter(f)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	back := filepath.Join(t.TempDir(), "x")
	run(t, "zstd", "-dq", path, "-o", back)
	sameFiles(t, back, writeFile(t, "data", data))
}

func TestInitramfsLength(t *testing.T) {
	seen := map[int]bool{}
	for i := range 40 {
		var tree Tree
		tree.Bytes(strings.Repeat("n", i+1), 0o644, pattern(100+i*7))
		var b bytes.Buffer
		if err := WriteInitramfs(&b, &tree, epoch); err != nil {
			t.Fatal(err)
		}
		if b.Len()%4 != 0 {
			t.Errorf("length %d is not a multiple of four", b.Len())
		}
		data := bytes.TrimRight(b.Bytes(), "\x00")
		seen[len(data)%4] = true
		if b.Len()-len(data) > 8 {
			t.Errorf("%d bytes of padding", b.Len()-len(data))
		}
	}
	if len(seen) < 3 {
		t.Errorf("the test met only %d remainders", len(seen))
	}
	if err := WriteInitramfs(&failingWriter{}, cpioTree(writeFile(t, "b", pattern(9000))), epoch); err == nil {
		t.Error("write error lost")
	}
}
