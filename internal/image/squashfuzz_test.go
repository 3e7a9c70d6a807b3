package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/nettest"
)

// FuzzPackSquashfs packs what mksquashfs might have written, and reads it back: it is
// refused or understood, within bounds. The committed seeds are squashfs of
// mksquashfs, whole and damaged.
func FuzzPackSquashfs(f *testing.F) {
	f.Add([]byte("hsqs"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<20 {
			return
		}
		dir := t.TempDir()
		in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
		check(t, os.WriteFile(in, data, 0o600))
		_ = checkSquashfs(in, nil)
		if (Squashfs{Processors: 1}).pack(out, in) != nil {
			return
		}
		_ = checkSquashfs(out, nil)
	})
}

// TestSquashfsBombs refuses a squashfs whose tables claim more than there is.
func TestSquashfsBombs(t *testing.T) {
	nettest.Require(t, "mksquashfs")
	entries, err := squashTree(writeFile(t, "big", pattern(20_000))).Entries()
	check(t, err)
	plain := filepath.Join(t.TempDir(), "plain")
	check(t, Squashfs{Time: epoch, Processors: 1, BlockSize: 4096}.writePlain(t.Context(), plain, entries))
	good, err := os.ReadFile(plain)
	check(t, err)
	le := binary.LittleEndian
	for name, change := range map[string]func(b []byte) []byte{
		"empty":              func([]byte) []byte { return nil },
		"no magic":           func(b []byte) []byte { b[0] = 0; return b },
		"cut in the super":   func(b []byte) []byte { return b[:superSize-1] },
		"cut in the tables":  func(b []byte) []byte { return b[:len(b)/2] },
		"block size 0":       func(b []byte) []byte { le.PutUint32(b[12:], 0); return b },
		"block of 2 GiB":     func(b []byte) []byte { le.PutUint32(b[12:], 1<<31); return b },
		"2^32 - 1 fragments": func(b []byte) []byte { le.PutUint32(b[16:], 1<<32-1); return b },
		"2^62 bytes used":    func(b []byte) []byte { le.PutUint64(b[40:], 1<<62); return b },
		"inodes in the super": func(b []byte) []byte {
			le.PutUint64(b[64:], 1)
			return b
		},
		"folders before inodes": func(b []byte) []byte { le.PutUint64(b[72:], superSize); return b },
		"negative fragments":    func(b []byte) []byte { le.PutUint64(b[80:], 1<<63); return b },
	} {
		check(t, os.WriteFile(plain, change(bytes.Clone(good)), 0o600))
		err := Squashfs{Processors: 1}.pack(plain+".packed", plain)
		if !errors.Is(err, errSquash) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
}

// FuzzTree fills a tree with names, and writes what it accepts: nothing that leaves
// the tree, follows a link or takes another's place comes into an archive.
func FuzzTree(f *testing.F) {
	for _, names := range [][2]string{
		{"a", "b"}, {"../etc/passwd", "x"}, {"/etc/passwd", "x"}, {"a/../../b", "x"}, {"link", "link/passwd"},
		{"a\x00b", "x"}, {"a\nb", "x"}, {"TRAILER!!!", "x"}, {"a//b", "./a"}, {"\xff", "é"}, {"CON", "con"},
	} {
		f.Add(names[0], names[1], "/etc")
	}
	f.Fuzz(func(t *testing.T, first, second, target string) {
		tree := &Tree{}
		tree.Symlink(first, target)
		tree.Bytes(second, 0o644, []byte("content"))
		var archive bytes.Buffer
		err := WriteCPIO(&archive, tree, time.Unix(0, 0))
		if err != nil {
			if archive.Len() > 0 && tree.Err() != nil {
				t.Error("a tree with a mistake in it was written in part")
			}
			return
		}
		if !fs.ValidPath(first) || !fs.ValidPath(second) || first == second {
			t.Errorf("%q and %q were accepted", first, second)
		}
		if len(second) > len(first) && second[:len(first)+1] == first+"/" {
			t.Errorf("%q was written through the link %q", second, first)
		}
	})
}
