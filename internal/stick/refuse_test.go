package stick

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/disks"
	"github.com/phasebased/phase/internal/gpt"
)

// TestCheck: each refusal says what the device is, and gives way to nothing that its
// owner cannot allow.
func TestCheck(t *testing.T) {
	good := disks.Disk{Name: "sdb", Path: "/dev/sdb", Vendor: "SanDisk", Model: "Ultra", Size: 1 << 35, SectorSize: 512, Bus: disks.USB, Removable: true}
	used := func(uses ...disks.Use) disks.Disk { d := good; d.Uses = uses; return d }
	changed := func(change func(*disks.Disk)) disks.Disk { d := good; change(&d); return d }
	everything := Allow{Fixed: true, Unmount: true}
	for _, tt := range []struct {
		name   string
		disk   disks.Disk
		part   string
		allow  Allow
		reason Reason // 0: accepted
		text   string
	}{
		{"a stick", good, "", Allow{}, 0, ""},
		{"a card", changed(func(d *disks.Disk) { d.Bus, d.Removable = disks.SD, false }), "", Allow{}, 0, ""},
		{"a USB disk that is not removable", changed(func(d *disks.Disk) { d.Removable = false }), "", Allow{}, 0, ""},
		{"a partition", good, "sdb1", everything, IsPartition, "/dev/sdb1 is a partition of /dev/sdb"},
		{"a mapped device", changed(func(d *disks.Disk) { d.Bus = disks.Virtual }), "", everything, IsVirtual, "is no disk"},
		{"the system's", used(disks.Use{Kind: disks.Mounted, Node: "dm-1", What: "/", System: true}), "", everything, IsSystem, "/dev/sdb belongs to the running system: / is on dm-1"},
		{"a stick that the system swaps to", used(disks.Use{Kind: disks.Swap, Node: "sdb1", What: "/dev/sdb1", System: true}), "", everything, IsSystem, "it swaps to /dev/sdb1"},
		{"an empty reader", changed(func(d *disks.Disk) { d.Size = 0 }), "", everything, NoMedium, "there is no medium"},
		{"read-only", changed(func(d *disks.Disk) { d.ReadOnly = true }), "", everything, IsReadOnly, "is read-only"},
		{"4 KiB sectors", changed(func(d *disks.Disk) { d.SectorSize = 4096 }), "", everything, SectorSize, "4096"},
		{"too small", changed(func(d *disks.Disk) { d.Size = 1000 }), "", everything, TooSmall, "it has 1.0 kB (1000 bytes), and the image needs 2.0 kB (2000 bytes)"},
		{"in an array", used(disks.Use{Kind: disks.RAID, Node: "sdb1", What: "md0"}), "", everything, InUse, "the RAID array md0 stands on sdb1"},
		{"under LVM", used(disks.Use{Kind: disks.Mapped, Node: "sdb1", What: "vg-x"}), "", everything, InUse, "the mapped device (LVM, encryption) vg-x stands on sdb1"},
		{"under a loop device", used(disks.Use{Kind: disks.Looped, Node: "sdb", What: "loop3"}), "", everything, InUse, "the loop device loop3 stands on sdb"},
		{"under bcache", used(disks.Use{Kind: disks.Held, Node: "sdb", What: "bcache0"}), "", everything, InUse, "the device bcache0 stands on sdb"},
		{"mounted twice", used(disks.Use{Kind: disks.Mounted, Node: "sdb1", What: "/media/a"}, disks.Use{Kind: disks.Mounted, Node: "sdb2", What: "/media/b"}), "", Allow{}, IsMounted, "sdb1 at /media/a, sdb2 at /media/b"},
		{"mounted, and allowed", used(disks.Use{Kind: disks.Mounted, Node: "sdb1", What: "/media/a"}), "", Allow{Unmount: true}, 0, ""},
		{"mounted in a container", used(disks.Use{Kind: disks.Mounted, Node: "sdb1", What: "/a", Other: true}), "", everything, IsMounted, "in another namespace"},
		{"built in", changed(func(d *disks.Disk) { d.Bus, d.Removable = disks.NVMe, false }), "", Allow{Unmount: true}, IsFixed, "is no stick: 34.4 GB nvme SanDisk Ultra"},
		{"built in, and allowed", changed(func(d *disks.Disk) { d.Bus, d.Removable = disks.NVMe, false }), "", Allow{Fixed: true}, 0, ""},
		{"soldered in", changed(func(d *disks.Disk) { d.Bus, d.Removable = disks.EMMC, false }), "", Allow{}, IsFixed, "emmc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Check(tt.disk, tt.part, 2000, tt.allow)
			if tt.reason == 0 && err != nil {
				t.Fatal(err)
			}
			if tt.reason != 0 {
				expect(t, err, tt.reason, tt.text)
			}
		})
	}
}

