package kexec

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"strconv"
	"strings"
)

// efiRuntime is what the next kernel must know of UEFI to call its services at run
// time, beside what is in the boot parameters: where the kernel that the firmware
// started has mapped them, since they can be moved only once (UEFI 2.10, section
// 8.4, SetVirtualAddressMap).
type efiRuntime struct {
	info    []byte   // efi_info of the running kernel's boot parameters
	vendor  uint64   // physical address of the firmware's name
	tables  uint64   // of the configuration tables
	smbios  uint64   // of SMBIOS; 0: it has none
	regions []uint64 // type, physical and virtual address, pages and attributes of each
}

const (
	offEFIInfo   = 0x1c0 // struct efi_info in the boot parameters
	efiInfoSize  = 0x20
	offEFIDesc   = offEFIInfo + 0x08 // bytes of a memory descriptor
	offEFIMap    = offEFIInfo + 0x10
	offEFIMapLen = offEFIInfo + 0x14
	offEFIMapHi  = offEFIInfo + 0x1c

	efiLoader       = "EL64"
	efiDescSize     = 40 // struct efi_memory_desc_t
	maxEFIRegions   = 1024
	setupEFI        = 4
	efiSetupSize    = 96 // struct efi_setup_data
	efiRegionFields = 5
)

// readEFI reads what the running kernel shows of UEFI's services (/sys/firmware;
// Documentation/ABI/testing/sysfs-firmware-efi-runtime-map): nil where it has none
// or does not use them.
func readEFI(params []byte, firmware fs.FS) (*efiRuntime, error) {
	const step = "read what UEFI offers"
	_, err := fs.Stat(firmware, "efi/runtime-map/0")
	if errors.Is(err, fs.ErrNotExist) || len(params) != paramsSize ||
		string(params[offEFIInfo:offEFIInfo+len(efiLoader)]) != efiLoader {
		return nil, nil
	}
	e := &efiRuntime{info: params[offEFIInfo : offEFIInfo+efiInfoSize], smbios: systab(firmware)["SMBIOS"]}
	if e.vendor, err = readNumber(firmware, "efi/fw_vendor"); err != nil {
		return nil, kindParams.error(step, err, "the firmware's name cannot be read")
	}
	if e.tables, err = readNumber(firmware, "efi/config_table"); err != nil {
		return nil, kindParams.error(step, err, "its tables cannot be read")
	}
	for i := range maxEFIRegions {
		dir := "efi/runtime-map/" + strconv.Itoa(i) + "/"
		if _, err := fs.Stat(firmware, dir[:len(dir)-1]); errors.Is(err, fs.ErrNotExist) {
			return e, nil
		}
		for _, field := range [efiRegionFields]string{"type", "phys_addr", "virt_addr", "num_pages", "attribute"} {
			n, err := readNumber(firmware, dir+field)
			if err != nil {
				return nil, kindParams.error(step, err, "region %d of its memory cannot be read", i)
			}
			e.regions = append(e.regions, n)
		}
	}
	return nil, kindParams.error(step, nil, "its memory has more than %d regions", maxEFIRegions)
}

// systab reads the addresses of UEFI's tables: lines such as "ACPI20=0x7fbfa014".
func systab(firmware fs.FS) map[string]uint64 {
	tables := map[string]uint64{}
	text, err := readLine(firmware, "efi/systab") // several lines, in fact
	if err != nil {
		return tables
	}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if n, err := strconv.ParseUint(value, 0, 64); err == nil {
			tables[name] = n
		}
	}
	return tables
}

// addTo names UEFI in the boot parameters for the address at, as the kernel itself
// does for kexec_file_load (setup_efi_state in arch/x86/kernel/kexec-bzimage64.c).
// Its memory map and what else there is go behind page; see appendSetupData.
func (e *efiRuntime) addTo(page []byte, link int, at uint64) ([]byte, int) {
	le := binary.LittleEndian
	copy(page[offEFIInfo:], e.info)
	for len(page)%16 != 0 {
		page = append(page, 0)
	}
	start := at + uint64(len(page))
	for r := e.regions; len(r) > 0; r = r[efiRegionFields:] {
		page = le.AppendUint64(page, r[0]) // 32 bits of type, 32 of padding
		for _, n := range r[1:efiRegionFields] {
			page = le.AppendUint64(page, n)
		}
	}
	le.PutUint32(page[offEFIDesc:], efiDescSize)
	le.PutUint32(page[offEFIMap:], uint32(start))
	le.PutUint32(page[offEFIMapHi:], uint32(start>>32))
	le.PutUint32(page[offEFIMapLen:], uint32(at+uint64(len(page))-start))
	setup := make([]byte, efiSetupSize)
	for i, n := range []uint64{e.vendor, 0, e.tables, e.smbios} {
		le.PutUint64(setup[8*i:], n)
	}
	return appendSetupData(page, link, at, setupEFI, setup)
}
