package sysinit

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/kmod"
	"github.com/phasebased/phase/internal/nettest"
)

// machine is a /sys in which every device has these files.
func machine(devices map[string]map[string]string) fstest.MapFS {
	sys := fstest.MapFS{"bus/pci/drivers/none": {}}
	for device, files := range devices {
		for name, text := range files {
			sys["bus/"+device+"/"+name] = &fstest.MapFile{Data: []byte(text + "\n")}
		}
	}
	return sys
}

func pci(class, id, modalias string) map[string]string {
	return map[string]string{"class": class, "vendor": "0x" + id[:4], "device": "0x" + id[5:], "modalias": modalias}
}

func usb(class string, modalias string) map[string]string {
	return map[string]string{"bInterfaceClass": class[:2], "bInterfaceSubClass": class[2:4], "bInterfaceProtocol": class[4:], "modalias": modalias}
}

func with(files map[string]string, more ...string) map[string]string {
	for _, name := range more {
		files[name] = "x"
	}
	return files
}

// known are modules of a kernel of which the image has those in modules.dep.
func known(t *testing.T) *Modules {
	t.Helper()
	const dir = "lib/modules/6.1.0"
	index, err := kmod.Load(fstest.MapFS{
		dir + "/modules.dep": {Data: []byte("kernel/net/loaded.ko:\nkernel/net/second.ko:\nkernel/net/failed.ko:\nkernel/net/refused.ko: kernel/net/base.ko\nkernel/net/nothing.ko:\nkernel/net/later.ko:\n")},
		dir + "/modules.alias": {Data: []byte(`alias pci:loaded* loaded
alias pci:failed* loaded
alias pci:failed* failed
alias pci:absent* e1000
alias pci:nothing* nothing
alias pci:own* own
alias pci:later* later
alias usb:loaded* loaded
alias usb:absent* r8152
alias sdio:c* refused
alias virtio:d00000001v* virtio_net
alias xen:vif* second
`)},
		dir + "/modules.builtin": {Data: []byte("kernel/net/own.ko\n")},
	}, dir)
	if err != nil {
		t.Fatal(err)
	}
	return &Modules{
		dir: t.TempDir(), index: index, seen: map[string]bool{},
		done: map[string]error{
			"kernel/net/loaded.ko": nil, "kernel/net/second.ko": nil, "kernel/net/nothing.ko": unix.ENODEV,
			"kernel/net/failed.ko": errors.New("failed.ko is not for this kernel"),
		},
		missing: []Missing{{Device: "sdio/x", Module: "refused", Err: errors.New("no module base in this kernel's package, wanted by refused")}},
	}
}

