package vm

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// File descriptors of the sockets that QEMU inherits (after stdin, stdout and
// stderr). They are connected before QEMU starts, so that no byte of an early
// console is lost and no path is too long for a socket address.
const (
	fdConsole = 3
	fdQMP     = 4
	fdReport  = 5
	fdLAN     = 6 // of the first card on a LAN; those of others follow
)

// plan is a Config with every choice made; args is a pure function of it.
type plan struct {
	Config
	accel string // kvm or tcg
	code  string // firmware code; empty: the machine's own BIOS or none
	vars  string // this machine's variable store

	// standalone is for a person to start: its serial port and its monitor are on
	// the terminal, and nothing comes from a parent process.
	standalone bool
}

// withDefaults fills in the documented defaults and refuses what contradicts
// itself or cannot work.
func (c Config) withDefaults() (Config, error) {
	setDefault(&c.Arch, X8664)
	setDefault(&c.Accel, AccelAuto)
	setDefault(&c.Memory, 1024)
	c.Display = c.Display || c.Window != ""
	c.Disks = append([]Disk(nil), c.Disks...)
	c.Nets = append([]Net(nil), c.Nets...)
	for i := range c.Disks {
		setDefault(&c.Disks[i].Format, FormatRaw)
		if c.Disks[i].CDROM {
			setDefault(&c.Disks[i].Bus, BusSATA)
			c.Disks[i].ReadOnly = true
		}
		setDefault(&c.Disks[i].Bus, BusVirtio)
	}
	for i := range c.Nets {
		setDefault(&c.Nets[i].Kind, NetUser)
		setDefault(&c.Nets[i].Model, "virtio-net-pci")
	}
	if err := c.check(); err != nil {
		return c, err
	}
	for i := range c.Nets {
		// 52:54:00 is QEMU's own locally administered prefix.
		setDefault(&c.Nets[i].MAC, fmt.Sprintf("52:54:00:70:68:%02x", i+1))
	}
	return c, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c Config) check() error {
	switch {
	case c.Arch != X8664 && c.Arch != ARM64:
		return fmt.Errorf("unknown architecture %q", c.Arch)
	case c.Accel != AccelAuto && c.Accel != AccelKVM && c.Accel != AccelTCG:
		return fmt.Errorf("unknown accelerator %q", c.Accel)
	case c.Memory < 16 || c.CPUs < 0:
		return fmt.Errorf("%d MiB and %d processors do not make a machine", c.Memory, c.CPUs)
	case c.Kernel == "" && (c.Initrd != "" || c.Append != ""):
		return errors.New("an initrd or a command line without a kernel")
	case c.BIOS && c.Arch != X8664:
		return errors.New("a legacy BIOS exists on x86_64 only")
	case c.SecureBoot && (c.BIOS || c.Kernel != ""):
		return errors.New("signatures are checked by UEFI firmware (Secure Boot), and this machine starts without")
	case len(c.Nets) > 250:
		return errors.New("more than 250 network cards")
	}
	for _, d := range c.Disks {
		if err := d.check(); err != nil {
			return fmt.Errorf("disk %s: %w", d.Path, err)
		}
	}
	for i, n := range c.Nets {
		if err := n.check(); err != nil {
			return fmt.Errorf("network card %d: %w", i, err)
		}
	}
	return nil
}

func (d Disk) check() error {
	switch {
	case d.Path == "":
		return errors.New("no path")
	case !slices.Contains([]string{FormatRaw, FormatQCOW2, FormatVMDK, FormatVHD, FormatVHDX}, d.Format):
		return fmt.Errorf("unknown format %q", d.Format)
	case d.CDROM && (d.Bus == BusVirtio || d.Bus == BusNVMe):
		return fmt.Errorf("there are no CD drives on the bus %q", d.Bus)
	case d.Bus == BusSATA && d.ReadOnly && !d.CDROM:
		return errors.New("a SATA disk cannot be read-only")
	case d.WriteLog != "" && (d.Format != FormatRaw || d.ReadOnly || d.Snapshot):
		return errors.New("only the writes to a raw disk can be logged")
	}
	switch d.Bus {
	case BusVirtio, BusUSB, BusNVMe, BusSATA, BusSCSI:
		return nil
	}
	return fmt.Errorf("unknown bus %q", d.Bus)
}

