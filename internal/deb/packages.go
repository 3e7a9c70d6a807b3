package deb

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"strings"
)

const maintainer = "Phase Boot maintainers <maintainers@phasebased.dev>"

// pkg is what is in a package.
type pkg struct {
	name, section, summary string
	description            []string // lines of at most 79 characters
	relations              []string // lines of the control file
	programs               []string
	helpers                []string          // programs that only programs start
	files                  map[string]string // where it goes, from where in packaging
	scripts                []string          // of the maintainer, in packaging/deb
	configured             bool              // has the node's configuration
}

func packages() []pkg {
	return []pkg{
		{
			name: "plasmd", section: "net", summary: "node that runs WebAssembly jobs and signs receipts for them",
			description: []string{
				"A node of a Phase network: it runs WebAssembly modules, each in a jailed",
				"process of its own, signs what came of them, and says on the network what it",
				"has to offer. It can also serve what other machines boot from.",
				".",
				"Installing it starts the service, which listens on TCP port 4001 until",
				"/etc/plasm/config.json says otherwise. A second service, phase-provider,",
				"serves releases to machines that boot; it starts only when it is enabled.",
			},
			relations: []string{
				"Pre-Depends: init-system-helpers (>= 1.54~)",
				"Depends: systemd | systemd-standalone-sysusers | systemd-sysusers",
				"Recommends: ca-certificates",
				"Suggests: phase",
			},
			programs: []string{"plasmd"}, helpers: []string{"plasm-jail"},
			files: map[string]string{
				"usr/lib/systemd/system/plasmd.service":         "systemd/plasmd.service",
				"usr/lib/systemd/system/phase-provider.service": "systemd/phase-provider.service",
				"usr/lib/sysusers.d/plasmd.conf":                "systemd/plasmd.sysusers",
			},
			scripts: []string{"postinst", "prerm", "postrm"}, configured: true,
		},
		{
			name: "phase", section: "utils", summary: "tools to publish, verify and try out systems that boot from a network",
			description: []string{
				"The operator's commands of Phase Boot: phase builds media and releases, signs",
				"them, writes sticks, runs virtual machines and asks nodes to run jobs.",
				"phase-discover, phase-verify and phase-fetch are the steps that a machine goes",
				"when it boots, each by itself.",
			},
			relations: []string{"Recommends: ca-certificates", "Suggests: plasmd"},
			programs:  []string{"phase", "phase-discover", "phase-fetch", "phase-verify"},
		},
	}
}

// control is the package's control file (policy 5.3). size is in KiB.
func (p pkg) control(version, arch string, size int64) []byte {
	var text strings.Builder
	fmt.Fprintf(&text, "Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: %s\n", p.name, version, arch, maintainer)
	fmt.Fprintf(&text, "Installed-Size: %d\n", size)
	for _, line := range p.relations {
		text.WriteString(line + "\n")
	}
	fmt.Fprintf(&text, "Section: %s\nPriority: optional\nHomepage: https://github.com/phasebased/phase\n", p.section)
	fmt.Fprintf(&text, "Description: %s\n", p.summary)
	for _, line := range p.description {
		text.WriteString(" " + line + "\n")
	}
	return []byte(text.String())
}

// machines are what ELF calls Debian's architectures.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// checkProgram keeps programs of another architecture out, and those that need
// libraries, which the package does not ask for.
func checkProgram(data []byte, arch string) error {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("not a program: %w", err)
	}
	defer f.Close()
	if f.Machine != machines[arch] {
		return fmt.Errorf("built for %v, not for %s", f.Machine, arch)
	}
	if libraries, err := f.ImportedLibraries(); err == nil && len(libraries) > 0 {
		return errors.New("needs libraries: " + strings.Join(libraries, ", "))
	}
	return nil
}
