package image

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

func testParts() []Partition {
	return []Partition{
		{Label: "phase-esp", Type: TypeESP(), ID: DeriveGUID("p", "esp"), Size: 288 << 20},
		{Label: "phase-seed", Type: TypeLinux(), ID: DeriveGUID("p", "seed"), Size: 12345},
		{Label: "phase-cache", Type: TypeLinux(), ID: DeriveGUID("p", "cache"), Size: 64 << 20},
	}
}

func writeDisk(t *testing.T) (string, []Partition) {
	t.Helper()
	parts, size, err := Layout(testParts())
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
	return path, parts
}

func TestGPTByTool(t *testing.T) {
	path, parts := writeDisk(t)
	if out := run(t, "sgdisk", "-v", path); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v:\n%s", out)
	}
	for i, p := range parts {
		out := run(t, "sgdisk", fmt.Sprintf("-i=%d", i+1), path)
		for _, want := range []string{"'" + p.Label + "'", strings.ToUpper(p.ID.String()), strings.ToUpper(p.Type.String()),
			fmt.Sprintf("First sector: %d ", p.Offset/512), fmt.Sprintf("Partition size: %d sectors", p.Size/512)} {
			if !strings.Contains(out, want) {
				t.Errorf("partition %d lacks %q:\n%s", i+1, want, out)
			}
		}
	}
	other, _ := writeDisk(t)
	sameFiles(t, path, other)
}

