package sysinit

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/fstest"
)

// TestDiscs finds our disc among drives without one, foreign discs and disks.
func TestDiscs(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	sys := fstest.MapFS{
		"class/block/sda/uevent":      file("DEVNAME=sda\n"),
		"class/block/sda/device/type": file("0\n"),
		"class/block/vda/uevent":      file("DEVNAME=vda\n"),
		"class/block/sr9/uevent":      file("DEVNAME=../sr9\n"),
		"class/block/sr9/device/type": file("5\n"),
	}
	descriptor := func(label string) string {
		return "\x01CD001\x01\x00" + strings.Repeat(" ", 32) + label + strings.Repeat(" ", 32-len(label))
	}
	discs := map[string]string{
		"sr0": descriptor("PHASE_BOOT"), "sr1": descriptor("DEBIAN"), "sr2": "\x01CD001\x01", "sr3": strings.Repeat("\x00", 2048),
		"sda": descriptor("PHASE_BOOT"), "vda": descriptor("PHASE_BOOT"), "../sr9": descriptor("PHASE_BOOT"),
	}
	for _, name := range []string{"sr0", "sr1", "sr2", "sr3", "sr4"} {
		sys["class/block/"+name+"/uevent"], sys["class/block/"+name+"/device/type"] = file("DEVNAME="+name+"\n"), file("5\n")
	}
	open := func(device string) (io.ReadCloser, error) {
		content, ok := discs[strings.TrimPrefix(device, "/dev/")]
		if !ok {
			return nil, errors.New("no medium found")
		}
		return io.NopCloser(strings.NewReader(content)), nil
	}
	found, drives := Discs(sys, open, "PHASE_BOOT")
	if drives != 5 {
		t.Errorf("%d drives, want 5", drives)
	}
	want := Partition{Device: "/dev/sr0", Disk: "sr0", Label: "PHASE_BOOT", Removable: true, Disc: true}
	if len(found) != 1 || found[0] != want {
		t.Errorf("found %+v, want %+v", found, want)
	}
	if found, drives := Discs(fstest.MapFS{}, open, "PHASE_BOOT"); found != nil || drives != 0 {
		t.Errorf("without disks: %v, %d drives", found, drives)
	}
}
