package system

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/kmod"
)

// Modules that a system cannot do without. Each must be in the kernel's package
// or in the kernel; else the build fails and names it.
var (
	seedRequired = []string{"virtio_pci", "virtio_net", "virtio_blk", "squashfs", "vfat", "ext4", "af_packet"}
	nodeRequired = []string{"virtio_pci", "virtio_net", "virtio_blk", "squashfs", "overlay", "loop", "ext4", "af_packet", "dm_verity"}
)

// drivers are taken when the kernel has them: what virtual machines, and where
// the kernel covers them real machines, need to reach their console, network and
// disks. They are loaded by the devices' own names (modalias) at run time.
var drivers = []string{
	// virtio
	"virtio_scsi", "virtio_console", "virtio_rng", "virtio_mmio", "virtio_balloon", "virtio_input",
	// network cards of hypervisors and clouds, and the commonest real ones
	"e1000", "e1000e", "igb", "igc", "ixgbe", "ixgbevf", "r8169", "tg3", "vmxnet3", "ena", "gve", "hv_netvsc", "xen_netfront",
	// networks with a tag, asked for by name
	"8021q",
	// disks
	"nvme", "ahci", "ata_piix", "sd_mod", "sr_mod", "vmw_pvscsi", "hv_storvsc", "xen_blkfront",
	// USB, keyboards
	"xhci_pci", "ehci_pci", "ohci_pci", "uhci_hcd", "usb_storage", "uas", "usbhid", "hid_generic", "hid_hyperv", "hyperv_keyboard",
	"atkbd", "i8042",
	// screens that survive kexec
	"simpledrm", "efifb", "hyperv_fb",
	// file systems and what they call for by name
	"vfat", "exfat", "nls_cp437", "nls_iso8859_1", "nls_ascii", "nls_utf8", "squashfs", "erofs", "isofs", "overlay", "loop",
	"efivarfs", "crc32c_generic",
	// firmware's way to hand files to a guest
	"qemu_fw_cfg",
}

// Drivers that only one architecture has, or that are built in on the other.
var (
	driversX8664 = []string{"crc32c_intel", "crc32_pclmul"}
	driversARM64 = []string{
		// the clock, of the firmware and of the machine "virt" without it
		"rtc_efi", "rtc_pl031",
		// the power button and what it hangs on
		"gpio_pl061", "gpio_keys",
		// network cards and memory cards of common boards
		"bcmgenet", "sdhci_acpi", "mmc_block",
	}
)

// A ModuleReport says what became of the list.
type ModuleReport struct {
	Files  int      // module files carried
	Bytes  int64    // their size, uncompressed
	Absent []string // optional modules this kernel does not have
}

// moduleSet is the part of a kernel's modules that one system carries.
type moduleSet struct {
	dir   string            // folder the files come from
	files []string          // relative to dir, sorted, as they are on the build machine
	index map[string][]byte // index files for the target
	ModuleReport
}

// selectModules resolves the lists, and what chosen picks, to files with all they
// depend on.
func selectModules(k Kernel, required, optional []string, chosen func(*kmod.Index) []string) (*moduleSet, error) {
	index, x, err := k.index()
	if err != nil {
		return nil, err
	}
	set := &moduleSet{dir: k.Modules}
	wanted := slices.Clone(required)
	for _, name := range optional {
		if x.Has(name) || x.Builtin(name) {
			wanted = append(wanted, name)
		} else {
			set.Absent = append(set.Absent, name)
		}
	}
	if chosen != nil {
		wanted = append(wanted, chosen(x)...)
	}
	files, err := x.Closure(wanted...)
	if err != nil {
		return nil, fmt.Errorf("system: kernel %s: %w", k.Release, err)
	}
	slices.Sort(files)
	set.files = slices.Compact(files)
	set.index = trimIndex(index, set.files)
	return set, nil
}

// indexFiles reads the index files beside the modules, or makes them when the
// folder comes from a package that was never installed.
func indexFiles(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range []string{"modules.dep", "modules.alias", "modules.softdep", "modules.builtin", "modules.builtin.modinfo"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case err == nil:
			files[name] = data
		case name == "modules.dep" && errors.Is(err, fs.ErrNotExist):
			tree, err := kmod.Scan(os.DirFS(dir), ".", decompress)
			if err != nil {
				return nil, fmt.Errorf("system: %w", err)
			}
			return tree.Files(), nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("system: %w", err)
		}
	}
	return files, nil
}

// trimIndex keeps of modules.dep and modules.softdep what concerns the files
// carried. modules.alias stays whole: it is what lets the running system say
// "this device wants module Y, which is not in this image".
func trimIndex(index map[string][]byte, files []string) map[string][]byte {
	byName := map[string]bool{}
	for _, f := range files {
		byName[kmod.Name(f)] = true
	}
	trimmed := map[string][]byte{
		"modules.alias":           index["modules.alias"],
		"modules.builtin":         index["modules.builtin"],
		"modules.builtin.modinfo": index["modules.builtin.modinfo"],
	}
	trimmed["modules.dep"] = keepLines(index["modules.dep"], func(line string) (string, bool) {
		file, _, ok := strings.Cut(line, ":")
		return plainNames(line), ok && byName[kmod.Name(file)]
	})
	trimmed["modules.softdep"] = keepLines(index["modules.softdep"], func(line string) (string, bool) {
		words := strings.Fields(line)
		return line, len(words) > 2 && words[0] == "softdep" && byName[kmod.Name(words[1])]
	})
	return trimmed
}

func keepLines(data []byte, keep func(string) (string, bool)) []byte {
	var b bytes.Buffer
	for line := range strings.Lines(string(data)) {
		if out, ok := keep(strings.TrimSuffix(line, "\n")); ok {
			b.WriteString(out + "\n")
		}
	}
	return b.Bytes()
}

// plainNames drops the compression suffixes: modules are carried uncompressed,
// because the archive around them compresses better.
func plainNames(s string) string {
	return strings.NewReplacer(".ko.xz", ".ko", ".ko.zst", ".ko", ".ko.gz", ".ko").Replace(s)
}

// addTo puts the modules and their index below lib/modules/<release>.
func (m *moduleSet) addTo(t *image.Tree, release string) error {
	base := path.Join("lib/modules", release)
	m.Files, m.Bytes = len(m.files), 0
	for name, data := range m.index {
		t.Bytes(path.Join(base, name), 0o644, data)
	}
	for _, file := range m.files {
		n, err := addModule(t, path.Join(base, plainNames(file)), filepath.Join(m.dir, filepath.FromSlash(file)))
		if err != nil {
			return err
		}
		m.Bytes += n
	}
	return t.Err()
}

func addModule(t *image.Tree, name, host string) (int64, error) {
	ext := filepath.Ext(host)
	if ext == ".ko" {
		info, err := os.Stat(host)
		if err != nil {
			return 0, fmt.Errorf("system: %w", err)
		}
		t.File(name, 0o644, host)
		return info.Size(), nil
	}
	data, err := readModuleFile(host)
	if err != nil {
		return 0, err
	}
	t.Bytes(name, 0o644, data)
	return int64(len(data)), nil
}
