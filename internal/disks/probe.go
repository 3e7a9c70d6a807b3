package disks

import (
	"bytes"
	"io"
	"os"
	"strings"
)

// probed is how much of a device is read to recognise what is on it.
const probed = 68 << 10

// probeDevice recognises the file system on a device; without permission to read,
// it says nothing.
func probeDevice(path string) (kind, label string) {
	f, err := os.Open(path)
	if err != nil {
		return "", ""
	}
	defer f.Close()
	head := make([]byte, probed)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.ErrUnexpectedEOF {
		return "", ""
	}
	return probe(head[:n])
}

// A signature recognises a file system, or something that stands for one, by bytes
// at a fixed place. The names are those that blkid gives.
type signature struct {
	kind   string
	at     int
	magic  string
	label  int // where the label is; 0: it has none
	length int
}

var signatures = []signature{
	{kind: "crypto_LUKS", at: 0, magic: "LUKS\xba\xbe"},
	{kind: "LVM2_member", at: 512 + 24, magic: "LVM2 001"},
	{kind: "linux_raid_member", at: 4096, magic: "\xfc\x4e\x2b\xa9", label: 4096 + 32, length: 32},
	{kind: "linux_raid_member", at: 0, magic: "\xfc\x4e\x2b\xa9", label: 32, length: 32},
	{kind: "squashfs", at: 0, magic: "hsqs"},
	{kind: "xfs", at: 0, magic: "XFSB", label: 108, length: 12},
	{kind: "ntfs", at: 3, magic: "NTFS    "},
	{kind: "exfat", at: 3, magic: "EXFAT   "},
	{kind: "vfat", at: 82, magic: "FAT32   ", label: 71, length: 11},
	{kind: "vfat", at: 54, magic: "FAT1", label: 43, length: 11},
	{kind: "erofs", at: 1024, magic: "\xe2\xe1\xf5\xe0", label: 1024 + 64, length: 16},
	{kind: "hfsplus", at: 1024, magic: "H+\x00\x04"},
	{kind: "apfs", at: 32, magic: "NXSB"},
	{kind: "ext4", at: 1080, magic: "\x53\xef", label: 1144, length: 16},
	{kind: "swap", at: 4086, magic: "SWAPSPACE2", label: 1052, length: 16},
	{kind: "iso9660", at: 32769, magic: "CD001", label: 32808, length: 32},
	{kind: "btrfs", at: 65600, magic: "_BHRfS_M", label: 65835, length: 64},
}

// probe recognises the first bytes of a device.
func probe(head []byte) (kind, label string) {
	for _, s := range signatures {
		if s.at+len(s.magic) > len(head) || string(head[s.at:s.at+len(s.magic)]) != s.magic {
			continue
		}
		if s.label > 0 && s.label+s.length <= len(head) {
			label = text(head[s.label : s.label+s.length])
		}
		return s.kind, label
	}
	return "", ""
}

// text is a label as it can be shown: FAT's say "NO NAME" for none.
func text(raw []byte) string {
	raw, _, _ = bytes.Cut(raw, []byte{0})
	label := strings.TrimSpace(strings.ToValidUTF8(string(raw), "?"))
	if label == "NO NAME" {
		return ""
	}
	return label
}
