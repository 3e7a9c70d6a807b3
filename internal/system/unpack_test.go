package system

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/phasebased/phase/internal/nettest"
)

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// pack compresses n zeros.
func pack(t *testing.T, n int64, to func(io.Writer) io.WriteCloser) []byte {
	t.Helper()
	var b bytes.Buffer
	w := to(&b)
	_, err := io.CopyN(w, zeros{}, n)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestModuleBombs: modules that unpack to more than any module has.
func TestModuleBombs(t *testing.T) {
	bombs := map[string][]byte{
		".gz": pack(t, maxModule+1, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }),
		".zst": pack(t, maxModule+1, func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
			if err != nil {
				t.Fatal(err)
			}
			return z
		}),
	}
	for ext, data := range bombs {
		path := filepath.Join(t.TempDir(), "bomb.ko"+ext)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		var size *sizeError
		if got, err := readModuleFile(path); !errors.As(err, &size) {
			t.Errorf("%s: %d bytes, %v", ext, len(got), err)
		}
	}
}

// A frame may ask for any window: it is memory before a byte has come.
func TestZstdWindow(t *testing.T) {
	// Magic number, no checksum, a window of 2 TiB, then a block of zeros (RFC 8878, 3.1.1).
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 31 << 3, 0x03, 0x00, 0x10, 0x00}
	r, err := decompress(".zst", bytes.NewReader(frame))
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if !errors.Is(err, zstd.ErrWindowSizeExceeded) {
		t.Errorf("%v", err)
	}
}

// TestXZBomb: xz is ended as soon as it has written too much.
func TestXZBomb(t *testing.T) {
	cmd := exec.Command(nettest.Tool(t, "xz"), "-0", "-c")
	cmd.Stdin = io.LimitReader(zeros{}, 64<<20)
	bomb, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var size *sizeError
	if got, err := unxz(bytes.NewReader(bomb), 1<<20); !errors.As(err, &size) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if got, err := unxz(bytes.NewReader(bomb), 64<<20); err != nil || len(got) != 64<<20 {
		t.Errorf("just within the limit: %d bytes, %v", len(got), err)
	}
	if _, err := unxz(bytes.NewReader(bomb[:len(bomb)/2]), 64<<20); err == nil {
		t.Error("half an archive was taken for a whole one")
	}
}
