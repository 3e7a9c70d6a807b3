package handover

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// nobody is a Restarter that is never asked.
type nobody struct{ Restarter }

func TestPlan(t *testing.T) {
	tests := map[string]struct {
		choice  string
		machine Machine
		restart Restarter
		want    string // rungs
		ruled   string // and those that are not to be tried
		says    string
	}{
		"unknown machine":         {Auto, Machine{Arch: "x86_64"}, nobody{}, "kexec_load kexec_file_load restart", "", ""},
		"no choice":               {"", Machine{Arch: "arm64"}, nobody{}, "kexec_load kexec_file_load restart", "", ""},
		"nothing written":         {Auto, Machine{Arch: "x86_64"}, nil, "kexec_load kexec_file_load", "restart", "nothing may be written"},
		"one rung":                {"kexec_load", Machine{Arch: "x86_64"}, nobody{}, "kexec_load", "", ""},
		"restart, not allowed":    {"restart", Machine{Arch: "x86_64"}, nil, "", "restart", "nothing may be written"},
		"switched off":            {Auto, Machine{Arch: "x86_64", KexecDisabled: true}, nobody{}, "restart", "kexec_load kexec_file_load", "kexec_load_disabled"},
		"switched off, private":   {Auto, Machine{Arch: "x86_64", KexecDisabled: true}, nil, "", "kexec_load kexec_file_load restart", "kexec_load_disabled"},
		"switched off, forced":    {"kexec_load", Machine{Arch: "x86_64", KexecDisabled: true}, nobody{}, "", "kexec_load", "kexec_load_disabled"},
		"locked down":             {Auto, Machine{Arch: "x86_64", Lockdown: "integrity"}, nobody{}, "kexec_file_load restart", "kexec_load", "locked down"},
		"not locked down":         {Auto, Machine{Arch: "x86_64", Lockdown: "none"}, nobody{}, "kexec_load kexec_file_load restart", "", ""},
		"spin table":              {Auto, Machine{Arch: "arm64", SpinTable: true}, nobody{}, "restart", "kexec_load kexec_file_load", "spin table"},
		"hangs":                   {Auto, Machine{Arch: "arm64", Model: "Raspberry Pi 5 Model B Rev 1.0"}, nobody{}, "restart kexec_load kexec_file_load", "", "Raspberry Pi 5"},
		"hangs, private":          {Auto, Machine{Arch: "arm64", Product: "Raspberry Pi 4 Model B"}, nil, "kexec_load kexec_file_load", "restart", "Raspberry Pi 4"},
		"hangs, forced":           {"kexec_file_load", Machine{Arch: "arm64", Model: "Radxa ROCK Pi 4B"}, nobody{}, "kexec_file_load", "", ""},
		"hypervisor":              {Auto, Machine{Arch: "arm64", Vendor: "VMware, Inc.", Product: "VMware20,1"}, nobody{}, "restart kexec_load kexec_file_load", "", "VMware"},
		"same vendor, other arch": {Auto, Machine{Arch: "x86_64", Vendor: "VMware, Inc."}, nobody{}, "kexec_load kexec_file_load restart", "", ""},
		"processor":               {Auto, Machine{Arch: "x86_64", CPU: "Intel(R) Celeron(R) N5105 @ 2.00GHz"}, nobody{}, "restart kexec_load kexec_file_load", "", "Jasper Lake"},
		"its sibling":             {Auto, Machine{Arch: "x86_64", CPU: "Intel(R) Celeron(R) N5100 @ 1.10GHz"}, nobody{}, "restart kexec_load kexec_file_load", "", "Jasper Lake"},
	}
	for name, tt := range tests {
		l := Plan(tt.choice, tt.machine, tt.restart)
		var rungs, ruled []string
		said := strings.Join(l.Notes, "; ")
		for _, r := range l.Rungs {
			rungs = append(rungs, string(r))
		}
		for _, r := range l.Ruled {
			ruled = append(ruled, string(r.Rung))
			said += "; " + r.Err.Error()
			var e *ruledOut
			if !errors.As(r.Err, &e) || e.Code() == "" || e.Hint() == "" {
				t.Errorf("%s: %v has no code or hint", name, r.Err)
			}
		}
		if got := strings.Join(rungs, " "); got != tt.want {
			t.Errorf("%s: rungs %q, want %q", name, got, tt.want)
		}
		if got := strings.Join(ruled, " "); got != tt.ruled {
			t.Errorf("%s: ruled out %q, want %q", name, got, tt.ruled)
		}
		if !strings.Contains(said, tt.says) || tt.says == "" && said != "" {
			t.Errorf("%s: says %q, want %q", name, said, tt.says)
		}
		if len(l.Notes) > 1 {
			t.Errorf("%s: says more than once: %q", name, l.Notes)
		}
	}
}

