package image

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/phasebased/phase/internal/nettest"
)

// TestSquashfsIsCompared compares a squashfs with trees that differ from it only
// in the content of one file.
func TestSquashfsIsCompared(t *testing.T) {
	nettest.Tool(t, "mksquashfs")
	big := writeFile(t, "big", append(pattern(700_000), make([]byte, 700_000)...))
	path := filepath.Join(t.TempDir(), "x")
	tree := squashTree(big)
	if err := (Squashfs{Time: epoch}).Write(t.Context(), path, tree); err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]*Tree{
		"blocks":   squashTree(writeFile(t, "other", append([]byte("x"), append(pattern(700_000), make([]byte, 700_000)...)[1:]...))),
		"fragment": squashTree(writeFile(t, "end", append(append(pattern(700_000), make([]byte, 699_999)...), 'x'))),
	} {
		entries, err := other.Entries()
		if err != nil {
			t.Fatal(err)
		}
		if err := checkSquashfs(path, entries); err == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
}

// TestPackDamagedSquashfs changes every third byte of a squashfs's tables: the packer may
// refuse it or not, but must not panic.
func TestPackDamagedSquashfs(t *testing.T) {
	nettest.Tool(t, "mksquashfs")
	s := Squashfs{Time: epoch, Processors: 1, BlockSize: 4096}
	tree := squashTree(writeFile(t, "big", pattern(20_000)))
	entries, err := tree.Entries()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := s.writePlain(t.Context(), plain, entries); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for at := 0; at < len(good); at += 3 {
		if at == superSize {
			at += 20_000 // contents
		}
		bad := append([]byte(nil), good...)
		bad[at] ^= 0x81
		if err := os.WriteFile(plain, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if s.pack(filepath.Join(dir, "packed"), plain) != nil {
			refused++
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
}
