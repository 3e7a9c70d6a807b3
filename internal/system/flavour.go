package system

import (
	"errors"
	"fmt"
	"slices"

	"github.com/phasebased/phase/internal/debpkg"
	"github.com/phasebased/phase/internal/kmod"
)

// A Flavour says for which machines a system is: it decides the kernel package and
// the modules that are carried. "" is [FlavourCloud].
type Flavour string

const (
	// FlavourCloud is for virtual machines: the smallest.
	FlavourCloud Flavour = "cloud"
	// FlavourGeneric is for real machines, and for virtual ones as well.
	FlavourGeneric Flavour = "generic"
)

// Flavours lists them, the one for most machines first.
func Flavours() []Flavour { return []Flavour{FlavourGeneric, FlavourCloud} }

// ParseFlavour reads the name of a flavour.
func ParseFlavour(text string) (Flavour, error) {
	if f := Flavour(text); slices.Contains(Flavours(), f) {
		return f, nil
	}
	return "", fmt.Errorf("unknown flavour %.40q: use generic, for real machines, or cloud, for virtual ones", text)
}

// or is the flavour, or the one for virtual machines where none is named.
func (f Flavour) or() Flavour {
	if f == "" {
		return FlavourCloud
	}
	return f
}

// KernelPackage is the distribution's kernel of a flavour for a Debian architecture.
func (f Flavour) KernelPackage(deb string) (string, error) {
	if f.or() == FlavourGeneric {
		return debpkg.GenericKernelPackage(deb)
	}
	return debpkg.KernelPackage(deb)
}

// Limits, in bytes. Firmware reads a seed at 20 to 40 MB/s, so its limit keeps the
// time between the menu and the first line on the screen short. A root file system
// is fetched by every machine, and where nothing keeps it is held in memory.
const (
	// MaxSeed is the largest seed initramfs of FlavourCloud that a build accepts,
	// MaxSeedGeneric that of FlavourGeneric.
	MaxSeed        = 20 << 20
	MaxSeedGeneric = 32 << 20
	// MaxSeedFirmware is by how much a seed that carries firmware or Wi-Fi may be
	// larger: that of common cards is tens of megabytes.
	MaxSeedFirmware = 64 << 20

	MaxRootfs         = 20 << 20
	MaxRootfsGeneric  = 32 << 20
	MaxRootfsFirmware = 64 << 20
)

// A LimitError reports a product that is larger than it may be.
type LimitError struct {
	What        string // "the seed"
	Flavour     Flavour
	Size, Limit int64 // bytes
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("system: %s has %d bytes, the limit for flavour %s is %d", e.What, e.Size, e.Flavour, e.Limit)
}

// Hint says how it becomes smaller.
func (e *LimitError) Hint() string {
	return "Name fewer --firmware packages, leave out what the machines do not need, or give a kernel with fewer modules."
}

// SeedLimit is what a seed may have, in bytes.
func (b *Build) SeedLimit(cfg SeedConfig) int64 {
	limit := b.sized(MaxSeed, MaxSeedGeneric, MaxSeedFirmware, cfg.WiFi)
	if cfg.Tor {
		limit += MaxSeedTor
	}
	if cfg.Shell {
		limit += MaxSeedShell
	}
	return limit
}

// RootfsLimit is what the node's root file system may have, in bytes.
func (b *Build) RootfsLimit(cfg NodeConfig) int64 {
	limit := b.sized(MaxRootfs, MaxRootfsGeneric, MaxRootfsFirmware, cfg.WiFi)
	if cfg.Format == FormatEROFS {
		limit += limit / 2 // LZ4 is quick, not small
	}
	return limit
}

func (b *Build) sized(cloud, generic, firmware int64, wifi bool) int64 {
	limit := cloud
	if b.Inputs.Flavour.or() == FlavourGeneric {
		limit = generic
	}
	if wifi || b.Inputs.Firmware != nil {
		limit += firmware
	}
	return limit
}

// checkLimit refuses a product that is too large.
func (b *Build) checkLimit(what string, size, limit int64) error {
	if size > limit {
		return &LimitError{what, b.Inputs.Flavour.or(), size, limit}
	}
	return nil
}

// flavour is the one that is asked for: Wi-Fi and firmware alone ask for real
// machines.
func (s Sources) flavour() Flavour {
	if s.Flavour == "" && (s.WiFi || len(s.Firmware) > 0) {
		return FlavourGeneric
	}
	return s.Flavour.or()
}

// checkFlavour refuses sources that contradict themselves.
func (s Sources) checkFlavour() error {
	if s.Flavour != "" {
		if _, err := ParseFlavour(string(s.Flavour)); err != nil {
			return fmt.Errorf("system: %w", err)
		}
	}
	switch {
	case s.flavour() == FlavourGeneric:
	case s.WiFi:
		return errors.New("system: Wi-Fi is for real machines: take the flavour generic")
	case len(s.Firmware) > 0:
		return errors.New("system: firmware is for real machines: take the flavour generic")
	}
	return nil
}

