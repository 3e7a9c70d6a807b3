package vm_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/lab"
)

// TestTroubledCaches boots media whose cache is damaged, full, missing or cannot be
// written. None of that is needed to boot: the machine says what is wrong and gets
// to its receipt.
func TestTroubledCaches(t *testing.T) {
	t.Parallel()
	b := setup(t)
	needE2fsprogs(t)
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{})
	pristine, err := os.ReadFile(b.image)
	if err != nil {
		t.Fatal(err)
	}
	const without = "WARNING: going on without a cache"
	for _, c := range []struct {
		name   string
		damage func(b *bench)
		o      lab.BootOptions
		says   string
	}{
		{"garbage", (*bench).fillWithGarbage, lab.BootOptions{}, without},
		{"damaged superblock", (*bench).breakSuperblock, lab.BootOptions{}, without},
		{"full of foreign files", (*bench).fillCache, lab.BootOptions{}, "WARNING"},
		{"full of old blobs", (*bench).fillStore, lab.BootOptions{}, ""},
		{"absent", (*bench).withoutCache, lab.BootOptions{}, without},
		{"write-protected", func(*bench) {}, lab.BootOptions{ReadOnly: true}, without},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := *b
			b.T = t
			if err := os.WriteFile(b.image, pristine, 0o644); err != nil {
				t.Fatal(err)
			}
			c.damage(&b)
			outcome, console := b.boot(c.o)
			b.verified(outcome, console)
			b.shows(console, c.says)
			if c.name == "full of old blobs" {
				b.keepsKernel()
			}
		})
	}
}

// fillWithGarbage leaves nothing of the file system.
func (b *bench) fillWithGarbage() {
	garbage := make([]byte, b.cache.Size)
	rand.NewChaCha8([32]byte{6}).Read(garbage)
	b.writeCache(0, garbage)
}

// breakSuperblock changes one number in the file system's description, which its
// checksum covers.
func (b *bench) breakSuperblock() {
	const superblock, blocks = 1024, 4 // the number of blocks, by Documentation/filesystems/ext4
	b.writeCache(superblock+blocks, []byte{0xff, 0xff, 0xff, 0x7f})
}

// fillCache leaves no room in the file system, and nothing of ours.
func (b *bench) fillCache() {
	b.fill("", func(n int) string { return fmt.Sprintf("foreign-%d", n) })
}

// fillStore fills the store up to its limit, nine tenths of the partition, with what
// nobody needs any more.
func (b *bench) fillStore() {
	b.fill("mkdir store\nmkdir store/tmp\nmkdir store/pins\nmkdir store/blobs\nmkdir store/blobs/00\n", func(n int) string {
		if int64(n+1)*fillSize > b.cache.Size*9/10 {
			return ""
		}
		return fmt.Sprintf("store/blobs/00/%064x.bin", n)
	})
}

// keepsKernel asserts that the new kernel has taken the place of what nobody needs.
func (b *bench) keepsKernel() {
	b.Helper()
	hex := b.lab.Node.Kernel.Digest.Hex()
	if said := b.cacheSays("stat /store/blobs/" + hex[:2] + "/" + hex + ".bin"); !strings.Contains(said, "Inode:") {
		b.Errorf("the cache does not hold the kernel that was booted: %s", said)
	}
}

// fillSize is the size in bytes of each file that fill writes.
const fillSize = 8 << 20

// fill lets debugfs(8) write files of these names until nothing goes in any more, or
// there is no further name.
func (b *bench) fill(commands string, name func(n int) string) {
	b.Helper()
	dir := b.TempDir()
	source, script, path := filepath.Join(dir, "source"), filepath.Join(dir, "commands"), filepath.Join(dir, "cache.img")
	all := true
	for n := range b.cache.Size/fillSize + 1 {
		next := name(int(n))
		if next == "" {
			all = false
			break
		}
		commands += "write " + source + " " + next + "\n"
	}
	for file, data := range map[string][]byte{source: bytes.Repeat([]byte("foreign "), fillSize/8), script: []byte(commands), path: b.readCache()} {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	b.tool("debugfs", "-w", "-f", script, path)
	b.tool("e2fsck", "-fy", path)
	if said := b.tool("debugfs", "-R", "stats -h", path); all && !regexp.MustCompile(`(?m)^Free blocks: +[0-9]{1,3}$`).MatchString(said) {
		b.Fatalf("the cache is not full: %s", said)
	}
	full, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	b.writeCache(0, full)
}

// withoutCache makes a medium that has none.
func (b *bench) withoutCache() { b.medium(lab.ImageOptions{Cache: -1}) }
