package kexec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/fstest"
)

// efiParams are boot parameters of a kernel that a UEFI firmware started.
func efiParams() []byte {
	params := make([]byte, paramsSize)
	copy(params[offEFIInfo:], efiLoader)
	binary.LittleEndian.PutUint32(params[offEFIInfo+4:], 0x7f9ec018)  // the system table
	binary.LittleEndian.PutUint32(params[offEFIInfo+12:], 1)          // the map's version
	binary.LittleEndian.PutUint32(params[offEFIMap:], 0x7d000018)     // the first kernel's map
	binary.LittleEndian.PutUint32(params[offEFIMapLen:], 100*48)      // has more and larger entries
	binary.LittleEndian.PutUint32(params[offEFIDesc:], efiDescSize+8) // than are handed on
	return params
}

// efiFirmware is /sys/firmware of a machine with regions that UEFI uses.
func efiFirmware(regions int) fstest.MapFS {
	dir := fstest.MapFS{}
	put := func(name, value string) { dir["efi/"+name] = &fstest.MapFile{Data: []byte(value + "\n")} }
	put("systab", "ACPI20=0x7fbfa014\nSMBIOS3=0x7f9cc000\nSMBIOS=0x7f9ce000")
	put("fw_vendor", "0x7f9f0000")
	put("config_table", "0x7f9eb000")
	for i := range regions {
		folder := fmt.Sprintf("runtime-map/%d/", i)
		put(folder+"type", fmt.Sprintf("0x%x", 5+i%2))
		put(folder+"phys_addr", fmt.Sprintf("0x%x", 0x7f8ee000+i<<20))
		put(folder+"virt_addr", fmt.Sprintf("0x%x", uint64(0xfffffffeffc00000)-uint64(i)<<20))
		put(folder+"num_pages", "0x100")
		put(folder+"attribute", "0x800000000000000f")
	}
	return dir
}

func TestReadEFI(t *testing.T) {
	e, err := readEFI(efiParams(), efiFirmware(2))
	if err != nil || e == nil {
		t.Fatalf("%v, %v", e, err)
	}
	want := []uint64{
		5, 0x7f8ee000, 0xfffffffeffc00000, 0x100, 0x800000000000000f,
		6, 0x7f9ee000, 0xfffffffeffb00000, 0x100, 0x800000000000000f,
	}
	if e.vendor != 0x7f9f0000 || e.tables != 0x7f9eb000 || e.smbios != 0x7f9ce000 || !slices.Equal(e.regions, want) {
		t.Errorf("%+v", e)
	}
	for name, dir := range map[string]fstest.MapFS{"no UEFI": {}, "not used": efiFirmware(0)} {
		if e, err := readEFI(efiParams(), dir); e != nil || err != nil {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	for name, params := range map[string][]byte{"BIOS": make([]byte, paramsSize), "none": nil, "32 bits": bytes.Replace(efiParams(), []byte(efiLoader), []byte("EL32"), 1)} {
		if e, err := readEFI(params, efiFirmware(2)); e != nil || err != nil {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
}

func TestReadEFIRefusals(t *testing.T) {
	for name, spoil := range map[string]func(dir fstest.MapFS){
		"no vendor":      func(dir fstest.MapFS) { delete(dir, "efi/fw_vendor") },
		"no tables":      func(dir fstest.MapFS) { delete(dir, "efi/config_table") },
		"a field less":   func(dir fstest.MapFS) { delete(dir, "efi/runtime-map/1/virt_addr") },
		"no number":      func(dir fstest.MapFS) { dir["efi/runtime-map/1/type"].Data = []byte("code\n") },
		"more than that": func(dir fstest.MapFS) { dir["efi/runtime-map/0/num_pages"].Data = []byte("0x10000000000000000") },
		"too many": func(dir fstest.MapFS) {
			for name, file := range efiFirmware(maxEFIRegions + 1) {
				dir[name] = file
			}
		},
	} {
		dir := efiFirmware(2)
		spoil(dir)
		var e *Error
		if got, err := readEFI(efiParams(), dir); got != nil || !errors.As(err, &e) || e.Code() == "" || e.Hint() == "" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// The next kernel finds the map and the rest where the parameters say.
func TestEFIParams(t *testing.T) {
	m := x86MachineOf(t)
	m.params = efiParams()
	var err error
	if m.runtime, err = readEFI(m.params, efiFirmware(3)); err != nil {
		t.Fatal(err)
	}
	p, err := planX86(x86Kernel(), []byte("initrd"), "quiet", m)
	if err != nil {
		t.Fatal(err)
	}
	sound(t, p, m.free)
	params := p.segment(t, "boot parameters")
	page, le := params.data, binary.LittleEndian
	if string(page[offEFIInfo:offEFIInfo+4]) != efiLoader || le.Uint32(page[offEFIInfo+4:]) != 0x7f9ec018 || le.Uint32(page[offEFIInfo+12:]) != 1 {
		t.Errorf("efi_info % x", page[offEFIInfo:offEFIInfo+efiInfoSize])
	}
	at := uint64(le.Uint32(page[offEFIMap:])) | uint64(le.Uint32(page[offEFIMapHi:]))<<32
	if size := le.Uint32(page[offEFIMapLen:]); size != 3*efiDescSize || le.Uint32(page[offEFIDesc:]) != efiDescSize {
		t.Fatalf("a map of %d bytes", size)
	}
	descriptors := page[at-params.at.start:][:3*efiDescSize]
	for i := range 3 {
		d := descriptors[i*efiDescSize:]
		if le.Uint32(d) != uint32(5+i%2) || le.Uint64(d[8:]) != 0x7f8ee000+uint64(i)<<20 || le.Uint64(d[24:]) != 0x100 {
			t.Errorf("region %d: % x", i, d[:efiDescSize])
		}
	}
	kinds := map[uint32][]byte{}
	for next := le.Uint64(page[offSetupData:]); next != 0; {
		d := page[next-params.at.start:]
		kinds[le.Uint32(d[8:])] = d[16:][:le.Uint32(d[12:])]
		next = le.Uint64(d)
	}
	setup := kinds[setupEFI]
	if len(kinds) != 2 || len(setup) != efiSetupSize || le.Uint64(setup) != 0x7f9f0000 || le.Uint64(setup[16:]) != 0x7f9eb000 || le.Uint64(setup[24:]) != 0x7f9ce000 {
		t.Errorf("further data %v", kinds)
	}
}
