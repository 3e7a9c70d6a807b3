package sysinit

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds on what is told of devices and read of the kernel's log.
const (
	maxUndriven  = 32
	maxKernelLog = 4 << 20
)

// Undriven is a network device that no driver serves, or whose driver lacks its
// firmware.
type Undriven struct {
	Device   string // its name on its bus: "0000:00:03.0"
	Kind     string // "Ethernet", "virtio network", …
	ID       string // vendor and device in hex, "8086:100e"; may be empty
	Module   string // that knows it; empty: none of this kernel, or see Err
	Firmware string // the file that the module asked for in vain, if it said so
	Err      error  // why the module does not work; wraps fs.ErrNotExist if the image has none
}

// errOwnDriver is a device that a part of the kernel itself knows.
var errOwnDriver = errors.New("the kernel's own driver does not take it")

// errNotLoaded is a module that nobody has tried to load, yet.
var errNotLoaded = errors.New("not loaded yet")

func (u Undriven) String() string {
	what := u.Kind
	if u.ID != "" {
		what += ", " + u.ID
	}
	head := fmt.Sprintf("device %s (%s)", u.Device, what)
	switch {
	case u.Module == "" && u.Err == nil:
		return head + ": no module of this kernel knows it"
	case u.Module == "":
		return head + ": " + u.Err.Error()
	case errors.Is(u.Err, fs.ErrNotExist):
		return head + " wants module " + u.Module + ", not in this image"
	case u.Err != nil:
		return fmt.Sprintf("%s wants module %s: %v", head, u.Module, u.Err)
	case u.Firmware != "":
		return fmt.Sprintf("%s has module %s, which lacks its firmware %s", head, u.Module, u.Firmware)
	}
	return head + " has module " + u.Module + ", which does not take it"
}

// Without lists the network devices without a driver, and why: on PCI, USB, SDIO
// and of virtual machines. sys is /sys, kernelLog what KernelLog gives. Devices
// that were plugged in since the last call are there, too. Of a USB device with
// nothing but the maker's own protocols it is not known what it is: it is listed
// where the kernel has a module for it.
func (m *Modules) Without(sys fs.FS, kernelLog string) []Undriven {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Undriven
	for _, d := range networkDevices(sys) {
		firmware := missingFirmware(kernelLog, d.logged, d.name)
		if d.driven && (d.interfaces || firmware == "") {
			continue
		}
		u := m.undriven(d)
		if d.uncertain && u.Module == "" || slices.ContainsFunc(out, func(o Undriven) bool { return o.Device == u.Device && o.Module == u.Module }) {
			continue
		}
		if u.Err == nil && u.Module != "" {
			u.Firmware = firmware
		}
		if out = append(out, u); len(out) == maxUndriven {
			break
		}
	}
	return out
}

// undriven says what is wrong with a device: of several modules that know it, the
// first that did not load, or else the first; m.mu is held.
func (m *Modules) undriven(d networkDevice) Undriven {
	u := Undriven{Device: d.name, Kind: d.kind, ID: d.id}
	names, builtin := m.index.Resolve(d.modalias)
	for _, name := range names {
		err := m.outcome(name)
		if u.Module == "" || u.Err == nil && err != nil {
			u.Module, u.Err = name, err
		}
	}
	if u.Module == "" && builtin {
		u.Err = errOwnDriver
	}
	return u
}

// outcome is how loading a module ended; m.mu is held.
func (m *Modules) outcome(name string) error {
	file, ok := m.index.Path(name)
	if !ok {
		return fs.ErrNotExist
	}
	for _, missing := range m.missing {
		if missing.Module == name {
			return missing.Err
		}
	}
	err, tried := m.done[file]
	switch {
	case !tried:
		return errNotLoaded
	case errors.Is(err, unix.ENODEV): // it looked, and found nothing to do
		return nil
	}
	return err
}

// networkDevice is a device that is a network card, or looks like one.
type networkDevice struct {
	name, kind, id, modalias string
	logged                   string // its name in the kernel's log
	driven                   bool
	interfaces               bool // it has made some
	uncertain                bool
}

// networkDevices lists them, in order of their bus and name.
func networkDevices(sys fs.FS) (out []networkDevice) {
	for _, bus := range []struct {
		name string
		read func(fs.FS, string) (networkDevice, bool)
	}{{"pci", pciNetwork}, {"usb", usbNetwork}, {"sdio", sdioNetwork}, {"virtio", virtualNetwork}, {"vmbus", virtualNetwork}, {"xen", virtualNetwork}} {
		dir := path.Join("bus", bus.name, "devices")
		entries, err := fs.ReadDir(sys, dir)
		if err != nil {
			continue // no such bus here
		}
		for _, e := range entries {
			at := path.Join(dir, e.Name())
			d, ok := bus.read(sys, at)
			if !ok {
				continue
			}
			d.driven, d.interfaces = exists(sys, path.Join(at, "driver")), exists(sys, path.Join(at, "net"))
			d.modalias, d.logged = readLine(sys, path.Join(at, "modalias")), e.Name()
			d.name = cmp.Or(d.name, e.Name())
			out = append(out, d)
		}
	}
	return out
}