// TestWord: a built-in disk is not confirmed by three letters.
func TestWord(t *testing.T) {
	for want, d := range map[string]disks.Disk{
		"sdb":         {Name: "sdb", Vendor: "SanDisk", Model: "Ultra", Bus: disks.USB},
		"Samsung 990": {Name: "nvme0n1", Model: "Samsung 990", Bus: disks.NVMe},
		"vda":         {Name: "vda", Bus: disks.Virtio},
		"loop0":       {Name: "loop0", Model: "stick.img", Bus: disks.Loop},
	} {
		if got := Word(d); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestHints: each reason has advice.
func TestHints(t *testing.T) {
	for reason := NoDevice; reason <= Unsupported; reason++ {
		e := refuse(reason, "/dev/sdb", "x")
		if e.Hint() == "" || !strings.HasSuffix(e.Error(), "["+e.Code()+"]") {
			t.Errorf("%v: %q", e, e.Hint())
		}
	}
}

// damaged is the image with a change.
func damaged(t *testing.T, change func(b []byte) []byte) string {
	t.Helper()
	b, err := os.ReadFile(testImage(t, 24*mib, "new"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "damaged.img")
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestImageRefusals: what is no image of ours, or would not start.
func TestImageRefusals(t *testing.T) {
	le := binary.LittleEndian
	fix := func(b []byte) []byte { // makes both checksums of the first copy right again
		le.PutUint32(b[512+88:], crc(b[1024:1024+tableLength]))
		le.PutUint32(b[512+16:], gpt.Checksum(b[512:512+gpt.HeaderSize]))
		copy(b[len(b)-33*512:], b[1024:1024+tableLength])
		last := b[len(b)-512:]
		le.PutUint32(last[88:], le.Uint32(b[512+88:]))
		le.PutUint32(last[16:], gpt.Checksum(last[:gpt.HeaderSize]))
		return b
	}
	for name, tt := range map[string]struct {
		change func(b []byte) []byte
		reason Reason
		text   string
	}{
		"empty":              {func([]byte) []byte { return nil }, NoImage, "0 bytes are no size of a medium"},
		"text":               {func([]byte) []byte { return bytes.Repeat([]byte("hello world\n"), 1<<19) }, NoImage, "no complete partition table"},
		"cut":                {func(b []byte) []byte { return b[:20*mib] }, BrokenImage, "it is for a medium of another size"},
		"longer":             {func(b []byte) []byte { return append(b, make([]byte, mib)...) }, BrokenImage, "it is for a medium of another size"},
		"odd":                {func(b []byte) []byte { return append(b, 0) }, BrokenImage, "no size of a medium"},
		"flipped in header":  {func(b []byte) []byte { b[512+56] ^= 1; return b }, BrokenImage, "partition table: wrong checksum of the header"},
		"flipped in list":    {func(b []byte) []byte { b[1024+3] ^= 1; return b }, BrokenImage, "wrong checksum of the list"},
		"no second copy":     {func(b []byte) []byte { clear(b[len(b)-512:]); return b }, BrokenImage, "second copy of the partition table: there is none"},
		"no MBR":             {func(b []byte) []byte { clear(b[:512]); return b }, NoImage, "protective MBR"},
		"overlap":            {func(b []byte) []byte { le.PutUint64(b[1024+128+32:], 2049); return fix(b) }, BrokenImage, "partitions overlap"},
		"outside":            {func(b []byte) []byte { le.PutUint64(b[1024+256+40:], 1<<40); return fix(b) }, BrokenImage, "outside of the medium"},
		"backwards":          {func(b []byte) []byte { le.PutUint64(b[1024+40:], 1); return fix(b) }, BrokenImage, "outside of the medium"},
		"other label":        {func(b []byte) []byte { b[1024+56] = 'q'; return fix(b) }, NoImage, "no partition phase-esp"},
		"other type":         {func(b []byte) []byte { b[1024] ^= 1; return fix(b) }, NoImage, "no partition phase-esp"},
		"no file system":     {func(b []byte) []byte { clear(b[mib : mib+512]); return b }, BrokenImage, "boot partition without a file system"},
		"up to the edge":     {func(b []byte) []byte { le.PutUint64(b[1024+256+40:], 24*2048-34); return fix(b) }, NoImage, "first or last MiB"},
		"QCOW2":              {func(b []byte) []byte { copy(b, "QFI\xfb"); return b }, NoImage, "is a QCOW2 image, not a raw image"},
		"compressed by zstd": {func(b []byte) []byte { copy(b, "\x28\xb5\x2f\xfd"); return b }, NoImage, "is compressed by zstd"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := OpenImage(damaged(t, tt.change))
			if err == nil {
				m.Close()
			}
			expect(t, err, tt.reason, tt.text)
		})
	}
	_, err := OpenImage(filepath.Join(t.TempDir(), "none.img"))
	expect(t, err, NoImage, "none.img does not exist")
	_, err = OpenImage(t.TempDir())
	expect(t, err, NoImage, "is no file")
}

// FuzzTable: a table that is accepted lies within the medium, and moved to another
// size and back it is what it was.
func FuzzTable(f *testing.F) {
	f.Fuzz(func(t *testing.T, front, back []byte, size int64) {
		size = size &^ (sector - 1)
		r := &edges{front: front, back: back, size: size}
		table, err := readTable(r, size)
		if err != nil {
			return
		}
		end := int64(0)
		for _, p := range table.parts {
			if p.Offset < end || p.Size <= 0 || p.Offset+p.Size > size {
				t.Fatalf("%+v of %d", table.parts, size)
			}
			end = p.Offset + p.Size
		}
		one, other := table.ends(size + mib)
		moved, err := readTable(&edges{front: one, back: other, size: size + mib}, size+mib)
		if err != nil {
			t.Fatalf("moved: %v", err)
		}
		one, other = moved.ends(size)
		if again, err := readTable(&edges{front: one, back: other, size: size}, size); err != nil || !bytes.Equal(again.entries, table.entries) {
			t.Fatalf("moved back: %v", err)
		}
	})
}

// edges is a medium with nothing but its ends.
type edges struct {
	front, back []byte
	size        int64
}

func (e *edges) ReadAt(p []byte, at int64) (int, error) {
	clear(p)
	for _, part := range []piece{{0, e.front}, {e.size - int64(len(e.back)), e.back}} {
		from, to := max(part.at, at), min(part.at+int64(len(part.data)), at+int64(len(p)))
		if from < to {
			copy(p[from-at:to-at], part.data[from-part.at:])
		}
	}
	return len(p), nil
}
