package vm

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestArgs(t *testing.T) {
	usb := Config{
		Disks:   []Disk{{Path: "/img/phase.img", Bus: BusUSB, Snapshot: true}},
		Nets:    []Net{{}},
		Report:  true,
		Display: true,
	}
	direct := Config{
		Kernel: "/b/vmlinuz", Initrd: "/b/initramfs.img", Append: "console=ttyS0 a,b",
		Memory: 512, CPUs: 1, Accel: AccelTCG, CPU: "max",
		RTC:    time.Date(2020, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600)),
		Reboot: true, Extra: []string{"-name", "x"},
	}
	lan := Config{
		Disks: []Disk{
			{Path: "/a,b/one.img", ReadOnly: true},
			{Path: "two.qcow2", Format: "qcow2", Bus: BusNVMe},
			{Path: "three.img", Bus: BusSATA},
			{Path: "four.img", Bus: BusSATA},
			{Path: "five,.img", WriteLog: "five.log"},
		},
		Nets: []Net{
			{Kind: NetLAN, MAC: "52:54:00:00:00:02", LAN: &LAN{}, Model: "e1000", Capture: "/tmp/lan.pcap"},
			{MAC: "52:54:00:00:00:01", Restrict: true, Forwards: []Forward{{Host: netip.MustParseAddrPort("127.0.0.1:8080"), Guest: 80}}},
		},
	}
	media := []Disk{
		{Path: "one.vmdk", Format: FormatVMDK, Bus: BusSCSI, Snapshot: true},
		{Path: "two.vhd", Format: FormatVHD, Bus: BusSCSI},
		{Path: "three.vhdx", Format: FormatVHDX, Bus: BusSATA},
		{Path: "one.iso", CDROM: true},
		{Path: "two.iso", CDROM: true, Bus: BusSCSI},
		{Path: "three.iso", CDROM: true, Bus: BusUSB, Snapshot: true},
	}
	tests := []struct {
		name  string
		cfg   Config
		accel string
		uefi  bool
	}{
		{"secure-boot", Config{SecureBoot: true, Disks: usb.Disks}, AccelTCG, true},
		{"secure-boot-arm64", Config{Arch: ARM64, SecureBoot: true}, AccelTCG, true},
		{"formats-and-cdroms", Config{Disks: media}, AccelTCG, true},
		{"usb-uefi-tcg", usb, AccelTCG, true},
		{"usb-uefi-kvm", usb, AccelKVM, true},
		{"direct-kernel", direct, AccelTCG, false},
		{"buses-and-lan", lan, AccelKVM, true},
		{"bios", Config{BIOS: true}, AccelTCG, false},
		{"arm64", Config{Arch: ARM64, Disks: usb.Disks, Nets: usb.Nets, Display: true}, AccelTCG, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := tt.cfg.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			p := plan{Config: cfg, accel: tt.accel}
			if tt.uefi {
				p.code, p.vars = "/fw/code.fd", "/run/vars.fd"
			}
			golden(t, filepath.Join("testdata", "args", tt.name+".txt"), p.args())
		})
	}
}

// golden compares arguments, an option with its value per line, with a file.
func golden(t *testing.T, path string, args []string) {
	t.Helper()
	got := strings.TrimPrefix(strings.ReplaceAll("\n"+strings.Join(args, " "), " -", "\n-"), "\n") + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant (%s)\n%s", got, path, want)
	}
}

func TestConfigRefused(t *testing.T) {
	disk := func(d Disk) Config { return Config{Disks: []Disk{d}} }
	card := func(n Net) Config { return Config{Nets: []Net{n}} }
	tests := []struct {
		name string
		cfg  Config
		want string // part of the error
	}{
		{"architecture", Config{Arch: "amd64"}, `architecture "amd64"`},
		{"accelerator", Config{Accel: "hvf"}, `accelerator "hvf"`},
		{"memory", Config{Memory: 1}, "1 MiB"},
		{"processors", Config{CPUs: -1}, "-1 processors"},
		{"initrd alone", Config{Initrd: "i"}, "without a kernel"},
		{"append alone", Config{Append: "quiet"}, "without a kernel"},
		{"bios on arm64", Config{Arch: ARM64, BIOS: true}, "BIOS"},
		{"disk without path", disk(Disk{}), "no path"},
		{"disk format", disk(Disk{Path: "d", Format: "parallels"}), `format "parallels"`},
		{"CD drive on virtio", disk(Disk{Path: "d", CDROM: true, Bus: BusVirtio}), "no CD drives"},
		{"CD drive on NVMe", disk(Disk{Path: "d", CDROM: true, Bus: BusNVMe}), "no CD drives"},
		{"write log of a CD", disk(Disk{Path: "d", CDROM: true, WriteLog: "l"}), "raw disk"},
		{"Secure Boot with BIOS", Config{SecureBoot: true, BIOS: true}, "Secure Boot"},
		{"Secure Boot without firmware", Config{SecureBoot: true, Kernel: "k"}, "Secure Boot"},
		{"disk bus", disk(Disk{Path: "d", Bus: "floppy"}), `bus "floppy"`},
		{"read-only SATA", disk(Disk{Path: "d", Bus: BusSATA, ReadOnly: true}), "read-only"},
		{"write log of a snapshot", disk(Disk{Path: "d", Snapshot: true, WriteLog: "l"}), "raw disk"},
		{"write log of a qcow2", disk(Disk{Path: "d", Format: "qcow2", WriteLog: "l"}), "raw disk"},
		{"network kind", card(Net{Kind: "bridge"}), `kind "bridge"`},
		{"no LAN", card(Net{Kind: NetLAN}), "no LAN"},
		{"LAN on user network", card(Net{LAN: &LAN{}}), "is no LAN"},
		{"restricted LAN", card(Net{Kind: NetLAN, LAN: &LAN{}, Restrict: true}), "restrict"},
		{"LAN without address", card(Net{Kind: NetLAN, LAN: &LAN{}}), "no address"},
		{"too many cards", Config{Nets: make([]Net, 251)}, "250"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.cfg.withDefaults()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestDefaultsLeaveTheCallersSlices(t *testing.T) {
	cfg := Config{Disks: []Disk{{Path: "d"}}, Nets: []Net{{}}}
	if _, err := cfg.withDefaults(); err != nil {
		t.Fatal(err)
	}
	if cfg.Disks[0].Bus != "" || cfg.Nets[0].MAC != "" {
		t.Errorf("changed to %+v %+v", cfg.Disks[0], cfg.Nets[0])
	}
}
