package kmod

import (
	"slices"
	"strings"
)

// A Class is a set of drivers by what they are for, not by name: a folder of the
// kernel's sources, and the buses on which their devices are.
type Class struct {
	// Dir is a folder below the module directory: "kernel/drivers/net/ethernet".
	Dir string
	// Buses are the beginnings of aliases, up to the colon: "pci", "usb", "of". A
	// driver that answers to none of them is not of the class: libraries, and drivers
	// of buses that died out. None: all modules of the folder are.
	Buses []string
	// Without are modules: whoever needs one of them is not of the class.
	Without []string
}

// Find names the modules of the classes, sorted, each once. What is built into the
// kernel is not among them: it needs no file.
func (x *Index) Find(classes ...Class) []string {
	buses := x.buses()
	var found []string
	for name, line := range x.deps {
		if slices.ContainsFunc(classes, func(c Class) bool { return c.has(line, buses[name]) }) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

func (c Class) has(line depLine, buses []string) bool {
	if !strings.HasPrefix(line.path, strings.TrimSuffix(c.Dir, "/")+"/") {
		return false
	}
	if len(c.Buses) > 0 && !slices.ContainsFunc(buses, func(b string) bool { return slices.Contains(c.Buses, b) }) {
		return false
	}
	return !slices.ContainsFunc(strings.Fields(line.deps), func(file string) bool { return slices.Contains(c.Without, Name(file)) })
}

// buses are the buses of every module's aliases.
func (x *Index) buses() map[string][]string {
	buses := make(map[string][]string)
	x.aliases.each(func(a alias) {
		bus, _, ok := strings.Cut(a.pattern, ":")
		if name := Name(a.module); ok && !slices.Contains(buses[name], bus) {
			buses[name] = append(buses[name], bus)
		}
	})
	return buses
}