func (n Net) check() error {
	switch n.Kind {
	case NetUser:
		if n.LAN != nil {
			return errors.New("a user network is no LAN")
		}
	case NetLAN:
		if n.LAN == nil {
			return errors.New("there is no LAN to plug it into")
		}
		if n.Restrict || len(n.Forwards) > 0 {
			return errors.New("restrict and forwards are for user networks")
		}
		if n.MAC == "" {
			return errors.New("no address given, and machines on one LAN need different ones")
		}
	case NetSegment:
		switch {
		case !n.Segment.Addr().Is4() || !n.Segment.Addr().IsMulticast() || n.Segment.Port() == 0:
			return fmt.Errorf("%v is no IPv4 multicast address and port", n.Segment)
		case n.LAN != nil || n.Restrict || len(n.Forwards) > 0:
			return errors.New("LAN, restrict and forwards are for other kinds")
		case n.MAC == "":
			return errors.New("no address given, and machines on one segment need different ones")
		}
	default:
		return fmt.Errorf("unknown kind %q", n.Kind)
	}
	return nil
}

// args builds QEMU's command line (without the program's name).
func (p plan) args() []string {
	display := "none"
	if p.Window != "" {
		display = p.Window
	}
	a := []string{
		// Every device below is one that we ask for; QEMU's defaults would add
		// a floppy drive, a CD drive and a network card with a boot ROM.
		"-nodefaults", "-no-user-config", "-display", display,
		"-machine", p.machine(),
		"-accel", p.accelArg(),
		"-cpu", p.cpu(),
		"-m", strconv.Itoa(p.Memory),
		"-smp", strconv.Itoa(p.cpus()),
	}
	a = append(a, p.talkArgs()...)
	a = append(a, "-object", "rng-builtin,id=rng", "-device", "virtio-rng-pci,rng=rng")
	if !p.Reboot {
		a = append(a, "-no-reboot")
	}
	if !p.RTC.IsZero() {
		a = append(a, "-rtc", "base="+p.RTC.UTC().Format("2006-01-02T15:04:05"))
	}
	a = append(a, p.screenArgs()...)
	a = append(a, p.bootArgs()...)
	a = append(a, p.reportArgs()...)
	a = append(a, p.diskArgs()...)
	a = append(a, p.netArgs()...)
	return append(a, p.Extra...)
}

// talkArgs are the machine's serial port and QEMU's monitor.
func (p plan) talkArgs() []string {
	if p.standalone {
		return []string{"-serial", "mon:stdio"}
	}
	return []string{
		"-chardev", socketFD("console", fdConsole), "-serial", "chardev:console",
		"-chardev", socketFD("qmp", fdQMP), "-mon", "chardev=qmp,mode=control",
	}
}

func socketFD(id string, fd int) string {
	return fmt.Sprintf("socket,id=%s,fd=%d", id, fd)
}

func (p plan) machine() string {
	if p.Arch == ARM64 {
		return "virt"
	}
	if p.SecureBoot {
		// The firmware keeps its variables in system management mode.
		return "q35,smm=on"
	}
	return "q35"
}

func (p plan) accelArg() string {
	if p.accel == AccelKVM {
		return "kvm"
	}
	return "tcg,thread=multi"
}

func (p plan) cpu() string {
	switch {
	case p.CPU != "":
		return p.CPU
	case p.accel == AccelKVM:
		return "host"
	case p.Arch == ARM64:
		return tcgCPUARM64
	}
	return tcgCPU
}

// cpus is one under TCG unless more are asked for: a second emulated processor
// costs 0.2 to 0.5 s in the firmware, and on a host with two cores everything
// after it is slower too, since QEMU's own input and output then competes with
// the guest (power on to the end of a Go benchmark: 8.7 s against 10.7 s).
func (p plan) cpus() int {
	switch {
	case p.CPUs > 0:
		return p.CPUs
	case p.accel == AccelKVM:
		return 2
	}
	return 1
}

func (p plan) screenArgs() []string {
	if !p.Display {
		return nil
	}
	a := []string{"-device", p.video()}
	if p.Window != "" && p.Arch == ARM64 { // a PC has a keyboard
		a = append(a, "-device", "qemu-xhci,id=input", "-device", "usb-kbd,bus=input.0", "-device", "usb-tablet,bus=input.0")
	}
	return a
}

func (p plan) video() string {
	if p.Arch == ARM64 {
		return "virtio-gpu-pci"
	}
	return "VGA"
}

