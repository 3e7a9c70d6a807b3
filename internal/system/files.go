package system

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/image"
)

// maxDocument bounds configuration files and certificates, in bytes.
const maxDocument = 4 << 20

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("system: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("system: %w", err)
	}
	if len(data) > maxDocument {
		return nil, fmt.Errorf("system: %s is larger than %d bytes", path, maxDocument)
	}
	return data, nil
}

func digestFile(path string) (blob.Digest, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return blob.Digest{}, 0, fmt.Errorf("system: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return blob.Digest{}, 0, fmt.Errorf("system: %w", err)
	}
	return blob.FromSum([32]byte(h.Sum(nil))), n, nil
}

func digestEntry(e *image.Entry) (blob.Digest, error) {
	r, err := e.Open()
	if err != nil {
		return blob.Digest{}, fmt.Errorf("system: %w", err)
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return blob.Digest{}, fmt.Errorf("system: %w", err)
	}
	return blob.FromSum([32]byte(h.Sum(nil))), nil
}

// checkInitramfs requires an archive that the kernel unpacks: cpio, bare or
// compressed with zstd or gzip. An empty or foreign file would be ignored at boot
// and end in a panic without a word.
func checkInitramfs(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("system: %w", err)
	}
	defer f.Close()
	var head [6]byte
	if _, err := io.ReadFull(f, head[:]); err == nil {
		for _, magic := range []string{"070701", "\x28\xb5\x2f\xfd", "\x1f\x8b"} {
			if strings.HasPrefix(string(head[:]), magic) {
				return nil
			}
		}
	}
	return &image.FileError{Path: path, Want: "an initramfs", Reason: "neither cpio nor zstd nor gzip"}
}

// copyFile copies src to dst; the kernel shares the blocks where it can.
func copyFile(dst, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("system: %w", err)
	}
	defer in.Close()
	out, err := os.Create(dst)
	if err != nil {
		return fmt.Errorf("system: %w", err)
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return fmt.Errorf("system: copying %s: %w", filepath.Base(src), err)
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("system: %w", err)
	}
	return nil
}

// document renders a value for a medium: indented, with a final newline.
func document(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("system: %w", err)
	}
	return append(data, '\n'), nil
}
