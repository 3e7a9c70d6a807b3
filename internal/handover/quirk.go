package handover

import "strings"

// A Verdict is what a quirk does to its rungs.
type Verdict int

const (
	// Last is for what was reported and may have been mended: the rung is tried
	// when nothing else is left.
	Last Verdict = iota
	// Never is for what the running kernel is certain to refuse, told before
	// anything is downloaded.
	Never
)

// A Quirk is a kind of machine on which a rung is known to fail. Fields that are
// set must all match.
type Quirk struct {
	Arch   string // canonical name
	Vendor string // DMI's system vendor, whole
	Model  string // the start of DMI's product or of the device tree's model
	CPU    string // part of the processor's name

	Disabled  bool // the setting kexec_load_disabled is on
	Locked    bool // the kernel is locked down
	SpinTable bool // the other processors wait where they cannot be sent back to

	Rungs   []Rung
	Verdict Verdict
	Why     string // for a person
	Hint    string // what to do; with Never
}

// kexecs are the rungs that jump from kernel to kernel.
var kexecs = []Rung{RungLoad, RungFile}

// quirks is the table, the first match of a rung decides. Each entry names who
// says so. What is merely rumoured is not here: phase.handover= is there for it.
var quirks = []Quirk{
	// Documentation/admin-guide/sysctl/kernel.rst: once set it cannot be taken
	// back, and both system calls answer EPERM.
	{Disabled: true, Rungs: kexecs, Verdict: Never,
		Why:  "the running kernel's setting kexec_load_disabled forbids it",
		Hint: "Take sysctl.kernel.kexec_load_disabled out of the seed's kernel options, or allow a restart: Internet and Local mode do."},
	// kernel_lockdown(7), kernel/kexec.c: nobody can check the signature of what
	// a program puts together.
	{Locked: true, Rungs: []Rung{RungLoad}, Verdict: Never,
		Why:  "the running kernel is locked down (Secure Boot does that) and takes no kernel without checking its signature",
		Hint: hintSecure},
	// arch/arm64/kernel/smp.c, cpus_are_stuck_in_kernel: EBUSY, "Can't kexec: CPUs
	// are stuck in the kernel". Raspberry Pi 3 and 4 and Apple's machines with
	// their own firmware; nix-community/nixos-anywhere issue 529.
	{Arch: "arm64", SpinTable: true, Rungs: kexecs, Verdict: Never,
		Why:  "this machine's firmware cannot take its other processors back (they start by spin table, not PSCI)",
		Hint: "Use a UEFI firmware for this machine that offers PSCI, or allow a restart: Internet and Local mode do."},
	// raspberrypi/linux issue 6465: nothing after "Bye!", also with other kernels.
	{Arch: "arm64", Model: "Raspberry Pi 5", Rungs: kexecs,
		Why: "Raspberry Pi 5 is reported to hang when one kernel starts another"},
	// siderolabs/talos issue 5649 and pull request 5670, which switches kexec off:
	// secondary processors of the Raspberry Pi 4 stay away, the ROCK Pi 4 hangs.
	{Arch: "arm64", Model: "Raspberry Pi 4", Rungs: kexecs,
		Why: "Raspberry Pi 4 is reported to lose processors when one kernel starts another"},
	{Arch: "arm64", Model: "Radxa ROCK Pi 4", Rungs: kexecs,
		Why: "ROCK Pi 4 is reported to hang when one kernel starts another"},
	// siderolabs/talos issue 4677, siderolabs/talos-vmtoolsd issue 51.
	{Arch: "arm64", Vendor: "VMware, Inc.", Rungs: kexecs,
		Why: "VMware Fusion on ARM is reported to hang when one kernel starts another"},
	// coreos/fedora-coreos-tracker issue 2071 (N5105) and
	// nix-community/nixos-anywhere issue 289 (N5100): black screen, with different
	// kernels, distributions and both system calls.
	{Arch: "x86_64", CPU: "Celeron(R) N5105", Rungs: kexecs, Why: whyJasperLake},
	{Arch: "x86_64", CPU: "Celeron(R) N5100", Rungs: kexecs, Why: whyJasperLake},
}

const whyJasperLake = "machines with this processor (Jasper Lake) are reported to hang when one kernel starts another"

// quirkOf finds what is known of a rung on a machine.
func quirkOf(m Machine, rung Rung) (Quirk, bool) {
	for _, q := range quirks {
		for _, r := range q.Rungs {
			if r == rung && q.matches(m) {
				return q, true
			}
		}
	}
	return Quirk{}, false
}

func (q Quirk) matches(m Machine) bool {
	switch {
	case q.Arch != "" && q.Arch != m.Arch,
		q.Vendor != "" && q.Vendor != m.Vendor,
		q.Model != "" && !strings.HasPrefix(m.Product, q.Model) && !strings.HasPrefix(m.Model, q.Model),
		q.CPU != "" && !strings.Contains(m.CPU, q.CPU),
		q.Disabled && !m.KexecDisabled,
		q.Locked && !m.Locked(),
		q.SpinTable && !m.SpinTable:
		return false
	}
	return true
}

func (q Quirk) refusal() error { return &ruledOut{text: q.Why, hint: q.Hint} }