// Every entry must be able to match, say why, and say what to do if it forbids.
func TestQuirks(t *testing.T) {
	for i, q := range quirks {
		if q.Why == "" || len(q.Rungs) == 0 || slices.Contains(q.Rungs, RungRestart) || (q.Verdict == Never) != (q.Hint != "") {
			t.Errorf("entry %d: %+v", i, q)
		}
		m := Machine{Arch: q.Arch, Vendor: q.Vendor, Model: q.Model, CPU: q.CPU, KexecDisabled: q.Disabled, SpinTable: q.SpinTable}
		if q.Locked {
			m.Lockdown = "confidentiality"
		}
		if !q.matches(m) {
			t.Errorf("entry %d does not match its own machine", i)
		}
		if q.matches(Machine{}) {
			t.Errorf("entry %d matches every machine", i)
		}
	}
}

func TestReadMachine(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	pc := fstest.MapFS{
		"sys/class/dmi/id/sys_vendor":         file("VMware, Inc.\n"),
		"sys/class/dmi/id/product_name":       file("VMware20,1\n"),
		"proc/sys/kernel/kexec_load_disabled": file("1\n"),
		"sys/kernel/security/lockdown":        file("none [integrity] confidentiality\n"),
		"proc/cmdline":                        file("quiet console=ttyS0\n"),
		"proc/cpuinfo":                        file("processor\t: 0\nmodel name\t: Intel(R) Celeron(R) N5105 @ 2.00GHz\n\nprocessor\t: 1\nmodel name\t: other\n"),
		"sys/firmware/efi/systab":             file("ACPI20=0x7fb7e014\nACPI=0x7fb7e000\n"),
		secureBoot:                            file("\x06\x00\x00\x00\x01"),
	}
	want := Machine{
		Arch: "x86_64", Vendor: "VMware, Inc.", Product: "VMware20,1", CPU: "Intel(R) Celeron(R) N5105 @ 2.00GHz",
		KexecDisabled: true, SecureBoot: true, Lockdown: "integrity", Cmdline: "quiet console=ttyS0", RSDP: "0x7fb7e014",
	}
	if got := ReadMachine(pc, "x86_64"); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := ReadMachine(fstest.MapFS{}, "arm64"); got != (Machine{Arch: "arm64"}) {
		t.Errorf("of nothing: %+v", got)
	}
	const tree = "sys/firmware/devicetree/base/"
	board := fstest.MapFS{
		tree + "model":                    file("Raspberry Pi 4 Model B Rev 1.4\x00"),
		tree + "cpus/cpu@0/enable-method": file("spin-table\x00"),
		tree + "cpus/cpu@1/enable-method": file("spin-table\x00"),
	}
	if got := ReadMachine(board, "arm64"); got.Model != "Raspberry Pi 4 Model B Rev 1.4" || !got.SpinTable {
		t.Errorf("a board: %+v", got)
	}
	delete(board, tree+"cpus/cpu@1/enable-method")
	if got := ReadMachine(board, "arm64"); got.SpinTable {
		t.Error("a single processor needs nobody to take others back")
	}
	long := fstest.MapFS{"proc/cmdline": file(strings.Repeat("x", maxFact+1))}
	if got := ReadMachine(long, "x86_64"); len(got.Cmdline) != maxFact {
		t.Errorf("read %d bytes", len(got.Cmdline))
	}
	_ = ReadMachine(os.DirFS("/"), "x86_64") // whatever is here
}

