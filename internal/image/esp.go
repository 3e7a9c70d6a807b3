package image

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// Bounds on what is read of a boot partition.
const (
	maxESPFile  = 512 << 20
	maxESPTotal = 2 << 30
)

// ErrNoESP says that a disk has no EFI system partition.
var ErrNoESP = errors.New("no EFI system partition")

// ReadESP returns the files of the EFI system partition of a disk of size bytes that
// want asks for, by their paths. It reads partitions as this project writes them.
func ReadESP(r io.ReaderAt, size int64, want func(path string) bool) (map[string][]byte, error) {
	parts, err := ReadGPT(r, size)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(parts, func(p Partition) bool { return p.Type == TypeESP() })
	if at < 0 {
		return nil, fmt.Errorf("image: %w", ErrNoESP)
	}
	esp := io.NewSectionReader(r, parts[at].Offset, parts[at].Size)
	list, err := readFAT32(esp, esp.Size())
	if err != nil {
		return nil, err
	}
	files, total := map[string][]byte{}, int64(0)
	for _, f := range list {
		if f.dir || !want(f.path) {
			continue
		}
		if total += f.size; f.size > maxESPFile || total > maxESPTotal {
			return nil, fmt.Errorf("image: %s: %w", f.path, fatError("more bytes than it should have"))
		}
		data := make([]byte, f.size)
		if _, err := io.ReadFull(io.NewSectionReader(esp, f.offset, f.size), data); err != nil {
			return nil, fmt.Errorf("image: %s: %w", f.path, err)
		}
		files[f.path] = data
	}
	return files, nil
}
