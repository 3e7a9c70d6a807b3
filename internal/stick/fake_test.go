package stick

import (
	"bytes"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/phasebased/phase/internal/image"
)

// memory is a stick of which nothing is as it should be, if a test wants that.
type memory struct {
	size    int64
	real    int64 // bytes that there are; 0: all
	beyond  func(m *memory, at int64) (int64, bool)
	data    []byte
	pending []piece // not yet confirmed
	zeroes  bool    // it can make zeros
	worn    bool    // it takes writes, and forgets them

	fail   func(op string, at, n int64) error // asked before each operation
	ops    int
	sent   int64 // bytes written
	ahead  int64 // bytes written since the last Sync
	synced []int64
}

func newMemory(size int64) *memory { return &memory{size: size, data: make([]byte, size)} }

func (m *memory) Size() int64 { return m.size }

func wraps(m *memory, at int64) (int64, bool) { return at % m.real, true }
func drops(*memory, int64) (int64, bool)      { return 0, false }
func limbo(m *memory, at int64) (int64, bool) { return m.real + at%markSize, true }

// each does something to every part of a range that lies in one piece; to is -1 for
// one that is nowhere.
func (m *memory) each(at, n int64, do func(from, to, n int64)) {
	if m.real == 0 || at+n <= m.real {
		do(0, at, n)
		return
	}
	for i := int64(0); i < n; i += sector {
		to, ok := at+i, true
		if to >= m.real {
			to, ok = m.beyond(m, to)
		}
		if !ok {
			to = -1
		}
		do(i, to, sector)
	}
}

func (m *memory) ask(op string, at, n int64) error {
	m.ops++
	if at%sector != 0 || n%sector != 0 || at < 0 || at+n > m.size {
		return syscall.EINVAL
	}
	if m.fail != nil {
		return m.fail(op, at, n)
	}
	return nil
}

func (m *memory) WriteAt(p []byte, at int64) (int, error) {
	if err := m.ask("write", at, int64(len(p))); err != nil {
		return 0, err
	}
	m.sent += int64(len(p))
	m.ahead += int64(len(p))
	m.each(at, int64(len(p)), func(from, to, n int64) {
		if to >= 0 && !m.worn {
			m.pending = append(m.pending, piece{to, bytes.Clone(p[from : from+n])})
		}
	})
	return len(p), nil
}

// ReadAt reads what was confirmed, as after Drop: whoever reads something else than
// that has forgotten to ask for it.
func (m *memory) ReadAt(p []byte, at int64) (int, error) {
	if err := m.ask("read", at, int64(len(p))); err != nil {
		return 0, err
	}
	m.each(at, int64(len(p)), func(from, to, n int64) {
		if to < 0 {
			clear(p[from : from+n])
			return
		}
		copy(p[from:from+n], m.data[to:])
	})
	return len(p), nil
}

func (m *memory) Sync() error {
	if err := m.ask("sync", 0, 0); err != nil {
		return err
	}
	for _, w := range m.pending {
		copy(m.data[w.at:], w.data)
	}
	m.synced = append(m.synced, m.ahead)
	m.pending, m.ahead = nil, 0
	return nil
}

func (m *memory) Zero(at, n int64) (bool, error) {
	if !m.zeroes {
		return false, nil
	}
	if err := m.ask("zero", at, n); err != nil {
		return false, err
	}
	m.each(at, n, func(_, to, n int64) {
		if to >= 0 {
			m.pending = append(m.pending, piece{to, make([]byte, n)})
		}
	})
	return true, nil
}

func (m *memory) Drop() error         { return m.ask("drop", 0, 0) }
func (m *memory) Gone(err error) bool { return errors.Is(err, syscall.ENODEV) }

// dirty is a stick that was in use: every block has something in it, among that an
// old image with its tables.
func dirty(t *testing.T, size int64) *memory {
	t.Helper()
	m := newMemory(size)
	for i := range m.data {
		m.data[i] = 0xa5
	}
	old, err := os.ReadFile(testImage(t, size/mib*mib, "old"))
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(old); at += sector {
		if c := old[at : at+sector]; !allZero(c) {
			copy(m.data[at:], c)
		}
	}
	return m
}

// testImage makes a small image of ours: a boot partition with a FAT boot sector,
// one with a squashfs, one that is empty but for a superblock.
func testImage(t *testing.T, size int64, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name+".img")
	rest := size - 2*mib - 6*mib
	parts := []image.Partition{
		{Label: "phase-esp", Type: image.TypeESP(), ID: image.DeriveGUID(name, "1"), Size: 4 * mib},
		{Label: "phase-seed", Type: image.TypeLinux(), ID: image.DeriveGUID(name, "2"), Size: 2 * mib},
		{Label: "phase-cache", Type: image.TypeLinux(), ID: image.DeriveGUID(name, "3"), Size: rest},
	}
	placed, total, err := image.Layout(parts)
	if err != nil || total != size {
		t.Fatalf("layout of %d bytes, want %d: %v", total, size, err)
	}
	f, err := image.CreateSparse(path, size)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := image.WriteGPT(f, image.DeriveGUID(name), placed, size); err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct {
		at   int64
		data []byte
	}{
		{placed[0].Offset, bootSector()}, {placed[0].Offset + 6*sector, bootSector()},
		{placed[0].Offset + 100<<10, noise(3*mib, name)}, {placed[1].Offset, append([]byte("hsqs"), noise(2*mib-4, name)...)},
		{placed[2].Offset + 1080, []byte{0x53, 0xef}}, {placed[2].Offset + rest - 4096, noise(4096, name)},
	} {
		if _, err := f.WriteAt(p.data, p.at); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func bootSector() []byte {
	b := make([]byte, sector)
	copy(b, "\xeb\x58\x90mkfs.fat")
	copy(b[82:], "FAT32   ")
	b[510], b[511] = 0x55, 0xaa
	return b
}

func noise(n int, seed string) []byte {
	m := marks{}
	copy(m.seed[:], seed)
	b := make([]byte, n)
	m.fill(b, int64(n))
	copy(b, "not a mark, but noise.......")
	return b
}

func crc(b []byte) uint32 { return crc32.ChecksumIEEE(b) }
