// Package vm runs a QEMU virtual machine as a child process and gives its
// owner the machine's consoles as events: cleaned serial lines, JSON report
// lines, the exit state. The demo, `phase vm run` and the tests of the whole
// boot use it.
//
// The machine is a generic one: a q35 PC (or an arm64 "virt" board) with UEFI
// firmware as distributed, virtio or USB disks, one serial port. Nothing in
// it is known to, or prepared for, the software that boots in it; the report
// port is an ordinary virtio-serial port that real machines lack.
//
// Trust: everything that comes out of a guest is foreign. Console lines,
// report lines and logs are bounded in length and number; a guest that floods
// loses lines, never the host's memory. The guest cannot make a call of this
// package block: what is not read is dropped and counted.
//
// Life: the QEMU process ends with the context given to [Start], with
// [Machine.Quit], when the guest powers off, and (on Linux) when the process
// that started it dies.
package vm

import (
	"io"
	"net/netip"
	"time"
)

// Guest architectures, in the project's canonical spelling.
const (
	X8664 = "x86_64"
	ARM64 = "arm64"
)

// Accelerators for Config.Accel.
const (
	AccelAuto = "auto" // KVM if ProbeKVM says that guests run, otherwise TCG
	AccelKVM  = "kvm"  // hardware virtualisation, forced
	AccelTCG  = "tcg"  // emulation: works everywhere, many times slower
)

// Disk buses for Disk.Bus.
const (
	BusVirtio = "virtio"
	BusUSB    = "usb" // a removable stick on an XHCI controller
	BusNVMe   = "nvme"
	BusSATA   = "sata"
	BusSCSI   = "scsi" // a virtio SCSI controller
)

// Disk formats for Disk.Format, by QEMU's names.
const (
	FormatRaw   = "raw"
	FormatQCOW2 = "qcow2"
	FormatVMDK  = "vmdk"
	FormatVHD   = "vpc"
	FormatVHDX  = "vhdx"
)

// ReportPort is the name of the virtio-serial port on which a guest writes
// its report lines.
const ReportPort = "org.phase.report"

// Config describes one virtual machine. The zero value of a field is its
// default. Start does not change it.
type Config struct {
	// Arch is X8664 or ARM64; empty means X8664.
	Arch string
	// Memory is the guest's RAM in MiB; 0 means 1024.
	Memory int
	// CPUs is the number of virtual processors; 0 means 2 under KVM and 1 under
	// TCG, where a second one costs more than it gives (see plan.cpus).
	CPUs int
	// CPU is QEMU's name of the processor model; empty picks "host" under KVM
	// and the model measured fastest under TCG (see tcgCPU).
	CPU string
	// Accel is AccelAuto, AccelKVM or AccelTCG; empty means AccelAuto.
	Accel string
	// ProbeCache is a folder where the answer of the KVM probe is kept until
	// the host reboots. Empty: probed at each Start with AccelAuto.
	ProbeCache string

	// Disks are attached, and tried for booting, in this order.
	Disks []Disk
	// Nets are the network cards, in order. None: no network.
	Nets []Net

	// Firmware is the UEFI firmware. The zero value looks in the places where
	// distributions install it (see FindFirmware and FindSecureFirmware). Not
	// used with BIOS or Kernel.
	Firmware Firmware
	// SecureBoot starts a firmware that checks signatures, with the keys that its
	// template of variables holds (those of Microsoft, as PCs have them), or with
	// those in an existing file of Vars. A template without keys is refused, since
	// such a firmware checks nothing. On x86_64 the variables are out of the
	// guest's reach, behind system management mode; on arm64 QEMU has nothing
	// like it, and a guest's kernel could change them.
	SecureBoot bool
	// Vars is the file of this machine's UEFI variables. If it does not exist
	// it is made from the firmware's template; it keeps what the guest writes.
	// Empty: Dir/vars.fd, made anew at each Start.
	Vars string
	// BIOS starts the PC's legacy BIOS instead of UEFI (x86_64 only).
	BIOS bool

	// Kernel, Initrd and Append boot a kernel directly, without a boot loader
	// and without UEFI. Initrd and Append need Kernel.
	Kernel, Initrd, Append string

	// Display adds a VGA card, so that Screendump has something to show.
	Display bool
	// Window shows the display to a person, and gives them a keyboard: QEMU's
	// -display, such as "gtk" (see Displays) or "vnc=127.0.0.1:0". Empty: nobody
	// sees it. It implies Display.
	Window string
	// RTC is what the guest's clock shows at power on; zero: the host's time, UTC.
	RTC time.Time
	// Reboot lets the guest reboot. By default a reset ends the machine.
	Reboot bool
	// Report adds the report port.
	Report bool

	// Dir holds the run's files (variables, disk snapshots, console log). It is
	// created if absent. Empty: a temporary folder, removed when the machine ends.
	Dir string
	// ConsoleLog receives the serial console's raw bytes, at most 64 MiB.
	// Empty: Dir/console.log.
	ConsoleLog string
	// Console receives the serial console's raw bytes as they come. The machine
	// waits while it writes. Its errors are passed over.
	Console io.Writer

	// QEMU is the emulator's path; empty looks for qemu-system-… in PATH.
	QEMU string
	// Extra arguments are appended to QEMU's command line as they are.
	Extra []string
}

