package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/gpt"
)

// rawImage is a medium as package system lays it out, without a cache.
func rawImage(t *testing.T, files map[string][]byte) (*os.File, int64) {
	t.Helper()
	var tree Tree
	for name, data := range files {
		tree.Bytes(name, 0o644, data)
	}
	parts, size, err := Layout([]Partition{
		{Label: "phase-esp", Type: TypeESP(), ID: DeriveGUID("esp"), Size: MinFAT32},
		{Label: "phase-seed", Type: TypeLinux(), ID: DeriveGUID("seed"), Size: 5000},
		{Label: "phase-cache", Type: TypeLinux(), ID: DeriveGUID("cache"), Size: 4 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := CreateSparse(filepath.Join(t.TempDir(), "raw.img"), size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := WriteGPT(f, DeriveGUID("disk"), parts, size); err != nil {
		t.Fatal(err)
	}
	fat := FAT32{Label: "PHASE-ESP", Serial: 1, Size: parts[0].Size, Offset: parts[0].Offset, Time: epoch}
	if err := fat.Write(io.NewOffsetWriter(f, parts[0].Offset), &tree); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(pattern(5000), parts[1].Offset); err != nil {
		t.Fatal(err)
	}
	return f, size
}

var discFiles = map[string][]byte{
	"EFI/BOOT/BOOTX64.EFI":            pattern(100_000),
	"EFI/systemd/systemd-bootx64.efi": pattern(70_001),
	"loader/entries/internet.conf":    []byte("title Internet Mode\n"),
	"loader/loader.conf":              []byte("timeout 10\n"),
	"phase/x86_64/initramfs.img":      pattern(3_000_000),
	"phase/x86_64/vmlinuz":            pattern(4096),
	"empty":                           nil,
}

func writeISO(t *testing.T, raw io.ReaderAt, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disc.iso")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := ISO{Label: "PHASE_BOOT", Name: "test", Time: epoch}.Write(f, raw, size)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(n); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestISO has xorriso read the disc: every file is there with its bytes, and the
// firmware's boot image is the system partition. The disc on a stick has a
// partition table that sgdisk accepts.
func TestISO(t *testing.T) {
	raw, size := rawImage(t, discFiles)
	if boots, err := Boots(raw, size); err != nil || len(boots) != 1 || boots[0] != "x86_64" {
		t.Errorf("the image starts %v, %v", boots, err)
	}
	disc := writeISO(t, raw, size)
	out := t.TempDir()
	run(t, "xorriso", "-osirrox", "on", "-indev", disc, "-extract", "/", out)
	for name, want := range discFiles {
		got, err := os.ReadFile(filepath.Join(out, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s on the disc: %d bytes, %v", name, len(got), err)
		}
	}
	seed, err := os.ReadFile(filepath.Join(out, SeedFile))
	if err != nil || !bytes.HasPrefix(seed, pattern(5000)) {
		t.Errorf("the seed on the disc: %d bytes, %v", len(seed), err)
	}
	report := run(t, "xorriso", "-indev", disc, "-report_el_torito", "plain", "-pvd_info")
	for _, want := range []string{"El Torito boot img :   1  UEFI  y   none", "LBA", "     512", "PHASE_BOOT", "2026030112304400"} {
		if !strings.Contains(report, want) {
			t.Errorf("xorriso does not report %q:\n%s", want, report)
		}
	}
	if text := run(t, "sgdisk", "-v", disc); !strings.Contains(text, "No problems found") {
		t.Errorf("sgdisk -v:\n%s", text)
	}
	esp := filepath.Join(out, "esp.fat")
	extract(t, disc, esp, PartitionAlign, MinFAT32)
	run(t, "fsck.fat", "-n", esp)
	other, _ := rawImage(t, discFiles)
	sameFiles(t, disc, writeISO(t, other, size))
}

// extract copies part of a file to another.
func extract(t *testing.T, from, to string, offset, size int64) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, size)
	if _, err := f.ReadAt(data, offset); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestISORefusals damages what the disc is made of.
func TestISORefusals(t *testing.T) {
	raw, size := rawImage(t, discFiles)
	esp := int64(PartitionAlign)
	for name, test := range map[string]struct {
		damage func(f *os.File)
		want   error
	}{
		"no table":      {func(f *os.File) { f.WriteAt([]byte{0}, 512) }, ErrNoDisk},
		"bad checksum":  {func(f *os.File) { f.WriteAt([]byte{1}, 1024+56) }, ErrNoDisk},
		"no esp":        {func(f *os.File) { rename(t, f, 0) }, ErrNoDisk},
		"no seed":       {func(f *os.File) { rename(t, f, 1) }, ErrNoDisk},
		"no FAT":        {func(f *os.File) { f.WriteAt([]byte{0}, esp+510) }, ErrFAT},
		"in pieces":     {func(f *os.File) { f.WriteAt([]byte{9, 0, 0, 0}, esp+32*512+2*4) }, ErrFAT},
		"endless chain": {func(f *os.File) { f.WriteAt([]byte{2, 0, 0, 0}, esp+32*512+2*4) }, ErrFAT},
	} {
		t.Run(name, func(t *testing.T) {
			copied, err := CreateSparse(filepath.Join(t.TempDir(), "copy"), size)
			if err != nil {
				t.Fatal(err)
			}
			defer copied.Close()
			if err := CopyInto(copied, 0, size, raw.Name()); err != nil {
				t.Fatal(err)
			}
			test.damage(copied)
			if _, err := (ISO{Label: "X", Time: epoch}).Write(io.NewOffsetWriter(discard{}, 0), copied, size); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
	for _, label := range []string{"", "lower", "A-B", strings.Repeat("X", 33)} {
		if _, err := (ISO{Label: label, Time: epoch}).Write(discard{}, raw, size); err == nil {
			t.Errorf("the label %q was accepted", label)
		}
	}
}

type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// rename gives a partition another label, with right checksums.
func rename(t *testing.T, f *os.File, n int) {
	t.Helper()
	head := make([]byte, gptFirst*sectorSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		t.Fatal(err)
	}
	head[1024+n*gpt.EntrySize+56] = 'x'
	header := head[512 : 512+92]
	binary.LittleEndian.PutUint32(header[88:], crc32.ChecksumIEEE(head[1024:]))
	clear(header[16:20])
	binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header))
	if _, err := f.WriteAt(head, 0); err != nil {
		t.Fatal(err)
	}
}

// FuzzReadFAT32 must neither panic nor name bytes outside the file system.
func FuzzReadFAT32(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<20 {
			return
		}
		files, err := readFAT32(bytes.NewReader(data), int64(len(data)))
		if err != nil && !errors.Is(err, ErrFAT) {
			t.Fatalf("an error of another kind: %v", err)
		}
		for _, file := range files {
			if file.offset < 0 || file.size < 0 || file.offset+file.size > int64(len(data)) {
				t.Fatalf("%+v lies outside of %d bytes", file, len(data))
			}
		}
	})
}

// FuzzReadGPT must neither panic nor name partitions outside the disk.
func FuzzReadGPT(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		parts, err := ReadGPT(bytes.NewReader(data), int64(len(data)))
		if err != nil && !errors.Is(err, ErrNoDisk) {
			t.Fatalf("an error of another kind: %v", err)
		}
		for _, p := range parts {
			if p.Offset < 0 || p.Size <= 0 || p.Offset+p.Size > int64(len(data)) {
				t.Fatalf("%+v lies outside of %d bytes", p, len(data))
			}
		}
	})
}

// TestReadGPT reads what WriteGPT writes.
func TestReadGPT(t *testing.T) {
	parts, size, err := Layout([]Partition{
		{Label: "phase-esp", Type: TypeESP(), ID: DeriveGUID("a"), Size: 1},
		{Label: "Ümläut 𝄞", Type: TypeLinux(), ID: DeriveGUID("b"), Size: 3 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	disk := &memory{}
	if err := WriteGPT(disk, DeriveGUID("disk"), parts, size); err != nil {
		t.Fatal(err)
	}
	got, err := ReadGPT(bytes.NewReader(disk.data), size)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(parts) {
		t.Errorf("read %v, %v; want %v", got, err, parts)
	}
}

// memory is a disk in memory.
type memory struct{ data []byte }

func (m *memory) WriteAt(p []byte, at int64) (int, error) {
	if need := int(at) + len(p); need > len(m.data) {
		m.data = append(m.data, make([]byte, need-len(m.data))...)
	}
	return copy(m.data[at:], p), nil
}
