package image

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/nettest"
)

// shapes are trees that writers find hard, by name. Each can go onto any file system
// but FAT, whose shapes have no links.
func shapes(t *testing.T) map[string]*Tree {
	t.Helper()
	tiny, typical, names, many, borders, both := &Tree{}, &Tree{}, &Tree{}, &Tree{}, &Tree{}, &Tree{}
	tiny.Bytes("a", 0o644, []byte("x"))

	typical.Bytes("etc/hostname", 0o644, []byte("phase\n"))
	typical.Dir("root", 0o700)
	typical.Bytes("usr/bin/plasmd", 0o755, pattern(90_001))
	typical.File("usr/lib/big", 0o644, writeFile(t, "big", append(pattern(600_000), make([]byte, 1<<20)...)))
	typical.Symlink("bin", "usr/bin")
	typical.Symlink("etc/resolv.conf", "/run/resolv.conf")
	typical.Symlink("far", strings.Repeat("../", 300)+"nowhere")
	typical.Symlink("unicode", "../ü")

	names.Bytes("Überlänge über dreizehn Zeichen.txt", 0o644, []byte("unicode"))
	names.Bytes("🚀", 0o644, []byte("two UTF-16 units"))
	names.Bytes("日本語/ファイル", 0o600, []byte("unicode"))
	names.Bytes(strings.Repeat("n", maxEROFSName), 0o644, []byte("long"))
	names.Bytes(strings.Repeat("d", 200)+"/"+strings.Repeat("e", 200)+"/"+strings.Repeat("f", 200), 0o644, []byte("deep"))
	names.Bytes("a b", 0o644, []byte("space"))
	names.Bytes("a-b", 0o644, nil)
	names.Bytes("a/b", 0o644, nil)
	names.Bytes("-rf", 0o644, []byte("looks like an option"))

	for i := range 1000 {
		many.Bytes(fmt.Sprintf("d%02d/file number %04d", i%7, i), 0o644, []byte(strings.Repeat("x", i%50)))
	}

	for _, n := range []int{0, 1, 511, 4095, 4096, 4097, 256<<10 - 1, 256 << 10, 256<<10 + 1} {
		borders.Bytes(fmt.Sprintf("full-%d", n), 0o644, pattern(n))
		borders.Bytes(fmt.Sprintf("zero-%d", n), 0o644, make([]byte, n))
	}
	borders.File("hole", 0o644, sparseFile(t, 40<<20))

	for _, name := range []string{"EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/BOOTAA64.EFI", "phase/x86_64/vmlinuz", "phase/arm64/vmlinuz"} {
		both.Bytes(name, 0o644, pattern(70_000+len(name)))
	}
	return map[string]*Tree{"tiny": tiny, "typical": typical, "names": names, "many": many, "borders": borders, "two architectures": both}
}

// sparseFile is a file of zeros that takes no room.
func sparseFile(t *testing.T, size int64) string {
	t.Helper()
	f, err := CreateSparse(filepath.Join(t.TempDir(), "sparse"), size)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	return f.Name()
}

// A judged container is written by us and taken apart by the programs of others.
type judged struct {
	tools []string
	write func(t *testing.T, path string, tree *Tree)
	// judge checks the container at path and unpacks it into dir, which is not there.
	judge func(t *testing.T, path, dir string)
	fat   bool // knows neither links nor permissions
}