// Disk is one disk of the machine.
type Disk struct {
	// Path is the image file.
	Path string
	// Format is FormatRaw, FormatQCOW2, …; empty means raw. It is never guessed
	// from the content: a guest could write a header and so choose it.
	Format string
	// Bus is BusVirtio, BusUSB, BusNVMe, BusSATA or BusSCSI; empty means BusVirtio,
	// and BusSATA for a CDROM.
	Bus string
	// CDROM makes it a CD drive, on SATA, SCSI or USB (as the remote consoles of
	// servers show one), with the image as its disc: read-only, in sectors of 2048
	// bytes.
	CDROM bool
	// ReadOnly makes the medium write-protected. SATA disks cannot be.
	ReadOnly bool
	// Snapshot keeps the guest's writes in a temporary file in Dir and leaves
	// Path untouched.
	Snapshot bool
	// WriteLog is a file that receives every write and every flush that reaches
	// the disk, in order, as ReadWriteLog reads them. Empty: none. The disk must
	// be raw, and neither ReadOnly nor a Snapshot nor a CDROM.
	WriteLog string
}

// Network kinds for Net.Kind.
const (
	NetUser = "user" // QEMU's own NAT: the host is 10.0.2.2, DNS 10.0.2.3
	NetLAN  = "lan"  // a closed segment between machines of this process: see LAN
	// NetSegment is a closed segment between machines of several processes: UDP
	// multicast that does not leave this computer, but that its other users could
	// join. Frames that find no room are lost, as on a real network.
	NetSegment = "segment"
)

// Net is one network card.
type Net struct {
	// Kind is NetUser, NetLAN or NetSegment; empty means NetUser.
	Kind string
	// Model is QEMU's name of the card; empty means virtio-net-pci.
	Model string
	// MAC is the card's address. Empty, for NetUser only: one that differs per
	// card and is the same at each start.
	MAC string
	// Restrict cuts a NetUser guest off from the host and everything behind
	// it; only Forwards still reach it.
	Restrict bool
	// Forwards open host ports towards a NetUser guest.
	Forwards []Forward
	// LAN is what a NetLAN card is plugged into.
	LAN *LAN
	// Segment is the multicast address and port that a NetSegment card joins.
	Segment netip.AddrPort
	// Capture writes all frames of this card to a pcap file.
	Capture string
}

// Forward is one TCP port of the host that leads to a guest's port.
type Forward struct {
	Host  netip.AddrPort // address on the host, such as 127.0.0.1:8080
	Guest uint16         // port in the guest
}

// Firmware names the two parts of a UEFI firmware: the code, which is mapped
// read-only, and the template of its variables, which is copied.
type Firmware struct {
	Code, Vars string
}