func (p plan) bootArgs() []string {
	var a []string
	if p.SecureBoot && p.Arch == X8664 {
		// Flash takes writes from system management mode only: what runs in the
		// guest changes variables through the firmware, which asks for signatures.
		a = append(a, "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	if p.code != "" {
		a = append(a,
			"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+escape(p.code),
			"-drive", "if=pflash,unit=1,format=raw,file="+escape(p.vars))
	}
	if p.Kernel == "" {
		return a
	}
	a = append(a, "-kernel", p.Kernel)
	if p.Initrd != "" {
		a = append(a, "-initrd", p.Initrd)
	}
	if p.Append != "" {
		a = append(a, "-append", p.Append)
	}
	return a
}

func (p plan) reportArgs() []string {
	if !p.Report || p.standalone {
		return nil
	}
	return []string{
		"-device", "virtio-serial-pci",
		"-chardev", socketFD("report", fdReport),
		"-device", "virtserialport,chardev=report,name=" + ReportPort,
	}
}

func (p plan) diskArgs() []string {
	var a []string
	if p.hasBus(BusUSB) {
		a = append(a, "-device", "qemu-xhci,id=usb")
	}
	if p.hasBus(BusSATA) {
		// Not the q35's built-in controller: "virt" has none, and this one
		// serves both.
		a = append(a, "-device", "ich9-ahci,id=sata")
	}
	if p.hasBus(BusSCSI) {
		a = append(a, "-device", "virtio-scsi-pci,id=scsi")
	}
	sata := 0
	for i, d := range p.Disks {
		id := "disk" + strconv.Itoa(i)
		device := d.device(id, sata)
		if d.Bus == BusSATA {
			sata++
		}
		a = append(a, d.backend(id)...)
		a = append(a, "-device", fmt.Sprintf("%s,bootindex=%d", device, i+1))
	}
	return a
}

// backend is the disk's side towards the host.
func (d Disk) backend(id string) []string {
	if d.WriteLog != "" {
		// The guest's flushes are logged; they need not reach the host's disk.
		return []string{
			"-blockdev", fmt.Sprintf("driver=file,node-name=%s-log,filename=%s,cache.no-flush=on", id, escape(d.WriteLog)),
			"-blockdev", fmt.Sprintf("driver=blklogwrites,node-name=%s,log=%s-log,log-sector-size=%d,"+
				"file.driver=file,file.filename=%s,file.cache.no-flush=on", id, id, logSector, escape(d.Path)),
		}
	}
	drive := fmt.Sprintf("if=none,id=%s,format=%s,file=%s", id, d.Format, escape(d.Path))
	if d.CDROM {
		drive += ",media=cdrom" // for USB, where it decides what the device is
	}
	if d.ReadOnly {
		drive += ",readonly=on"
	}
	if d.Snapshot {
		// What nobody will read again needs no flush to the host's disk.
		drive += ",snapshot=on,cache=unsafe"
	}
	return []string{"-drive", drive}
}

func (p plan) hasBus(bus string) bool {
	for _, d := range p.Disks {
		if d.Bus == bus {
			return true
		}
	}
	return false
}

// device names the disk's front end; sata is the number of its SATA port.
func (d Disk) device(id string, sata int) string {
	kind := "hd"
	if d.CDROM {
		kind = "cd"
	}
	switch d.Bus {
	case BusUSB:
		return "usb-storage,bus=usb.0,removable=on,drive=" + id
	case BusNVMe:
		return "nvme,serial=phase-" + id + ",drive=" + id
	case BusSATA:
		return fmt.Sprintf("ide-%s,bus=sata.%d,drive=%s", kind, sata, id)
	case BusSCSI:
		return fmt.Sprintf("scsi-%s,bus=scsi.0,drive=%s", kind, id)
	}
	return "virtio-blk-pci,drive=" + id
}

func (p plan) netArgs() []string {
	var a []string
	fd := fdLAN
	for i, n := range p.Nets {
		id := "net" + strconv.Itoa(i)
		backend := n.userNetwork(id)
		switch n.Kind {
		case NetLAN:
			backend = fmt.Sprintf("socket,id=%s,fd=%d", id, fd)
			fd++
		case NetSegment:
			backend = fmt.Sprintf("socket,id=%s,mcast=%v,localaddr=127.0.0.1", id, n.Segment)
		}
		a = append(a, "-netdev", backend,
			// An empty romfile: no network boot ROM for the firmware to load
			// and try.
			"-device", fmt.Sprintf("%s,netdev=%s,mac=%s,romfile=", n.Model, id, n.MAC))
		if n.Capture != "" {
			a = append(a, "-object", fmt.Sprintf("filter-dump,id=capture%d,netdev=%s,file=%s", i, id, escape(n.Capture)))
		}
	}
	return a
}

func (n Net) userNetwork(id string) string {
	s := "user,id=" + id
	if n.Restrict {
		s += ",restrict=on"
	}
	for _, f := range n.Forwards {
		s += fmt.Sprintf(",hostfwd=tcp:%s-:%d", f.Host, f.Guest)
	}
	return s
}

// escape doubles the commas of a path inside one of QEMU's option lists.
func escape(path string) string {
	return strings.ReplaceAll(filepath.Clean(path), ",", ",,")
}
