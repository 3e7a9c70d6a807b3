package handover

import (
	"io"
	"io/fs"
	"path"
	"strings"
)

// Machine is what is known of a machine before a kernel is loaded on it. What
// cannot be found out is empty: nothing here is needed for a boot.
type Machine struct {
	Arch            string
	Vendor, Product string // DMI (SMBIOS)
	Model           string // the device tree's
	CPU             string // the processor's name, on x86
	SpinTable       bool   // some of several processors were started by spin table, not PSCI
	KexecDisabled   bool   // the setting kernel.kexec_load_disabled
	SecureBoot      bool   // the firmware checks signatures
	Lockdown        string // "none", "integrity", "confidentiality"; "": unknown
	Cmdline         string // the running kernel's command line
	RSDP            string // where the firmware put the root of ACPI's tables: "0x…"; "": it does not say
}

// Locked reports whether the running kernel is locked down.
func (m Machine) Locked() bool { return m.Lockdown == "integrity" || m.Lockdown == "confidentiality" }

// maxFact bounds what is read of one file. The device tree, DMI and the
// processor's name come from firmware.
const maxFact = 8 << 10

// secureBoot is the firmware's variable: four bytes of attributes, and 1 or 0.
const secureBoot = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

// ReadMachine gathers the facts below root, which is "/" in the form of an
// fs.FS. arch is the canonical name of the running architecture.
func ReadMachine(root fs.FS, arch string) Machine {
	dmi := func(name string) string { return fact(root, "sys/class/dmi/id/"+name) }
	m := Machine{
		Arch: arch, Vendor: dmi("sys_vendor"), Product: dmi("product_name"),
		Model:         fact(root, "sys/firmware/devicetree/base/model"),
		SpinTable:     spinTable(root),
		KexecDisabled: fact(root, "proc/sys/kernel/kexec_load_disabled") == "1",
		SecureBoot:    strings.HasSuffix(readFact(root, secureBoot), "\x01"),
		Lockdown:      chosen(fact(root, "sys/kernel/security/lockdown")),
		Cmdline:       fact(root, "proc/cmdline"),
	}
	m.CPU, _ = keyed(readFact(root, "proc/cpuinfo"), "model name", ":")
	systab := readFact(root, "sys/firmware/efi/systab")
	if m.RSDP, _ = keyed(systab, "ACPI20", "="); m.RSDP == "" {
		m.RSDP, _ = keyed(systab, "ACPI", "=")
	}
	return m
}

// fact is a text of one line, without what surrounds it in sysfs and the device
// tree.
func fact(root fs.FS, name string) string {
	return strings.Trim(readFact(root, name), " \t\r\n\x00")
}

func readFact(root fs.FS, name string) string {
	f, err := root.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFact))
	if err != nil {
		return ""
	}
	return string(data)
}

// chosen is the word in brackets.
func chosen(list string) string {
	_, rest, _ := strings.Cut(list, "[")
	word, _, found := strings.Cut(rest, "]")
	if !found {
		return ""
	}
	return word
}

// keyed finds the first line of that key.
func keyed(text, key, separator string) (value string, found bool) {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, separator); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}

// spinTable asks the device tree how processors are started.
func spinTable(root fs.FS) bool {
	const cpus = "sys/firmware/devicetree/base/cpus"
	entries, err := fs.ReadDir(root, cpus)
	if err != nil {
		return false
	}
	count, spinning := 0, false
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "cpu@") {
			count++
			spinning = spinning || fact(root, path.Join(cpus, e.Name(), "enable-method")) == "spin-table"
		}
	}
	return spinning && count > 1
}