func TestWithout(t *testing.T) {
	const log = `<6>[    1.0] e1000e: Intel(R) PRO/1000 Network Driver
<4>[    2.0] loaded 0000:00:06.0: Direct firmware load for loaded-2.ucode failed with error -2
<4>[    2.1] loaded 0000:00:06.0: Direct firmware load for loaded-1.ucode failed with error -2
<3>[    2.2] loaded 0000:00:07.0: firmware: failed to load debian.fw (-2)
<3>[    2.3] usb 1-4: Direct firmware load for usb.fw failed with error -2
<3>[    2.4] loaded 0000:00:0a.0: Direct firmware load for optional.fw failed with error -2
`
	sys := machine(map[string]map[string]string{
		"pci/devices/0000:00:00.0": pci("0x060000", "8086:1237", "pci:absent"), // no network device
		"pci/devices/0000:00:01.0": with(pci("0x020000", "8086:100e", "pci:absent"), "driver/module/x"),
		"pci/devices/0000:00:02.0": pci("0x020000", "8086:ffff", "pci:unknown"),
		"pci/devices/0000:00:03.0": pci("0x020000", "8086:100e", "pci:absent"),
		"pci/devices/0000:00:04.0": pci("0x028000", "8086:a0f0", "pci:failed"),
		"pci/devices/0000:00:05.0": pci("0x020000", "8086:0001", "pci:own"),
		"pci/devices/0000:00:06.0": pci("0x028000", "8086:0002", "pci:loaded"),
		"pci/devices/0000:00:07.0": with(pci("0x028000", "8086:0003", "pci:loaded"), "driver/module/x"),
		"pci/devices/0000:00:08.0": pci("0x020000", "8086:0004", "pci:nothing"),
		"pci/devices/0000:00:09.0": pci("0x020000", "8086:0005", "pci:later"),
		"pci/devices/0000:00:0a.0": with(pci("0x020000", "8086:0006", "pci:loaded"), "driver/module/x", "net/eth0/mtu"),
		"pci/devices/0000:00:0b.0": {"class": "0x020000", "vendor": "0x80/86", "device": "0x100e"},
		"usb/devices/1-1":          {"idVendor": "0bda", "idProduct": "8153"},
		"usb/devices/1-1:1.0":      usb("ffff00", "usb:absent"),
		"usb/devices/1-1:1.1":      usb("ffff01", "usb:absent"), // told once
		"usb/devices/1-2":          {"idVendor": "0525", "idProduct": "a4a2"},
		"usb/devices/1-2:1.0":      usb("020600", "usb:unknown"),
		"usb/devices/1-2:1.1":      usb("0a0000", "usb:unknown"), // the data interface of 1-2:1.0
		"usb/devices/1-3:1.0":      usb("ffffff", "usb:unknown"), // whatever it is
		"usb/devices/1-4:1.0":      usb("ff0000", "usb:loaded"),
		"usb/devices/1-5:1.0":      usb("e00101", "usb:absent"), // Bluetooth
		"usb/devices/1-6:1.0":      with(usb("020d00", "usb:absent"), "driver/module/x"),
		"usb/devices/1-7:1.0":      usb("0202ff", "usb:absent"),
		"usb/devices/usb1":         {"idVendor": "1d6b", "idProduct": "0002"},
		"sdio/devices/mmc1:0001:1": {"class": "0x07", "vendor": "0x02d0", "device": "0xa9a6", "modalias": "sdio:c07"},
		"sdio/devices/mmc1:0001:2": {"class": "0x02", "vendor": "0x02d0", "device": "0xa9a6", "modalias": "sdio:c02"}, // Bluetooth
		"sdio/devices/mmc1:0001:3": {"class": "0x00", "modalias": "mmc:block"},
		"virtio/devices/virtio0":   {"modalias": "virtio:d00000001v00001AF4"},
		"virtio/devices/virtio1":   {"modalias": "virtio:d00000002v00001AF4"}, // a disk
		"vmbus/devices/4487b255":   {"modalias": "vmbus:635161f83edfc546913ff2d2f965ed0e"},
		"xen/devices/vif-0":        {"modalias": "xen:vif"},
	})
	var got []string
	for _, u := range known(t).Without(sys, log) {
		got = append(got, u.String())
	}
	want := []string{
		"device 0000:00:02.0 (Ethernet, 8086:ffff): no module of this kernel knows it",
		"device 0000:00:03.0 (Ethernet, 8086:100e) wants module e1000, not in this image",
		"device 0000:00:04.0 (network card, 8086:a0f0) wants module failed: failed.ko is not for this kernel",
		"device 0000:00:05.0 (Ethernet, 8086:0001): the kernel's own driver does not take it",
		"device 0000:00:06.0 (network card, 8086:0002) has module loaded, which lacks its firmware loaded-2.ucode",
		"device 0000:00:07.0 (network card, 8086:0003) has module loaded, which lacks its firmware debian.fw",
		"device 0000:00:08.0 (Ethernet, 8086:0004) has module nothing, which does not take it",
		"device 0000:00:09.0 (Ethernet, 8086:0005) wants module later: not loaded yet",
		"device 0000:00:0b.0 (Ethernet): no module of this kernel knows it",
		"device 1-1 (USB, 0bda:8153) wants module r8152, not in this image",
		"device 1-2 (USB network, 0525:a4a2): no module of this kernel knows it",
		"device 1-4 (USB) has module loaded, which lacks its firmware usb.fw",
		"device 1-7 (USB network) wants module r8152, not in this image",
		"device mmc1:0001:1 (SDIO Wi-Fi, 02d0:a9a6) wants module refused: no module base in this kernel's package, wanted by refused",
		"device virtio0 (virtio network) wants module virtio_net, not in this image",
		"device 4487b255 (Hyper-V network): no module of this kernel knows it",
		"device vif-0 (Xen network) has module second, which does not take it",
	}
	if !slices.Equal(got, want) {
		for n := range max(len(got), len(want)) {
			g, w := "", ""
			if n < len(got) {
				g = got[n]
			}
			if n < len(want) {
				w = want[n]
			}
			if g != w {
				t.Errorf("%2d got  %s\n   want %s", n, g, w)
			}
		}
	}
	if got := known(t).Without(fstest.MapFS{}, ""); len(got) > 0 {
		t.Errorf("without devices: %v", got)
	}
}

func TestWithoutIsBounded(t *testing.T) {
	devices := map[string]map[string]string{}
	for n := range 2 * maxUndriven {
		devices[fmt.Sprintf("pci/devices/0000:%02x:00.0", n)] = pci("0x020000", "8086:100e", "pci:absent")
	}
	if got := known(t).Without(machine(devices), ""); len(got) != maxUndriven {
		t.Errorf("%d devices", len(got))
	}
}

// TestWithoutLater: what is plugged in later is told when asked again.
func TestWithoutLater(t *testing.T) {
	m := known(t)
	sys := machine(nil)
	if got := m.Without(sys, ""); len(got) > 0 {
		t.Errorf("%v", got)
	}
	sys["bus/usb/devices/2-1:1.0/bInterfaceClass"] = &fstest.MapFile{Data: []byte("02\n")}
	sys["bus/usb/devices/2-1:1.0/bInterfaceSubClass"] = &fstest.MapFile{Data: []byte("0d\n")}
	sys["bus/usb/devices/2-1:1.0/bInterfaceProtocol"] = &fstest.MapFile{Data: []byte("00\n")}
	sys["bus/usb/devices/2-1:1.0/modalias"] = &fstest.MapFile{Data: []byte("usb:absent\n")}
	got := m.Without(sys, "")
	if len(got) != 1 || got[0].Device != "2-1" || got[0].Module != "r8152" || !errors.Is(got[0].Err, fs.ErrNotExist) {
		t.Errorf("%+v", got)
	}
}

func TestKernelLog(t *testing.T) {
	log, err := KernelLog()
	if errors.Is(err, unix.EPERM) {
		nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", "needs leave to read the kernel's log")
	}
	if err != nil {
		t.Fatal(err)
	}
	if log == "" {
		t.Error("the kernel has said nothing")
	}
}
