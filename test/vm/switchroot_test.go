package vm_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/verity"
)

// TestSwitchRootLeavesNothing boots a root file system that only looks around, once
// where it lies in the cache and once in memory: of the initramfs nothing is left,
// nobody holds what cannot be reached, and only what is needed is mounted.
func TestSwitchRootLeavesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.release(1)
	r.Rootfs = b.looker()
	f, err := os.OpenFile(r.Rootfs, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	v, err := verity.Append(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r.Verity = &v
	b.publish(r, "")
	b.serve()
	for _, tt := range []struct {
		place string
		cache int64    // of the medium
		image int64    // bytes that the root file system takes of memory
		mount []string // beside the usual ones
	}{
		{"cache", 0, 0, []string{
			"/mnt/cache ext4", "/var/lib/plasm ext4",
			// What was booted, for others: three blobs, also by their names.
			"/run/phase/published/blobs ext4", "/run/phase/published/blobs ext4", "/run/phase/published/blobs ext4",
			"/run/phase/published/stable/x86_64 ext4", "/run/phase/published/stable/x86_64 ext4", "/run/phase/published/stable/x86_64 ext4",
		}},
		{"memory", -1, info.Size(), nil},
	} {
		t.Run(tt.place, func(t *testing.T) {
			b := *b
			b.T = t
			b.medium(lab.ImageOptions{Cache: tt.cache})
			b.nothingIsLeft(tt.image, tt.mount)
		})
	}
}

// published is an artifact in a provider's folder.
var published = regexp.MustCompile(`^(/run/phase/published/(?:blobs|stable/x86_64))/(?:[0-9a-f]{2}/[0-9a-f]{64}\.bin|kernel|initramfs|rootfs) `)

func (b *bench) nothingIsLeft(image int64, mount []string) {
	b.Helper()
	saw := b.looks()
	mount = append(mount, "/ overlay", "/dev devtmpfs", "/dev/pts devpts", "/dev/shm tmpfs", "/proc proc", "/run tmpfs", "/sys sysfs",
		"/sys/fs/cgroup cgroup2", "/sys/kernel/security securityfs", "/tmp tmpfs")
	mounted := slices.Clone(saw["mount"])
	for i, m := range mounted {
		mounted[i] = published.ReplaceAllString(m, "$1 ")
	}
	slices.Sort(mount)
	slices.Sort(mounted)
	if !slices.Equal(mounted, mount) {
		b.Errorf("mounted are %q, want %q", saw["mount"], mount)
	}
	if want := []string{"1 /sbin/init"}; !slices.Equal(saw["process"], want) {
		b.Errorf("processes: %q, want %q", saw["process"], want)
	}
	if len(saw["gone"]) > 0 {
		b.Errorf("held, though it cannot be reached: %q", saw["gone"])
	}
	if !slices.Contains(saw["holds"], "/proc/1/root /") {
		b.Errorf("nothing was looked at: %q", saw["holds"])
	}
	// The initramfs lies in a tmpfs; what else does is notes in /run.
	const notes = 2 << 20
	kib, err := strconv.ParseInt(strings.Join(saw["memory"], ""), 10, 64)
	if used := kib << 10; err != nil || used < image || used > image+notes {
		b.Errorf("%d bytes of files are in memory, want %d and a little (%v)", used, image, err)
	}
	b.Logf("%d KiB of files in memory, %d of them the root file system; %q", kib, image>>10, saw["holds"])
}

// looks boots the medium and returns what its root file system saw, by kinds.
func (b *bench) looks() map[string][]string {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), bootWithin)
	defer cancel()
	m := b.start(ctx, lab.BootOptions{})
	defer m.machine.Quit(context.WithoutCancel(ctx))
	saw := map[string][]string{}
	for line := range m.machine.Lines(ctx) {
		_, said, ok := strings.Cut(line.Text, "LOOK ")
		if !ok {
			continue
		}
		kind, rest, _ := strings.Cut(strings.TrimSpace(said), " ")
		if kind == "END" {
			return saw
		}
		saw[kind] = append(saw[kind], rest)
	}
	b.Fatalf("it did not look around; the console shows:\n%s", strings.Join(m.machine.ConsoleTail(200), "\n"))
	return nil
}

// looker is a root file system with the command look as its init.
func (b *bench) looker() string {
	b.Helper()
	program := filepath.Join(b.run, "look")
	build := exec.CommandContext(b.Context(), "go", "build", "-o", program, "./look")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	t := &image.Tree{}
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "mnt", "sbin"} {
		t.Dir(dir, 0o755)
	}
	t.File("sbin/init", 0o755, program)
	path := filepath.Join(b.run, "look.squashfs")
	if err := (image.Squashfs{Time: time.Unix(0, 0)}).Write(b.Context(), path, t); err != nil {
		b.Fatal(err)
	}
	return path
}