var containers = map[string]judged{
	"cpio": {
		tools: []string{"cpio"},
		write: func(t *testing.T, path string, tree *Tree) {
			create(t, path, func(f *os.File) error { return WriteCPIO(f, tree, epoch) })
		},
		judge: func(t *testing.T, path, dir string) {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			in, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			cmd := exec.Command(nettest.Tool(t, "cpio"), "-idm", "--quiet", "--no-absolute-filenames")
			cmd.Dir, cmd.Stdin = dir, in
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("cpio: %v: %s", err, out)
			}
		},
	},
	"squashfs": {
		tools: []string{"mksquashfs", "unsquashfs"},
		write: func(t *testing.T, path string, tree *Tree) {
			check(t, Squashfs{Time: epoch}.Write(t.Context(), path, tree))
		},
		judge: func(t *testing.T, path, dir string) { run(t, "unsquashfs", "-q", "-n", "-d", dir, path) },
	},
	"erofs": {
		tools: []string{"mkfs.erofs", "fsck.erofs"},
		write: func(t *testing.T, path string, tree *Tree) {
			check(t, EROFS{Time: epoch}.Write(t.Context(), path, tree))
		},
		judge: func(t *testing.T, path, dir string) { run(t, "fsck.erofs", "--extract="+dir, path) },
	},
	"fat32": {
		tools: []string{"fsck.fat", "mcopy"},
		write: func(t *testing.T, path string, tree *Tree) {
			create(t, path, func(f *os.File) error {
				const size = 640 << 20
				return FAT32{Label: "PHASE-ESP", Size: size, Time: epoch}.Write(f, tree)
			})
			check(t, os.Truncate(path, 640<<20))
		},
		judge: func(t *testing.T, path, dir string) {
			if out := run(t, "fsck.fat", "-n", path); strings.Count(out, "\n") != 2 {
				t.Errorf("fsck.fat has something to say: %s", out)
			}
			check(t, os.Mkdir(dir, 0o755))
			run(t, "env", "LC_ALL=C.UTF-8", "mcopy", "-s", "-n", "-i", path, "::/", dir)
		},
		fat: true,
	},
}

func create(t *testing.T, path string, write func(*os.File) error) {
	t.Helper()
	f, err := os.Create(path)
	check(t, err)
	defer f.Close()
	check(t, write(f))
}

var check = nettest.Check

// TestContainersByTools writes every shape into every container, and has others
// check and unpack it.
func TestContainersByTools(t *testing.T) {
	for kind, c := range containers {
		t.Run(kind, func(t *testing.T) {
			nettest.Require(t, c.tools...)
			for name, tree := range shapes(t) {
				t.Run(name, func(t *testing.T) {
					if c.fat { // mtools knows no characters of two units
						tree = only(t, tree, func(e *Entry) bool { return e.Mode.Type() != fs.ModeSymlink && e.Path != "🚀" })
					}
					work := t.TempDir()
					path, dir := filepath.Join(work, "container"), filepath.Join(work, "unpacked")
					c.write(t, path, tree)
					c.judge(t, path, dir)
					sameTree(t, dir, tree, !c.fat)
				})
			}
		})
	}
}

// only is the tree of the entries that keep likes.
func only(t *testing.T, tree *Tree, keep func(*Entry) bool) *Tree {
	t.Helper()
	entries, err := tree.Entries()
	check(t, err)
	part := &Tree{}
	for _, e := range entries {
		if keep(e) {
			part.add(e)
		}
	}
	return part
}

// sameTree fails unless the folder holds exactly the tree.
func sameTree(t *testing.T, dir string, tree *Tree, modes bool) {
	t.Helper()
	entries, err := tree.Entries()
	check(t, err)
	found := 0
	check(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if path != dir && filepath.Base(path) != "lost+found" {
			found++
		}
		return err
	}))
	if found != len(entries) {
		t.Errorf("%d entries came back of %d", found, len(entries))
	}
	for _, e := range entries {
		if err := sameEntry(filepath.Join(dir, e.Path), e, modes); err != nil {
			t.Errorf("%.80q: %v", e.Path, err)
		}
	}
}

func sameEntry(path string, e *Entry, modes bool) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != e.Mode.Type() || modes && info.Mode().Perm() != e.Mode.Perm() {
		return fmt.Errorf("mode %v, not %v", info.Mode(), e.Mode)
	}
	switch e.Mode.Type() {
	case fs.ModeSymlink:
		if to, err := os.Readlink(path); err != nil || to != e.Link {
			return fmt.Errorf("link to %q (%v), not %q", to, err, e.Link)
		}
	case 0:
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		got, want := sha256.New(), sha256.New()
		if _, err := io.Copy(got, f); err != nil {
			return err
		}
		if err := copyEntry(want, e); err != nil || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			return fmt.Errorf("other content (%v)", err)
		}
	}
	return nil
}

