package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/vm"
)

func TestMediumDisk(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name, format, as string
		want             vm.Disk
	}{
		{"a.img", "", "", vm.Disk{Format: vm.FormatRaw, Bus: vm.BusVirtio}},
		{"a.RAW", "", "usb", vm.Disk{Format: vm.FormatRaw, Bus: vm.BusUSB}},
		{"a.qcow2", "", "nvme", vm.Disk{Format: vm.FormatQCOW2, Bus: vm.BusNVMe}},
		{"a.vmdk", "", "sata", vm.Disk{Format: vm.FormatVMDK, Bus: vm.BusSATA}},
		{"a.vhd", "", "scsi", vm.Disk{Format: vm.FormatVHD, Bus: vm.BusSCSI}},
		{"a.vhdx", "", "", vm.Disk{Format: vm.FormatVHDX, Bus: vm.BusVirtio}},
		{"a.iso", "", "", vm.Disk{Format: vm.FormatRaw, Bus: vm.BusSCSI, CDROM: true}},
		{"a.iso", "", "usb", vm.Disk{Format: vm.FormatRaw, Bus: vm.BusUSB}},
		{"a.img", "", "cdrom", vm.Disk{Format: vm.FormatRaw, Bus: vm.BusSCSI, CDROM: true}},
		{"noname", "qcow2", "", vm.Disk{Format: vm.FormatQCOW2, Bus: vm.BusVirtio}},
		{"/dev/null", "", "", vm.Disk{Format: vm.FormatRaw, Bus: vm.BusVirtio}},
	} {
		if tt.want.Path = tt.name; !filepath.IsAbs(tt.name) {
			tt.want.Path = filepath.Join(dir, tt.name)
			if err := os.WriteFile(tt.want.Path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := mediumDisk(tt.want.Path, tt.format, tt.as); err != nil || got != tt.want {
			t.Errorf("%s %s %s: %+v, %v", tt.name, tt.format, tt.as, got, err)
		}
	}
	if _, err := mediumDisk(filepath.Join(dir, "absent.img"), "", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

// TestMediumArch: the boot loaders at the places of removable media tell.
func TestMediumArch(t *testing.T) {
	own := map[string]string{"amd64": vm.X8664, "arm64": vm.ARM64}[runtime.GOARCH]
	for _, tt := range []struct {
		loaders []string
		format  string
		want    string
	}{
		{[]string{"BOOTX64.EFI"}, vm.FormatRaw, vm.X8664},
		{[]string{"BOOTAA64.EFI"}, vm.FormatRaw, vm.ARM64},
		{[]string{"BOOTAA64.EFI", "BOOTX64.EFI"}, vm.FormatRaw, own},
		{[]string{"BOOTAA64.EFI"}, vm.FormatQCOW2, vm.X8664},
		{nil, vm.FormatRaw, vm.X8664},
	} {
		d := vm.Disk{Path: filepath.Join(t.TempDir(), "medium"), Format: tt.format}
		mediumWith(t, d.Path, tt.loaders)
		if got := mediumArch(d); got != tt.want {
			t.Errorf("%v as %s: %s, want %s", tt.loaders, tt.format, got, tt.want)
		}
	}
	if got := mediumArch(vm.Disk{Path: "/dev/null", Format: vm.FormatRaw}); got != vm.X8664 {
		t.Errorf("nothing: %s", got)
	}
}

// mediumWith writes a disk with an EFI system partition.
func mediumWith(t *testing.T, path string, loaders []string) {
	t.Helper()
	tree := &image.Tree{}
	for _, name := range loaders {
		tree.Bytes("EFI/BOOT/"+name, 0o644, []byte("loader"))
	}
	parts, size, err := image.Layout([]image.Partition{{Label: "phase-esp", Type: image.TypeESP(), ID: image.DeriveGUID("a", "b"), Size: image.MinFAT32}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := image.CreateSparse(path, size)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fat := image.FAT32{Label: "PHASE-ESP", Size: parts[0].Size, Offset: parts[0].Offset, Time: time.Unix(1e9, 0)}
	esp := io.NewOffsetWriter(f, parts[0].Offset)
	if err := errors.Join(image.WriteGPT(f, image.DeriveGUID("disk", "x"), parts, size), fat.Write(esp, tree)); err != nil {
		t.Fatal(err)
	}
}

func TestWhoReachesTheInternet(t *testing.T) {
	for _, tt := range []struct {
		r    vmRun
		want []bool
	}{
		{vmRun{machines: 1}, []bool{true}},
		{vmRun{machines: 1, lan: "home"}, []bool{false}},
		{vmRun{machines: 1, lan: "home", net: "all"}, []bool{true}},
		{vmRun{machines: 1, net: "none"}, []bool{false}},
		{vmRun{machines: 2}, []bool{false, false}},
		{vmRun{machines: 2, net: "first"}, []bool{true, false}},
		{vmRun{machines: 2, net: "all"}, []bool{true, true}},
	} {
		for n, want := range tt.want {
			cfg := tt.r.config(n, "m", "/state", "")
			var kinds []string
			for _, card := range cfg.Nets {
				kinds = append(kinds, card.Kind)
			}
			var wanted []string
			if want {
				wanted = append(wanted, "") // the kind by default
			}
			if tt.r.lan != "" || tt.r.machines > 1 {
				wanted = append(wanted, vm.NetSegment)
			}
			if !reflect.DeepEqual(kinds, wanted) {
				t.Errorf("%+v: machine %d has cards %q, want %q", tt.r, n, kinds, wanted)
			}
		}
	}
}

// TestForwardsDoNotCollide: each machine has ports of its own.
func TestForwardsDoNotCollide(t *testing.T) {
	forwards, err := parseForwards([]string{"8080", "9000:80"})
	if err != nil {
		t.Fatal(err)
	}
	r := vmRun{machines: 2, net: "all", ports: forwards}
	for n, want := range []string{"127.0.0.1:8080-8080 127.0.0.1:9000-80", "127.0.0.1:8081-8080 127.0.0.1:9001-80"} {
		var got []string
		for _, f := range r.config(n, "m", "/state", "").Nets[0].Forwards {
			got = append(got, f.Host.String()+"-"+strconv.Itoa(int(f.Guest)))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("machine %d: %q, want %q", n, got, want)
		}
	}
	for _, bad := range []string{"", "0", "x", "80:", ":80", "70000", "65530", "8080:80:1"} {
		if _, err := parseForwards([]string{bad}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// TestNames: runs at the same time get different machines, and a name is held until
// its run ends.
func TestNames(t *testing.T) {
	state := t.TempDir()
	first, err := claimMachines(state, "", 1)
	if err != nil || !reflect.DeepEqual(first.names, []string{"machine-1"}) {
		t.Fatalf("%+v, %v", first, err)
	}
	second, err := claimMachines(state, "", 2)
	if err != nil || !reflect.DeepEqual(second.names, []string{"machine-2", "machine-3"}) {
		t.Fatalf("%+v, %v", second, err)
	}
	if _, err := claimMachines(state, "machine-2", 1); !errors.Is(err, errRunning) {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := claimMachines(state, "machine", 3); !errors.Is(err, errRunning) {
		t.Errorf("names of which one is taken: %v", err)
	}
	second.release()
	again, err := claimMachines(state, "machine-2", 1)
	if err != nil {
		t.Errorf("a name that is free again: %v", err)
	}
	again.release()
	first.release()

	if a, b := cardAddress("machine-1", "lan"), cardAddress("machine-2", "lan"); a == b || a != cardAddress("machine-1", "lan") {
		t.Errorf("addresses %s and %s", a, b)
	}
	if a, b := segment("home"), segment("work"); a == b || !a.Addr().IsMulticast() || a.Port() < 20000 {
		t.Errorf("segments %v and %v", a, b)
	}
	if a, b := identity("machine-1"), identity("machine-2"); a[3] == b[3] || len(a[3]) != 36 || a[3][14] != '8' {
		t.Errorf("identities %q and %q", a, b)
	}
}

func TestChooseWindow(t *testing.T) {
	for _, tt := range []struct {
		wanted  string
		offered []string
		session bool
		want    string // or, in parentheses, part of the error
	}{
		{"auto", []string{"gtk", "sdl"}, true, "gtk"},
		{"sdl", []string{"gtk", "sdl"}, true, "sdl"},
		{"auto", nil, true, "(no window)"},
		{"cocoa", []string{"gtk"}, true, "(no display cocoa)"},
		{"gtk", []string{"gtk"}, false, "(no graphical session)"},
	} {
		got, err := chooseWindow(tt.wanted, tt.offered, tt.session)
		if err != nil {
			var hinted *noDisplayError
			if !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "vnc") || !strings.Contains(err.Error(), strings.Trim(strings.TrimPrefix(tt.want, "(no"), ")")) {
				t.Errorf("%+v: %v", tt, err)
			}
		} else if got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
	}
	windows := make([]string, 2)
	if err := freeVNC(windows); err != nil || windows[0] == windows[1] || !strings.HasPrefix(vncAddress(windows[0]), "127.0.0.1:59") {
		t.Errorf("%q, %v", windows, err)
	}
	if vncAddress("gtk") != "" {
		t.Error("a window has an address")
	}
}

// TestConsoleFilter: what paints passes, what reaches beyond the screen does not,
// however the bytes are cut.
func TestConsoleFilter(t *testing.T) {
	for in, want := range map[string]string{
		"plain\r\n\x1b[31mred\x1b[0m\a":               "plain\r\n\x1b[31mred\x1b[0m\a",
		"a\x1b]52;c;eA==\ab":                          "ab",
		"a\x1b]0;title\x1b\\b":                        "ab",
		"a\x1bPdcs\x1b\\b\x1b_apc\x1b\\c\x1b^pm\x18d": "abcd",
		"a\x1bXsos\nb":                                "a\r\nb",
		"a\x1b]broken\x1b[2Jb":                        "a\x1b[2Jb",
		"a\x1b\x1b]52;x\ab":                           "ab",
		"a\xc2\x9d52;x\xc2\x9cb":                      "ab",
		"grün \xc2\xa0 ├─┤ ü":                         "grün \xc2\xa0 ├─┤ ü",
		"ask\x05":                                     "ask",
		"\x1bM\x1b(0q\x1b(B":                          "\x1bM\x1b(0q\x1b(B",
	} {
		for _, cut := range []int{1, 2, 3, len(in)} {
			var out strings.Builder
			f := &consoleFilter{out: &out}
			for rest := in; rest != ""; {
				n := min(cut, len(rest))
				if _, err := f.Write([]byte(rest[:n])); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if out.String() != want {
				t.Errorf("%q in pieces of %d: %q, want %q", in, cut, out.String(), want)
			}
		}
	}
	var out strings.Builder
	f := &consoleFilter{out: &out}
	f.close()
	if _, err := f.Write([]byte("late")); err != nil || out.Len() > 0 {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func TestKeys(t *testing.T) {
	for in, want := range map[string][2]string{
		"abc\x03\r":    {"abc\x03\r", ""},
		"\x01x":        {"", "x"},
		"\x01X\x01h":   {"", "xh"},
		"a\x01\x01b":   {"a\x01b", ""},
		"a\x01Ab":      {"a\x01b", ""},
		"\x01?\x01p":   {"", "hp"},
		"\x01zq\x01Rx": {"qx", "r"},
	} {
		var k keyReader
		var typed, actions []byte
		for i := range len(in) { // a key may come alone
			a, b := k.read([]byte{in[i]})
			typed, actions = append(typed, a...), append(actions, b...)
		}
		if got := [2]string{string(typed), string(actions)}; got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{
		"-drive": "-drive", "a=b,c:/d@e%f+": "a=b,c:/d@e%f+", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$(x)": "'$(x)'",
	} {
		if got := shellQuote(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}