// Buses that devices of machines hang on: cards and what firmware lists (ACPI), or a
// device tree. What hangs on none of them died out with ISA and PCMCIA.
var (
	onBoard  = []string{"pci", "acpi", "of"}
	fromTree = []string{"of", "acpi"}
	// Networks of storage: nobody boots from a stick into a disk behind one.
	notStorageNetworks = []string{"scsi_transport_fc", "libfc", "scsi_transport_iscsi", "libiscsi"}
)

// genericClasses are the drivers of real machines by what they are for: how to reach
// the network by cable, the medium, a disk that the cache lies on, and a keyboard.
// Wireless cards are Wi-Fi's, by name: see wifiDrivers.
var genericClasses = []kmod.Class{
	// Ethernet: cards, what is on the board, adapters on USB; and the chips at the
	// cable's end.
	{Dir: "kernel/drivers/net/ethernet", Buses: onBoard},
	{Dir: "kernel/drivers/net/phy"},
	{Dir: "kernel/drivers/net/mdio"},
	{Dir: "kernel/drivers/net/pcs"},
	{Dir: "kernel/drivers/net/usb", Buses: []string{"usb"}},
	// USB and what is plugged into it
	{Dir: "kernel/drivers/usb/host", Buses: onBoard},
	{Dir: "kernel/drivers/usb/dwc3", Buses: onBoard},
	{Dir: "kernel/drivers/usb/dwc2", Buses: onBoard},
	{Dir: "kernel/drivers/usb/chipidea", Buses: fromTree},
	{Dir: "kernel/drivers/usb/musb", Buses: fromTree},
	{Dir: "kernel/drivers/usb/phy", Buses: fromTree},
	{Dir: "kernel/drivers/usb/storage", Buses: []string{"usb"}},
	// disks and memory cards
	{Dir: "kernel/drivers/nvme/host", Buses: onBoard},
	{Dir: "kernel/drivers/ata", Buses: onBoard},
	{Dir: "kernel/drivers/scsi", Buses: onBoard, Without: notStorageNetworks},
	{Dir: "kernel/drivers/message/fusion", Buses: onBoard, Without: notStorageNetworks},
	{Dir: "kernel/drivers/ufs"},
	{Dir: "kernel/drivers/mmc"},
	{Dir: "kernel/drivers/misc/cardreader"},
}

// treeClasses are for boards that are described by a device tree: what must work
// before USB, Ethernet and memory cards do. Kernels for PCs have none of it.
var treeClasses = []kmod.Class{
	{Dir: "kernel/drivers/clk", Buses: fromTree},
	{Dir: "kernel/drivers/reset", Buses: fromTree},
	{Dir: "kernel/drivers/regulator", Buses: []string{"of", "i2c", "platform"}},
	{Dir: "kernel/drivers/pinctrl", Buses: fromTree},
	{Dir: "kernel/drivers/gpio", Buses: fromTree},
	{Dir: "kernel/drivers/phy", Buses: fromTree},
	{Dir: "kernel/drivers/bus", Buses: fromTree},
	{Dir: "kernel/drivers/soc", Buses: fromTree},
	{Dir: "kernel/drivers/mfd", Buses: []string{"of", "i2c"}},
	{Dir: "kernel/drivers/i2c/busses", Buses: fromTree},
	{Dir: "kernel/drivers/mailbox", Buses: fromTree},
	{Dir: "kernel/drivers/firmware", Buses: fromTree},
	{Dir: "kernel/drivers/interconnect", Buses: fromTree},
	{Dir: "kernel/drivers/nvmem", Buses: fromTree},
	{Dir: "kernel/drivers/pci/controller", Buses: fromTree},
	{Dir: "kernel/drivers/extcon", Buses: fromTree},
	{Dir: "kernel/drivers/rtc", Buses: fromTree},
}

// genericDrivers are what no folder tells: keyboards of laptops that hang on I2C or
// SPI, and the buses before them.
var genericDrivers = []string{
	"hid_apple", "hid_logitech_dj", "hid_microsoft", "applespi", "spi_pxa2xx_platform", "spi_pxa2xx_pci", "intel_lpss_pci", "intel_lpss_acpi",
	"i2c_hid_acpi", "i2c_designware_platform", "i2c_designware_pci", "surface_hid", "surface_aggregator", "surface_aggregator_registry",
}

// chosen is what a kernel has of a flavour's drivers, beside those that all flavours
// name.
func (p platform) chosen(f Flavour, x *kmod.Index) []string {
	if f.or() != FlavourGeneric {
		return nil
	}
	return x.Find(slices.Concat(genericClasses, p.classes)...)
}