func TestLayoutRefusals(t *testing.T) {
	for name, parts := range map[string][]Partition{
		"none":       nil,
		"zero size":  {{Label: "a"}},
		"negative":   {{Label: "a", Size: -1}},
		"huge":       {{Label: "a", Size: 1 << 60}},
		"long label": {{Label: strings.Repeat("x", 37), Size: 1}},
		"too many":   make([]Partition, 129),
	} {
		if _, _, err := Layout(parts); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDeriveGUID(t *testing.T) {
	a := DeriveGUID("a", "b")
	if a == DeriveGUID("ab") || a != DeriveGUID("a", "b") {
		t.Error("names are not kept apart, or not stable")
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(a.String()) {
		t.Errorf("%s is not a version 8 GUID", a)
	}
}

func fatTree(kernel string) *Tree {
	var t Tree
	t.Bytes("EFI/BOOT/BOOTX64.EFI", 0o644, pattern(140_000))
	t.Bytes("EFI/systemd/systemd-bootx64.efi", 0o644, pattern(4096))
	t.Bytes("loader/loader.conf", 0o644, []byte("timeout 10\n"))
	t.Bytes("loader/entries/internet.conf", 0o644, []byte("title Phase Boot — Internet Mode\n"))
	t.Bytes("loader/entries/internet2.conf", 0o644, nil)
	t.Bytes("a long name of exactly26.txt", 0o644, []byte("x"))
	t.Bytes("Überlänge über dreizehn Zeichen 🚀.txt", 0o644, []byte("unicode"))
	t.File("phase/x86_64/vmlinuz", 0o644, kernel)
	for i := range 200 { // a directory of several clusters
		t.Bytes(fmt.Sprintf("many/a file with a long name %03d.conf", i), 0o644, []byte{byte(i)})
	}
	return &t
}

func writeFAT(t *testing.T, tree *Tree) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fat.img")
	f, err := CreateSparse(path, 288<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fat := FAT32{Label: "PHASE-ESP", Serial: 0x50484153, Size: 288 << 20, Offset: 1 << 20, Time: epoch}
	if err := fat.Write(f, tree); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFAT32ByFsck(t *testing.T) {
	path := writeFAT(t, fatTree(writeFile(t, "k", pattern(3_000_001))))
	lines := strings.Split(strings.TrimSpace(run(t, "fsck.fat", "-n", "-v", path)), "\n")
	plain := strings.Split(strings.TrimSpace(run(t, "fsck.fat", "-n", path)), "\n")
	if len(plain) != 2 || !regexp.MustCompile(`: \d+ files, \d+/\d+ clusters$`).MatchString(plain[1]) {
		t.Errorf("fsck.fat has something to say:\n%s\n%s", strings.Join(plain, "\n"), strings.Join(lines, "\n"))
	}
	if out := strings.Join(lines, "\n"); !strings.Contains(out, "4096 bytes per cluster") {
		t.Errorf("cluster size:\n%s", out)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil || st.Blocks*512 > 8<<20 {
		t.Errorf("image occupies %d bytes (%v), want it sparse", st.Blocks*512, err)
	}
}

func TestFAT32ByMtools(t *testing.T) {
	kernel := pattern(3_000_001)
	path := writeFAT(t, fatTree(writeFile(t, "k", kernel)))
	out := filepath.Join(t.TempDir(), "out")
	for name, want := range map[string][]byte{
		"phase/x86_64/vmlinuz":                  kernel,
		"EFI/BOOT/BOOTX64.EFI":                  pattern(140_000),
		"loader/entries/internet.conf":          []byte("title Phase Boot — Internet Mode\n"),
		"loader/entries/internet2.conf":         nil,
		"many/a file with a long name 199.conf": {199},
		"a long name of exactly26.txt":          []byte("x"),
		"loader/LOADER.CONF":                    []byte("timeout 10\n"), // FAT ignores case
		"EFI/systemd/systemd-bootx64.efi":       pattern(4096),
	} {
		run(t, "mcopy", "-n", "-o", "-i", path, "::/"+name, out)
		got, err := os.ReadFile(out)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes back, want %d (%v)", name, len(got), len(want), err)
		}
	}
	list := run(t, "mdir", "-i", path, "::/loader/entries")
	if !strings.Contains(list, "2026-03-01") || !strings.Contains(list, "12:30") || !strings.Contains(list, "internet2.conf") {
		t.Errorf("mdir:\n%s", list)
	}
}

func TestFAT32Reproducible(t *testing.T) {
	k1, k2 := writeFile(t, "k", pattern(100_000)), writeFile(t, "k", pattern(100_000))
	touch(t, k2)
	sameFiles(t, writeFAT(t, fatTree(k1)), writeFAT(t, fatTree(k2)))
}

func TestFAT32Refusals(t *testing.T) {
	good := FAT32{Label: "PHASE-ESP", Size: 288 << 20, Time: epoch}
	with := func(change func(*FAT32)) FAT32 { f := good; change(&f); return f }
	one := func(name string) *Tree { t := &Tree{}; t.Bytes(name, 0o644, nil); return t }
	link, twice, big, full := &Tree{}, one("Loader.conf"), &Tree{}, &Tree{}
	link.Symlink("l", "x")
	twice.Bytes("loader.CONF", 0o644, nil)
	big.add(&Entry{Path: "big", Size: 1 << 32})
	full.add(&Entry{Path: "full", Size: 289 << 20})
	for name, c := range map[string]struct {
		fat  FAT32
		tree *Tree
	}{
		"too small":    {with(func(f *FAT32) { f.Size = 64 << 20 }), one("a")},
		"odd size":     {with(func(f *FAT32) { f.Size++ }), one("a")},
		"before 1980":  {with(func(f *FAT32) { f.Time = time.Unix(0, 0) }), one("a")},
		"label":        {with(func(f *FAT32) { f.Label = "lower" }), one("a")},
		"no label":     {with(func(f *FAT32) { f.Label = "" }), one("a")},
		"colon":        {good, one("a:b")},
		"trailing dot": {good, one("a.")},
		"link":         {good, link},
		"case twins":   {good, twice},
		"4 GiB file":   {good, big},
		"no room":      {good, full},
	} {
		f, err := CreateSparse(filepath.Join(t.TempDir(), "x"), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.fat.Write(f, c.tree); err == nil {
			t.Errorf("%s: accepted", name)
		}
		f.Close()
	}
}

func TestCopyInto(t *testing.T) {
	data := append(make([]byte, 200_000), pattern(100_000)...)
	src := writeFile(t, "src", data)
	f, err := CreateSparse(filepath.Join(t.TempDir(), "dst"), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := CopyInto(f, 4096, 1<<19, src); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(data))
	if _, err := f.ReadAt(got, 4096); err != nil || !bytes.Equal(got, data) {
		t.Errorf("copy differs (%v)", err)
	}
	if err := CopyInto(f, 0, int64(len(data))-1, src); err == nil {
		t.Error("a file larger than its partition was accepted")
	}
}
