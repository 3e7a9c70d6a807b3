package mediacheck

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/gpt"
	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/release"
)

var epoch = time.Unix(1700000000, 0)

// medium is what a test changes about one.
type medium struct {
	esp, seed map[string][]byte
	papers    []ESPFile // nil: of esp
}

func honest(t *testing.T) medium {
	t.Helper()
	keys, err := release.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	root, err := keys.RootFile(epoch.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	return medium{
		esp: map[string][]byte{
			"EFI/BOOT/BOOTX64.EFI": []byte("loader"), "EFI/BOOT/BOOTAA64.EFI": []byte("loader for arm64"), "EFI/BOOT/grubx64.efi": []byte("GRUB"),
			"phase/x86_64/vmlinuz": bytes.Repeat([]byte("kernel"), 5000), "loader/entries/a rather long name for an entry.conf": nil,
		},
		seed: map[string][]byte{
			"policy.toml": []byte("mode = 1\n"), "bootstrap-nodes.toml": nil, "root.json": root,
			"build.json": []byte(`{"version":"0.9","build_time":"2026-01-02T03:04:05Z","arch":"x86_64","kernel":"6.1.0","min_manifest_version":3}`),
		},
	}
}

// write makes the image, and the materials in it.
func (m medium) write(t *testing.T, path string) {
	t.Helper()
	nettest.Tool(t, "mksquashfs")
	if _, given := m.seed["materials.json"]; !given {
		list := m.papers
		for name, data := range m.esp {
			if m.papers == nil {
				list = append(list, ESPFile{"/" + name, int64(len(data)), blob.Of(data)})
			}
		}
		raw, err := json.Marshal(map[string]any{"materials": []any{map[string]any{"name": "linux", "sha256": blob.Of(nil)}}, "esp": list})
		if err != nil {
			t.Fatal(err)
		}
		m.seed["materials.json"] = raw
	}
	squash := filepath.Join(t.TempDir(), "seed")
	if err := (image.Squashfs{Time: epoch}).Write(t.Context(), squash, tree(m.seed)); err != nil {
		t.Fatal(err)
	}
	parts, size, err := image.Layout([]image.Partition{
		{Label: labelESP, Type: image.TypeESP(), Size: image.MinFAT32},
		{Label: labelSeed, Type: image.TypeLinux(), Size: 1 << 20},
		{Label: "phase-cache", Type: image.TypeLinux(), Size: 1 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := image.CreateSparse(path, size)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fat := image.FAT32{Label: "ESP", Size: parts[0].Size, Offset: parts[0].Offset, Time: epoch}
	if err := errors.Join(image.WriteGPT(f, image.DeriveGUID("d"), parts, size), fat.Write(at{f, parts[0].Offset}, tree(m.esp)),
		image.CopyInto(f, parts[1].Offset, parts[1].Size, squash)); err != nil {
		t.Fatal(err)
	}
}

type at struct {
	f   *os.File
	off int64
}

func (a at) WriteAt(p []byte, off int64) (int, error) { return a.f.WriteAt(p, a.off+off) }

func tree(files map[string][]byte) *image.Tree {
	t := &image.Tree{}
	for name, data := range files {
		t.Bytes(name, 0o644, data)
	}
	return t
}

func look(t *testing.T, path string) *Report {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Structure(t.Context(), f, info.Size(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SameSize(info.Size())
	return r
}

func TestHonestMedium(t *testing.T) {
	path := filepath.Join(t.TempDir(), "phase.img")
	honest(t).write(t, path)
	r := look(t, path)
	for _, f := range r.Findings {
		t.Error(f)
	}
	if r.Build == nil || r.Build.Version != "0.9" || r.Build.MinVersion != 3 || r.Parts != 1 || len(r.Files) != 5 || r.Root == nil || len(r.Root.Roles) != 4 {
		t.Errorf("%+v", r)
	}
	if got := fmt.Sprint(r.Chains); !strings.Contains(got, "x86_64 stock 2:") || !strings.Contains(got, "arm64 systemd-boot 1:") {
		t.Error(got)
	}
	if !slices.ContainsFunc(r.Files, func(f ESPFile) bool { return f.Path == "/loader/entries/a rather long name for an entry.conf" }) {
		t.Errorf("%+v", r.Files)
	}
	// On a stick there is room behind the image.
	stick, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stick.Close()
	r, err = Structure(t.Context(), stick, r.Layout.Size, func(int64) {})
	if err != nil || len(r.Findings) > 0 {
		t.Error(err, r.Findings)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Structure(ctx, stick, r.Layout.Size, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestChains tells by names and sizes what firmware would start.
func TestChains(t *testing.T) {
	const first, second, kernel = "/EFI/BOOT/BOOTX64.EFI", "/EFI/BOOT/grubx64.efi", "/phase/x86_64/vmlinuz"
	for name, tt := range map[string]struct {
		files []ESPFile
		want  string
	}{
		"stock":           {[]ESPFile{{Path: first}, {Path: second}, {Path: kernel}}, "stock"},
		"systemd-boot":    {[]ESPFile{{Path: first}, {Path: kernel}}, "systemd-boot"},
		"one image":       {[]ESPFile{{Path: first, Size: 30 << 20}}, "uki"},
		"shim, one image": {[]ESPFile{{Path: first, Size: 1 << 20}, {Path: second, Size: 30 << 20}}, "uki"},
		"menu of images":  {[]ESPFile{{Path: first}, {Path: "/EFI/Linux/phase-local-x86_64.efi"}}, "uki"},
		"a large loader":  {[]ESPFile{{Path: first, Size: 30 << 20}, {Path: kernel}}, "systemd-boot"},
	} {
		if got := chains(tt.files); len(got) != 1 || got[0].Name != tt.want {
			t.Errorf("%s: %v, want %s", name, got, tt.want)
		}
	}
}

func TestOtherMedia(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(m *medium)
		want   error
		text   string
	}{
		"file changed":     {func(m *medium) { m.papers = papersOf(*m); m.esp["EFI/BOOT/BOOTX64.EFI"] = []byte("LOADER") }, ErrFile, "BOOTX64"},
		"file missing":     {func(m *medium) { m.papers = papersOf(*m); delete(m.esp, "phase/x86_64/vmlinuz") }, ErrFile, "missing"},
		"file added":       {func(m *medium) { m.papers = papersOf(*m); m.esp["EFI/evil.efi"] = nil }, ErrFile, "do not name it"},
		"nothing to start": {func(m *medium) { m.esp = map[string][]byte{"readme": nil} }, ErrChain, "BOOTX64"},
		"no policy":        {func(m *medium) { delete(m.seed, "policy.toml") }, ErrPapers, "policy.toml"},
		"no build":         {func(m *medium) { m.seed["build.json"] = []byte("{}") }, ErrPapers, "build.json"},
		"materials broken": {func(m *medium) { m.seed["materials.json"] = []byte(`{"esp":[{"path":1}]}`) }, ErrPapers, "materials.json"},
		"materials empty":  {func(m *medium) { m.seed["materials.json"] = []byte(`{"esp":[]}`) }, ErrPapers, "names no file"},
		"root unsigned": {func(m *medium) {
			m.seed["root.json"] = bytes.Replace(m.seed["root.json"], []byte(`"version":1`), []byte(`"version":2`), 1)
		}, ErrRootFile, "root.json"},
		"no root":      {func(m *medium) { delete(m.seed, "root.json") }, ErrRootFile, "root.json"},
		"large papers": {func(m *medium) { m.seed["notes"] = make([]byte, maxPaperSize+1) }, ErrSeed, "too large"},
		"many papers": {func(m *medium) {
			for i := range maxPapers + 1 {
				m.seed[fmt.Sprint(i)] = nil
			}
		}, ErrSeed, "more than"},
	} {
		m := honest(t)
		tt.change(&m)
		path := filepath.Join(t.TempDir(), "phase.img")
		m.write(t, path)
		if r := look(t, path); !found(r, tt.want, tt.text) {
			t.Errorf("%s: %v, want %v with %q", name, r.Findings, tt.want, tt.text)
		}
	}
}

func papersOf(m medium) (list []ESPFile) {
	for name, data := range m.esp {
		list = append(list, ESPFile{"/" + name, int64(len(data)), blob.Of(data)})
	}
	return list
}

func found(r *Report, want error, text string) bool {
	return slices.ContainsFunc(r.Findings, func(e *Error) bool {
		return errors.Is(e, want) && strings.Contains(e.Error(), text) && e.Code() != "" && e.Hint() != ""
	})
}

// TestDamage changes an honest image, byte by byte where it matters.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "phase.img")
	honest(t).write(t, path)
	layout := look(t, path).Layout
	esp, seed := layout.Partitions[0].Offset, layout.Partitions[1].Offset
	var boot [64]byte
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(boot[:], esp); err != nil {
		t.Fatal(err)
	}
	fatAt := esp + int64(binary.LittleEndian.Uint16(boot[14:]))*sector
	dataAt := fatAt + 2*sector*int64(binary.LittleEndian.Uint32(boot[36:]))
	for name, tt := range map[string]struct {
		off  int64
		want error
		text string
	}{
		"MBR":                    {510, ErrTable, "GPT disk"},
		"header":                 {sector, ErrTable, "no first copy"},
		"header's content":       {sector + 57, ErrTable, "checksum of the first copy's header"},
		"header's checksum":      {sector + 16, ErrTable, "checksum of the first copy's header"},
		"header's size":          {sector + 12, ErrTable, "unusual size"},
		"entries":                {2*sector + 40, ErrTable, "checksum of the first copy's entries"},
		"second header":          {layout.Size - sector, ErrTable, "no second copy"},
		"second header's place":  {layout.Size - sector + 24, ErrTable, "second copy's header"},
		"second entries":         {layout.Size - 33*sector, ErrTable, "second copy's entries"},
		"boot sector":            {esp + 510, ErrBoot, "no FAT32"},
		"cluster size":           {esp + 13, ErrBoot, "geometry"},
		"number of FATs":         {esp + 16, ErrBoot, "geometry"},
		"size of the volume":     {esp + 35, ErrBoot, "larger than its partition"},
		"size of the FAT":        {esp + 39, ErrBoot, "larger than its partition"},
		"first FAT":              {fatAt + 8, ErrBoot, "copies"},
		"name in a folder":       {dataAt + 32 + 8, ErrFile, ""},
		"squashfs's magic":       {seed, ErrSeed, "no squashfs"},
		"squashfs's block size":  {seed + 14, ErrSeed, "sizes"},
		"squashfs's inode table": {seed + 69, ErrSeed, ""},
		"squashfs's directories": {seed + 77, ErrSeed, ""},
		"squashfs's fragments":   {seed + 85, ErrSeed, "behind its end"},
		"squashfs's root":        {seed + 35, ErrSeed, ""},
	} {
		var b [1]byte
		if _, err := f.ReadAt(b[:], tt.off); err != nil {
			t.Fatal(err)
		}
		write := func(c byte) {
			if _, err := f.WriteAt([]byte{c}, tt.off); err != nil {
				t.Fatal(err)
			}
		}
		write(b[0] ^ 0x55)
		if r := look(t, path); !found(r, tt.want, tt.text) {
			t.Errorf("%s: %v, want %v with %q", name, r.Findings, tt.want, tt.text)
		}
		write(b[0])
	}
	for _, size := range []int64{0, 100, 5000, layout.Size - 1, layout.Size + sector} {
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if r := look(t, path); len(r.Findings) == 0 {
			t.Errorf("an image of %d bytes is in order", size)
		}
		if size < 1<<20 {
			honest(t).write(t, path) // the content is gone
		}
	}
}

// TestTablesThatLie have right checksums.
func TestTablesThatLie(t *testing.T) {
	const size = 200 * sector
	entry := func(first, last uint64) []byte {
		e := make([]byte, gpt.EntrySize)
		e[0], e[16], e[56] = 1, 2, 'p'
		binary.LittleEndian.PutUint64(e[32:], first)
		binary.LittleEndian.PutUint64(e[40:], last)
		return e
	}
	for name, tt := range map[string]struct {
		one, two []byte
		text     string // "": in order
	}{
		"honest":          {entry(40, 50), entry(40, 50), ""},
		"two tables":      {entry(40, 50), entry(40, 51), "other partitions"},
		"overlap":         {append(entry(40, 50), entry(50, 60)...), append(entry(40, 50), entry(50, 60)...), "overlap"},
		"over the tables": {entry(1, 50), entry(1, 50), "outside"},
		"behind the end":  {entry(40, 1<<60), entry(40, 1<<60), "outside"},
		"backwards":       {entry(50, 40), entry(50, 40), "outside"},
	} {
		_, err := readLayout(bytes.NewReader(disk(size, tt.one, tt.two)), size)
		if tt.text == "" && err != nil || tt.text != "" && (!errors.Is(err, ErrTable) || !strings.Contains(err.Error(), tt.text)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// disk is a GPT disk with these tables.
func disk(size int, one, two []byte) []byte {
	b := make([]byte, size)
	last := size/sector - 1
	b[450], b[510], b[511] = 0xee, 0x55, 0xaa
	le := binary.LittleEndian
	put := func(self, other, tableAt int, table []byte) {
		copy(b[tableAt*sector:], table)
		h := b[self*sector:]
		copy(h, "EFI PART\x00\x00\x01\x00")
		le.PutUint32(h[12:], gpt.HeaderSize)
		for i, v := range []int{self, other, 34, last - 33} {
			le.PutUint64(h[24+8*i:], uint64(v))
		}
		le.PutUint64(h[72:], uint64(tableAt))
		le.PutUint32(h[80:], gpt.Entries)
		le.PutUint32(h[84:], gpt.EntrySize)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(b[tableAt*sector:][:gpt.TableSize]))
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:gpt.HeaderSize]))
	}
	put(1, last, 2, one)
	put(last, 1, last-32, two)
	return b
}

// volume is a small FAT32 file system with the files A.TXT and "long name".
func volume() []byte {
	b := make([]byte, 64*sector)
	le := binary.LittleEndian
	le.PutUint16(b[11:], sector)
	b[13], b[14], b[16], b[510], b[511] = 1, 1, 2, 0x55, 0xaa
	le.PutUint32(b[32:], 64)
	le.PutUint32(b[36:], 1)
	le.PutUint32(b[44:], 2)
	for i, next := range []uint32{0x0ffffff8, 0x0fffffff, 0x0fffffff, 4, 0x0fffffff, 0x0fffffff} {
		le.PutUint32(b[sector+4*i:], next)
		le.PutUint32(b[2*sector+4*i:], next)
	}
	dir := b[3*sector:]
	copy(dir, "A       TXT")
	le.PutUint16(dir[26:], 3)
	le.PutUint32(dir[28:], 600)
	long := dir[32:]
	long[0], long[11] = 0x41, 0x0f
	for i, c := range "long name" {
		le.PutUint16(long[[]int{1, 3, 5, 7, 9, 14, 16, 18, 20}[i]:], uint16(c))
	}
	folder := dir[64:]
	copy(folder, "LONGNA~1   \x10")
	le.PutUint16(folder[26:], 5)
	return b
}

func listing(b []byte) ([]ESPFile, error) {
	f, err := openFAT(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	return f.files(func(int64) error { return nil })
}

func TestFATThatLies(t *testing.T) {
	if files, err := listing(volume()); err != nil || len(files) != 1 || files[0].Path != "/A.TXT" || files[0].Size != 600 {
		t.Fatal(files, err)
	}
	dir, table := 3*sector, sector
	for name, change := range map[string]func(b []byte){
		"a folder in itself": func(b []byte) { b[dir+64+26] = 2 },
		"a chain in a ring":  func(b []byte) { b[table+16], b[table+17], b[table+18], b[table+19] = 3, 0, 0, 0 },
		"a chain outside":    func(b []byte) { b[table+16], b[table+17] = 0xff, 0x10 },
		"a file cut short":   func(b []byte) { b[dir+30] = 1 },
		"a file from zero":   func(b []byte) { b[dir+26] = 0 },
		"a slash":            func(b []byte) { b[dir] = '/' },
		"up":                 func(b []byte) { copy(b[dir+32:], make([]byte, 32)); copy(b[dir+32:], "          A") },
	} {
		b := volume()
		change(b)
		copy(b[2*sector:3*sector], b[sector:])
		if files, err := listing(b); name != "up" && !errors.Is(err, ErrBoot) {
			t.Errorf("%s: %v, %v", name, files, err)
		}
	}
}

func FuzzLayout(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		layout, err := readLayout(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		if layout.Size > int64(len(data)) {
			t.Errorf("%d bytes of %d", layout.Size, len(data))
		}
		for _, p := range layout.Partitions {
			if p.Offset < 0 || p.Size <= 0 || p.Offset+p.Size > layout.Size {
				t.Errorf("%+v lies outside", p)
			}
		}
	})
}

func FuzzFAT(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		copy(data[min(len(data), 2*sector):], data[min(len(data), sector):min(len(data), 2*sector)])
		files, err := listing(data)
		if err != nil {
			return
		}
		total := int64(0)
		for _, file := range files {
			total += file.Size
		}
		if total > int64(len(data)) {
			t.Errorf("%d bytes of files in %d", total, len(data))
		}
	})
}

func FuzzSquashfs(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := readPapers(bytes.NewReader(data), int64(len(data)))
		if err == nil && len(files) > maxPapers {
			t.Errorf("%d files", len(files))
		}
	})
}