func TestMachineWords(t *testing.T) {
	serial := Machine{Cmdline: "console=tty0 console=ttyS0,115200 quiet phase.mode=local"}
	quiet := Machine{Cmdline: serial.Cmdline + " efi=debug,noruntime", RSDP: "0x7fb7e014"}
	tests := map[string]struct {
		signed  string
		machine Machine
		rung    Rung
		want    string
	}{
		"consoles":                {"quiet", serial, RungFile, "quiet console=tty0 console=ttyS0,115200"},
		"consoles, restart":       {"quiet", serial, RungRestart, "quiet console=tty0 console=ttyS0,115200"},
		"consoles of the release": {"console=tty1 quiet", serial, RungFile, "console=tty1 quiet"},
		"no consoles":             {"quiet", Machine{Cmdline: "quiet"}, RungFile, "quiet"},
		"empty line":              {"", serial, RungFile, "console=tty0 console=ttyS0,115200"},
		"nothing at all":          {"", Machine{}, RungFile, ""},
		"words for init":          {"quiet -- console", serial, RungFile, "quiet -- console"},
		"no EFI runtime":          {"console=tty0", quiet, RungLoad, "console=tty0 acpi_rsdp=0x7fb7e014"},
		"no EFI runtime, restart": {"console=tty0", quiet, RungRestart, "console=tty0"},
		"noefi":                   {"console=tty0", Machine{Cmdline: "noefi", RSDP: "0xE0000"}, RungFile, "console=tty0 acpi_rsdp=0xE0000"},
		"told":                    {"console=tty0", Machine{Cmdline: "acpi_rsdp=0xe0000"}, RungFile, "console=tty0 acpi_rsdp=0xe0000"},
		"told without 0x":         {"console=tty0", Machine{Cmdline: "acpi_rsdp=e0000"}, RungFile, "console=tty0 acpi_rsdp=0xe0000"},
		"told nonsense":           {"console=tty0", Machine{Cmdline: "acpi_rsdp=0xe,init=/bin/sh"}, RungFile, "console=tty0"},
		"signed":                  {"console=tty0 acpi_rsdp=0x1", Machine{Cmdline: "acpi_rsdp=0xe0000"}, RungFile, "console=tty0 acpi_rsdp=0x1"},
		"EFI works":               {"console=tty0", Machine{Cmdline: "quiet", RSDP: "0x7fb7e014"}, RungFile, "console=tty0"},
		"no last words":           {"console=tty0", Machine{Cmdline: "quiet pstore.backend=none"}, RungFile, "console=tty0 pstore.backend=none"},
		"last words, signed":      {"console=tty0 pstore.backend=efi", Machine{Cmdline: "pstore.backend=none"}, RungFile, "console=tty0 pstore.backend=efi"},
		"other last words":        {"console=tty0", Machine{Cmdline: "pstore.backend=efi"}, RungFile, "console=tty0"},
		"strange consoles":        {"", Machine{Cmdline: `console= console=ttyS0"x console=tty0;reboot console=ttyS1`}, RungFile, "console=ttyS1"},
		"many consoles":           {"", Machine{Cmdline: "console=a console=b console=c console=d console=e"}, RungFile, "console=b console=c console=d console=e"},
	}
	for name, tt := range tests {
		if got := commandLine(tt.signed, tt.machine, tt.rung); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// The signed line comes first and whole, whatever its length.
func TestMachineWordsFit(t *testing.T) {
	m := Machine{Cmdline: "console=tty0 console=ttyS0,115200 acpi_rsdp=0x7fb7e014"}
	for n := MaxCmdline - 80; n <= MaxCmdline+1; n++ {
		signed := strings.Repeat("x", n)
		got := commandLine(signed, m, RungFile)
		if !strings.HasPrefix(got, signed) || len(got) > max(n, MaxCmdline) {
			t.Fatalf("%d bytes become %d", n, len(got))
		}
		if words := " acpi_rsdp=0x7fb7e014"; n+len(words) <= MaxCmdline && !strings.HasPrefix(got[n:], words) {
			t.Errorf("%d bytes: %q", n, got[n:])
		}
		if got := commandLine(signed, m, RungRestart); !strings.HasPrefix(got, signed) || len(got) > max(n, MaxCmdline-loaderRoom) {
			t.Fatalf("%d bytes become %d for a restart", n, len(got))
		}
	}
}
