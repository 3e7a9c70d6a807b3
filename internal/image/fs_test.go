package image

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/phasebased/phase/internal/nettest"
)

func squashTree(big string) *Tree {
	var t Tree
	t.Bytes("etc/hostname", 0o644, []byte("phase\n"))
	t.Symlink("etc/resolv.conf", "/run/resolv.conf")
	t.Dir("root", 0o700)
	t.Bytes("usr/bin/plasmd", 0o755, []byte("\x7fELF"))
	t.File("usr/lib/big", 0o644, big)
	return &t
}

func TestSquashfs(t *testing.T) {
	nettest.Tool(t, "mksquashfs")
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	big := writeFile(t, "big", append(pattern(700_000), make([]byte, 700_000)...))
	if err := (Squashfs{Time: epoch, Processors: 1}).Write(t.Context(), a, squashTree(big)); err != nil {
		t.Fatal(err)
	}
	touch(t, big)
	if err := os.WriteFile(b, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1") // the builder's environment must not matter
	if err := (Squashfs{Time: epoch, Processors: 2}).Write(t.Context(), b, squashTree(big)); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, a, b)
	list := run(t, "unsquashfs", "-lln", a)
	for _, want := range []string{
		"-rwxr-xr-x 0/0 ", "squashfs-root/usr/bin/plasmd", "drwx------ 0/0 ",
		"squashfs-root/etc/resolv.conf -> /run/resolv.conf", "2026-03-01 12:30",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("unsquashfs -lln lacks %q:\n%s", want, list)
		}
	}
	run(t, "unsquashfs", "-d", filepath.Join(dir, "x"), a)
	sameFiles(t, filepath.Join(dir, "x/usr/lib/big"), big)
}

func TestSquashfsRefusals(t *testing.T) {
	dev := &Tree{}
	dev.CharDevice("dev/console", 0o600, 5, 1)
	gone := writeFile(t, "gone", []byte("x"))
	missing := &Tree{}
	missing.File("gone", 0o644, gone)
	os.Remove(gone)
	for name, tree := range map[string]*Tree{"empty": {}, "device": dev, "vanished": missing} {
		path := filepath.Join(t.TempDir(), "x")
		if err := (Squashfs{Time: epoch}).Write(t.Context(), path, tree); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: a half-written file stayed", name)
		}
	}
}

func TestExt4(t *testing.T) {
	nettest.Tool(t, "mke2fs")
	const offset, size = 1 << 20, 256 << 20
	write := func() string {
		path := filepath.Join(t.TempDir(), "disk")
		f, err := CreateSparse(path, offset+size)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		e := Ext4{Label: "phase-cache", UUID: DeriveGUID("cache"), Size: size, Offset: offset, Time: epoch}
		if err := e.Write(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a := write()
	t.Setenv("MKE2FS_CONFIG", "/etc/mke2fs.conf")
	sameFiles(t, a, write())

	var st syscall.Stat_t
	if err := syscall.Stat(a, &st); err != nil || st.Blocks*512 > 32<<20 {
		t.Errorf("occupies %d bytes (%v), want it sparse", st.Blocks*512, err)
	}
	data, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	alone := writeFile(t, "part", data[offset:])
	run(t, "e2fsck", "-fn", alone)
	out := run(t, "dumpe2fs", "-h", alone)
	for _, want := range []string{"phase-cache", DeriveGUID("cache").String(), "Sun Mar  1 12:30:44 2026", "clean"} {
		if !strings.Contains(out, want) {
			t.Errorf("dumpe2fs lacks %q:\n%s", want, out)
		}
	}
	if out := run(t, "dumpe2fs", alone); strings.Contains(out, "INODE_UNINIT, BLOCK_UNINIT") && !strings.Contains(out, "ITABLE_ZEROED") {
		t.Errorf("tables are left for the first mount to initialise:\n%s", out)
	}
}

func TestExt4Refusals(t *testing.T) {
	path := writeFile(t, "x", nil)
	for name, e := range map[string]Ext4{
		"small":  {Size: 1 << 20},
		"odd":    {Size: MinExt4 + 1},
		"label":  {Size: MinExt4, Label: strings.Repeat("x", 17)},
		"offset": {Size: MinExt4, Offset: -1},
	} {
		if err := e.Write(t.Context(), path); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestToolErrors(t *testing.T) {
	err := runTool(t.Context(), "some-package", nil, nil, "no-such-tool-at-all")
	var te *ToolError
	if !errors.As(err, &te) || !errors.Is(err, exec.ErrNotFound) || !strings.Contains(te.Hint(), "some-package") {
		t.Errorf("missing tool: %v", err)
	}
	err = runTool(t.Context(), "sh", nil, nil, "sh", "-c", "echo boom >&2; exit 3")
	if !errors.As(err, &te) || te.Output != "boom" || te.Hint() != "" {
		t.Errorf("failing tool: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := runTool(ctx, "sh", nil, nil, "sh", "-c", "true"); err == nil {
		t.Error("cancelled context ignored")
	}
}
