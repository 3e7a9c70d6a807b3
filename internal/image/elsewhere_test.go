package image

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/nettest"
)

// elsewhereVar names the folder in which TestElsewhere builds.
const elsewhereVar = "PHASE_IMAGE_ELSEWHERE"

// products are what TestElsewhere leaves in its folder.
var products = []string{"initramfs", "squashfs", "erofs", "disk"}

// TestElsewhere is no test by itself: TestSameBytesElsewhere runs it in other
// processes.
func TestElsewhere(t *testing.T) {
	dir := os.Getenv(elsewhereVar)
	if dir == "" {
		t.Skip("TestSameBytesElsewhere runs this in other processes")
	}
	tree := &Tree{}
	tree.File("usr/lib/big", 0o644, filepath.Join(dir, "input"))
	tree.Bytes("Überlänge", 0o755, []byte("x"))
	tree.Bytes("empty", 0o600, nil)
	at := func(name string) string { return filepath.Join(dir, name) }
	create(t, at("initramfs"), func(f *os.File) error { return WriteInitramfs(f, tree, epoch) })
	check(t, Squashfs{Time: epoch}.Write(t.Context(), at("squashfs"), tree))
	check(t, EROFS{Time: epoch}.Write(t.Context(), at("erofs"), tree))

	parts, size, err := Layout([]Partition{
		{Label: "esp", Type: TypeESP(), ID: DeriveGUID("esp"), Size: MinFAT32},
		{Label: "seed", Type: TypeLinux(), ID: DeriveGUID("seed"), Size: 1 << 20},
		{Label: "cache", Type: TypeLinux(), ID: DeriveGUID("cache"), Size: MinExt4},
	})
	check(t, err)
	disk, err := CreateSparse(at("disk"), size)
	check(t, err)
	defer disk.Close()
	check(t, WriteGPT(disk, DeriveGUID("disk"), parts, size))
	fat := FAT32{Label: "ESP", Size: MinFAT32, Offset: parts[0].Offset, Time: epoch}
	check(t, fat.Write(shifted{disk, parts[0].Offset}, tree))
	check(t, CopyInto(disk, parts[1].Offset, parts[1].Size, at("squashfs")))
	check(t, Ext4{Label: "cache", UUID: DeriveGUID("fs"), Size: MinExt4, Offset: parts[2].Offset, Time: epoch}.Write(t.Context(), disk.Name()))
}

// shifted writes behind base.
type shifted struct {
	f    *os.File
	base int64
}

func (s shifted) WriteAt(p []byte, off int64) (int, error) { return s.f.WriteAt(p, s.base+off) }

// TestSameBytesElsewhere builds everything in processes that differ in all that must
// not matter: folder, dates of the inputs, umask, language, time zone, number of
// processors, and user where root can choose one.
func TestSameBytesElsewhere(t *testing.T) {
	nettest.Require(t, "mksquashfs", "mkfs.erofs", "mke2fs")
	self, err := os.ReadFile(os.Args[0])
	check(t, err)
	program := filepath.Join(openDir(t), "image.test")
	check(t, os.WriteFile(program, self, 0o755))
	here := elsewhere(t, program, "umask 022", 0, "LC_ALL=C", "TZ=UTC", "GOMAXPROCS=1")
	for name, there := range map[string]string{
		"umask, language, zone": elsewhere(t, program, "umask 077", 0, "LC_ALL=C.UTF-8", "TZ=Asia/Kathmandu", "GOMAXPROCS=5", "SOURCE_DATE_EPOCH=1", "HOME=/nonexistent"),
		"user":                  elsewhere(t, program, "umask 002", 65534, "LC_ALL=POSIX", "TZ=America/St_Johns", "GOMAXPROCS=2"),
	} {
		for _, product := range products {
			if a, b := filepath.Join(here, product), filepath.Join(there, product); !equalFiles(t, a, b) {
				t.Errorf("%s: another %s", name, product)
			}
		}
	}
}

// openDir is a folder that every user can reach, as t.TempDir is not.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "elsewhere-")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o755))
	return dir
}

// elsewhere runs TestElsewhere in a folder of its own, which it returns.
func elsewhere(t *testing.T, program, umask string, user int, env ...string) string {
	t.Helper()
	dir := filepath.Join(openDir(t), strings.Repeat("deeper/", user%3))
	check(t, os.MkdirAll(dir, 0o755))
	input := filepath.Join(dir, "input")
	check(t, os.WriteFile(input, append(pattern(300_000), make([]byte, 300_000)...), 0o644))
	date := time.Unix(1e9+int64(user), 0)
	check(t, os.Chtimes(input, date, date))
	cmd := exec.Command("/bin/sh", "-c", umask+`; exec "$0" -test.run='^TestElsewhere$' -test.v`, program)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), elsewhereVar + "=" + dir, "TMPDIR=" + dir}, env...)
	if os.Getuid() == 0 && user != 0 {
		check(t, os.Chown(dir, user, user))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}}
	}
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestElsewhere")) {
		t.Fatalf("%v: %v\n%s", env, err, out)
	}
	return dir
}

func equalFiles(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.ReadFile(a)
	check(t, err)
	y, err := os.ReadFile(b)
	check(t, err)
	return len(x) > 0 && bytes.Equal(x, y)
}
