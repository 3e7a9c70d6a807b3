package kexec

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"strconv"
	"strings"
)

// region is a line of the memory map that firmware gave the running kernel, in
// the form of the boot parameters (the BIOS's call E820).
type region struct {
	span span
	kind uint32
}

const (
	e820RAM      = 1
	e820Reserved = 2
	maxRegions   = 4096
)

// e820Kinds are the names in /sys/firmware/memmap (e820_type_to_string in
// arch/x86/kernel/e820.c). What is not here is reserved.
var e820Kinds = map[string]uint32{
	"System RAM": e820RAM, "ACPI Tables": 3, "ACPI Non-volatile Storage": 4, "Unusable memory": 5,
	"Persistent Memory": 7, "Persistent Memory (legacy)": 12, "Soft Reserved": 0xefffffff,
}

// readMemmap reads /sys/firmware/memmap: a folder for each region, numbered from 0.
func readMemmap(dir fs.FS) ([]region, error) {
	var out []region
	for i := range maxRegions {
		name := strconv.Itoa(i)
		if _, err := fs.Stat(dir, name); errors.Is(err, fs.ErrNotExist) && i > 0 {
			return out, nil
		}
		r, err := readRegion(dir, name)
		if err != nil {
			return nil, kindMap.error(stepMap, err, "the firmware's cannot be read")
		}
		out = append(out, r)
	}
	return nil, kindMap.error(stepMap, nil, "the firmware's has more than %d regions", maxRegions)
}

func readRegion(dir fs.FS, name string) (region, error) {
	start, err := readNumber(dir, name+"/start")
	if err != nil {
		return region{}, err
	}
	end, err := readNumber(dir, name+"/end")
	if err != nil {
		return region{}, err
	}
	kind, err := readLine(dir, name+"/type")
	if err != nil {
		return region{}, err
	}
	if end < start || end == math.MaxUint64 {
		return region{}, errors.New("a region ends before it begins")
	}
	r := region{span{start, end + 1}, e820Reserved}
	if k, known := e820Kinds[kind]; known {
		r.kind = k
	}
	return r, nil
}

// readLine reads a file of sysfs, which has one line.
func readLine(dir fs.FS, name string) (string, error) {
	f, err := dir.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	return strings.TrimSpace(string(text)), err
}

// readNumber reads a number such as 0x7fffffff.
func readNumber(dir fs.FS, name string) (uint64, error) {
	text, err := readLine(dir, name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(text, 0, 64)
}

// ramOf is the memory of the map.
func ramOf(regions []region) spans {
	var ram []span
	for _, r := range regions {
		if r.kind == e820RAM {
			ram = append(ram, r.span)
		}
	}
	return newSpans(ram)
}
