package image

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestReadESP(t *testing.T) {
	tree := &Tree{}
	big := bytes.Repeat([]byte("0123456789abcdef"), 5000)
	tree.Bytes("EFI/BOOT/BOOTX64.EFI", 0o644, big)
	tree.Bytes("EFI/Linux/phase-internet-x86_64.efi", 0o644, []byte("image"))
	tree.Bytes("loader/loader.conf", 0o644, []byte("timeout 0"))
	tree.Bytes("empty.efi", 0o644, nil)
	parts, size, err := Layout([]Partition{{Label: "esp", Type: TypeESP(), ID: DeriveGUID("esp"), Size: 288 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "disk.img")
	f, err := CreateSparse(path, size)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := WriteGPT(f, DeriveGUID("disk"), parts, size); err != nil {
		t.Fatal(err)
	}
	fat := FAT32{Label: "ESP", Size: parts[0].Size, Offset: parts[0].Offset, Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	if err := fat.Write(offsetAt{f, parts[0].Offset}, tree); err != nil {
		t.Fatal(err)
	}
	got, err := ReadESP(f, size, func(name string) bool { return strings.HasSuffix(strings.ToLower(name), ".efi") })
	if err != nil || len(got) != 3 || !bytes.Equal(got["EFI/BOOT/BOOTX64.EFI"], big) || string(got["EFI/Linux/phase-internet-x86_64.efi"]) != "image" || got["empty.efi"] == nil {
		t.Errorf("%d files, %v", len(got), err)
	}
	if _, err := f.WriteAt(make([]byte, 512), parts[0].Offset); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadESP(f, size, func(string) bool { return true }); !errors.Is(err, ErrFAT) {
		t.Errorf("no file system: %v", err)
	}
	if _, err := ReadESP(bytes.NewReader(make([]byte, 1<<20)), 1<<20, func(string) bool { return true }); err == nil {
		t.Error("no partitions")
	}
}

// offsetAt is a part of a file.
type offsetAt struct {
	f    *os.File
	base int64
}

func (w offsetAt) WriteAt(p []byte, off int64) (int, error) { return w.f.WriteAt(p, w.base+off) }
