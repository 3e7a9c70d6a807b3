package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/phasebased/phase/internal/disks"
	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/stick"
)

func TestWriteScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/write", Cmds: map[string]func(*testscript.TestScript, bool, []string){"sticktool": stickTool},
	})
}

// stickTool makes and judges what the scripts write.
func stickTool(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[1])
	switch args[0] {
	case "image":
		ts.Check(makeImage(path))
	case "blank":
		n, err := strconv.ParseInt(args[2], 10, 64)
		ts.Check(err)
		f, err := image.CreateSparse(path, n<<20)
		ts.Check(err)
		ts.Check(f.Close())
	case "empty":
		b, err := os.ReadFile(path)
		ts.Check(err)
		if len(bytes.Trim(b, "\x00")) > 0 {
			ts.Fatalf("%s is not empty", path)
		}
	case "flip":
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		ts.Check(err)
		_, err = f.WriteAt([]byte{0xff}, 512+56)
		ts.Check(errors.Join(err, f.Close()))
	case "same":
		if a, b := digest(ts, path), digest(ts, ts.MkAbs(args[2])); a != b {
			ts.Fatalf("%s is %s, %s is %s", args[1], a, args[2], b)
		}
	}
}

func digest(ts *testscript.TestScript, path string) string {
	s, err := stick.OpenSource(context.Background(), path)
	ts.Check(err)
	defer s.Close()
	d, err := s.Digest(context.Background(), 0, s.Size, nil)
	ts.Check(err)
	return d.String()
}

// makeImage makes an image of 24 MiB with a boot partition.
func makeImage(path string) error {
	parts, size, err := image.Layout([]image.Partition{{Label: "phase-esp", Type: image.TypeESP(), Size: 22 << 20}})
	if err != nil {
		return err
	}
	f, err := image.CreateSparse(path, size)
	if err != nil {
		return err
	}
	boot := make([]byte, 512)
	copy(boot[82:], "FAT32   ")
	boot[510], boot[511] = 0x55, 0xaa
	_, writeErr := f.WriteAt(boot, parts[0].Offset)
	return errors.Join(writeErr, image.WriteGPT(f, image.DeriveGUID("x"), parts, size), f.Close())
}

// TestDevicesTable: what can be written to comes first, and nothing that a disk says
// of itself moves the cursor.
func TestDevicesTable(t *testing.T) {
	var out bytes.Buffer
	err := devicesText(&out, []disks.Disk{
		{Name: "nvme0n1", Path: "/dev/nvme0n1", Model: "WD_BLACK", Serial: "21480001", Size: 1e12, SectorSize: 512, Bus: disks.NVMe,
			Uses: []disks.Use{{Kind: disks.Mounted, Node: "nvme0n1p2", What: "/", System: true}}},
		{Name: "sda", Path: "/dev/sda", Model: "Samsung SSD 870", Size: 5e11, SectorSize: 512, Bus: disks.ATA},
		{Name: "sdb", Path: "/dev/sdb", Vendor: "SanDisk", Model: "Ul\x1b[2Jtra", Serial: "4C5300014821", Size: 32e9, SectorSize: 512, Bus: disks.USB,
			Partitions: []disks.Partition{{Name: "sdb1", Size: 31e9, FileSystem: "vfat", FSLabel: "PHOTOS"}}},
		{Name: "dm-0", Path: "/dev/dm-0", Size: 1e9, SectorSize: 512, Bus: disks.Virtual},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `
CAN BE WRITTEN TO  SIZE     BUS  MODEL              SERIAL   HOLDS
/dev/sdb           32.0 GB  usb  SanDisk Ul?[2Jtra  ...4821  vfat PHOTOS

CAN NOT       SIZE      BUS   MODEL            SERIAL   BECAUSE IT
/dev/nvme0n1  1.0 TB    nvme  WD_BLACK         ...0001  belongs to the running system: / is on nvme0n1p2
/dev/sda      500.0 GB  ata   Samsung SSD 870           is no stick: 500.0 GB ata Samsung SSD 870
`
	if got := out.String(); got != strings.TrimPrefix(want, "\n") {
		t.Errorf("\n%s", got)
	}
}

// TestReadAnswer: an answer is a line; who interrupts, or says nothing, has given none.
func TestReadAnswer(t *testing.T) {
	if got, err := readAnswer(t.Context(), strings.NewReader(" sdb \nmore")); got != "sdb" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	if got, err := readAnswer(t.Context(), strings.NewReader("sdb")); err == nil {
		t.Errorf("%q without a line end", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := readAnswer(ctx, r); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