// TestContainersByKernel mounts what the tools have judged. It needs loop devices.
func TestContainersByKernel(t *testing.T) {
	if !nettest.Isolated(t, nettest.Config{Programs: []string{"mount", "umount", "mksquashfs", "mkfs.erofs"}}) {
		return
	}
	known, err := os.ReadFile("/proc/filesystems")
	check(t, err)
	for kind, c := range containers {
		t.Run(kind, func(t *testing.T) {
			system := map[string]string{"fat32": "vfat"}[kind]
			if system == "" {
				system = kind
			}
			if !strings.Contains(string(known), "\t"+system+"\n") {
				t.Logf("this kernel has no %s", system)
				return
			}
			for name, tree := range shapes(t) {
				if c.fat {
					tree = only(t, tree, func(e *Entry) bool { return e.Mode.Type() != fs.ModeSymlink })
				}
				path := filepath.Join(t.TempDir(), "container")
				c.write(t, path, tree)
				t.Run(name, func(t *testing.T) { sameTree(t, mounted(t, path, system, 0), tree, !c.fat) })
			}
		})
	}
	t.Run("ext4", func(t *testing.T) {
		path := sparseFile(t, MinExt4+PartitionAlign)
		check(t, Ext4{Label: "cache", UUID: DeriveGUID("x"), Size: MinExt4, Offset: PartitionAlign, Time: epoch}.Write(t.Context(), path))
		sameTree(t, mounted(t, path, "ext4", PartitionAlign), &Tree{}, true)
	})
}

// mounted mounts a file system read-only until the test ends.
func mounted(t *testing.T, path, system string, offset int64) string {
	t.Helper()
	dir := t.TempDir()
	options := fmt.Sprintf("loop,ro,offset=%d", offset)
	if system == "vfat" {
		options += ",utf8"
	}
	out, err := exec.Command(nettest.Tool(t, "mount"), "-t", system, "-o", options, path, dir).CombinedOutput()
	switch {
	case err != nil && strings.Contains(string(out), "loop device"):
		nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", fmt.Sprintf("mounting needs loop devices: %s", out))
	case err != nil:
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() { run(t, "umount", dir) })
	return dir
}

// TestLargeDisk has partitions that begin behind 4 GiB and are larger than that.
func TestLargeDisk(t *testing.T) {
	nettest.Require(t, "sgdisk", "mke2fs", "e2fsck", "fsck.fat")
	parts, size, err := Layout([]Partition{
		{Label: "phase-esp", Type: TypeESP(), ID: DeriveGUID("esp"), Size: 5 << 30},
		{Label: "phase-cache", Type: TypeLinux(), ID: DeriveGUID("cache"), Size: 6 << 30},
	})
	check(t, err)
	path := sparseFile(t, size)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	defer f.Close()
	check(t, WriteGPT(f, DeriveGUID("disk"), parts, size))
	tree := &Tree{}
	tree.File("almost 4 GiB", 0o644, sparseFile(t, 1<<31))
	tree.Bytes("behind", 0o644, pattern(100_000))
	fat := FAT32{Label: "PHASE-ESP", Size: parts[0].Size, Offset: parts[0].Offset, Time: epoch}
	check(t, fat.Write(holes{io.NewOffsetWriter(f, parts[0].Offset)}, tree))
	check(t, Ext4{Label: "phase-cache", UUID: DeriveGUID("fs"), Size: parts[1].Size, Offset: parts[1].Offset, Time: epoch}.Write(t.Context(), path))

	if out := run(t, "sgdisk", "-v", path); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v:\n%s", out)
	}
	run(t, "e2fsck", "-fn", fmt.Sprintf("%s?offset=%d", path, parts[1].Offset))
	alone := sparseFile(t, parts[0].Size)
	g, err := os.OpenFile(alone, os.O_RDWR, 0)
	check(t, err)
	defer g.Close()
	check(t, fat.Write(holes{g}, tree))
	if out := run(t, "fsck.fat", "-n", alone); strings.Count(out, "\n") != 2 {
		t.Errorf("fsck.fat has something to say: %s", out)
	}
	back := filepath.Join(t.TempDir(), "back")
	run(t, "mcopy", "-i", alone, "::/behind", back)
	sameFiles(t, back, writeFile(t, "behind", pattern(100_000)))
}

// holes leaves out what is zero anyway.
type holes struct{ w io.WriterAt }

func (h holes) WriteAt(p []byte, off int64) (int, error) {
	if allZero(p) {
		return len(p), nil
	}
	return h.w.WriteAt(p, off)
}