func exists(sys fs.FS, name string) bool {
	_, err := fs.Stat(sys, name)
	return err == nil
}

// pciNetwork reads a device of class 02, network controller.
func pciNetwork(sys fs.FS, at string) (networkDevice, bool) {
	class := readLine(sys, path.Join(at, "class"))
	kind := "network card"
	if strings.HasPrefix(class, "0x0200") {
		kind = "Ethernet"
	}
	return networkDevice{kind: kind, id: deviceID(sys, at, "vendor", "device")}, strings.HasPrefix(class, "0x02")
}

// usbNetwork reads a USB interface by its class, subclass and protocol
// (https://www.usb.org/defined-class-codes).
func usbNetwork(sys fs.FS, at string) (networkDevice, bool) {
	class := readLine(sys, path.Join(at, "bInterfaceClass")) + readLine(sys, path.Join(at, "bInterfaceSubClass")) + readLine(sys, path.Join(at, "bInterfaceProtocol"))
	device, _, isInterface := strings.Cut(path.Base(at), ":")
	d := networkDevice{name: device, kind: "USB network", id: deviceID(sys, path.Join(path.Dir(at), device), "idVendor", "idProduct")}
	switch {
	case !isInterface || len(class) != 6:
		return d, false
	case strings.HasPrefix(class, "ff"):
		d.kind, d.uncertain = "USB", true
		return d, true
	case class == "e00103" || class == "ef0401" || class == "0202ff": // RNDIS
		return d, true
	}
	// Communications: Ethernet, Ethernet emulation, NCM, MBIM.
	return d, slices.Contains([]string{"0206", "020c", "020d", "020e"}, class[:4])
}

// sdioNetwork reads an SDIO function; most are Wi-Fi, whether they say so (class
// 07) or not (class 00).
func sdioNetwork(sys fs.FS, at string) (networkDevice, bool) {
	class := readLine(sys, path.Join(at, "class"))
	d := networkDevice{kind: "SDIO", id: deviceID(sys, at, "vendor", "device"), uncertain: class != "0x07"}
	if !d.uncertain {
		d.kind = "SDIO Wi-Fi"
	}
	return d, class == "0x00" || class == "0x07"
}

// virtualNetwork reads a device that a virtual machine's host makes.
func virtualNetwork(sys fs.FS, at string) (networkDevice, bool) {
	alias := readLine(sys, path.Join(at, "modalias"))
	for prefix, kind := range map[string]string{
		"virtio:d00000001v":                      "virtio network",
		"vmbus:635161f83edfc546913ff2d2f965ed0e": "Hyper-V network",
		"xen:vif":                                "Xen network",
	} {
		if strings.HasPrefix(alias, prefix) {
			return networkDevice{kind: kind}, true
		}
	}
	return networkDevice{}, false
}

// deviceID is "8086:100e" of the two files, or nothing.
func deviceID(sys fs.FS, at, vendor, device string) string {
	v := strings.TrimPrefix(readLine(sys, path.Join(at, vendor)), "0x")
	d := strings.TrimPrefix(readLine(sys, path.Join(at, device)), "0x")
	if len(v) != 4 || len(d) != 4 || strings.Trim(v+d, "0123456789abcdef") != "" {
		return ""
	}
	return v + ":" + d
}

// firmwareLine is what the kernel says of a firmware file that it does not find:
// its own line, and the one of Debian's kernels.
var firmwareLine = regexp.MustCompile(`(\S+): (?:Direct firmware load for (\S{1,128}) failed with error|firmware: failed to load (\S{1,128}) \()`)

// missingFirmware is the first file that a device's driver asked for in vain. The
// device goes by one of its names.
func missingFirmware(log string, names ...string) string {
	for _, found := range firmwareLine.FindAllStringSubmatch(log, -1) {
		if slices.Contains(names, found[1]) {
			return cmp.Or(found[2], found[3])
		}
	}
	return ""
}

// KernelLog is what the kernel has said since it began, as far as it still knows.
func KernelLog() (string, error) {
	const sizeBuffer, readAll = 10, 3 // syslog(2): SYSLOG_ACTION_SIZE_BUFFER and _READ_ALL
	size, err := unix.Klogctl(sizeBuffer, nil)
	if err != nil {
		return "", fmt.Errorf("kernel log: %w", err)
	}
	buf := make([]byte, min(size, maxKernelLog))
	n, err := unix.Klogctl(readAll, buf)
	if err != nil {
		return "", fmt.Errorf("kernel log: %w", err)
	}
	return string(buf[:n]), nil
}
