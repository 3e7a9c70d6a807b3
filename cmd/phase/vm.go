package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/doctor"
	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/vm"
	"github.com/phasebased/phase/manifest"
)

// vmRun is one call of phase vm run.
type vmRun struct {
	image, arch, accel, as, imageFormat string
	memory                              string
	cpus                                int
	secureBoot                          bool
	vars                                string
	display                             string
	name, state                         string
	machines                            int
	inTurn                              bool
	lan, net                            string
	forwards                            []string
	keep, print                         bool
	until                               string
	timeout                             time.Duration
	format                              string
	qemu                                []string

	disk     vm.Disk
	mebibyte int  // of memory
	raw      bool // the terminal is the machine's: lines of ours need their own return
	ports    []vm.Forward
}

// What --until may name, and what the machine is followed to.
var untils = map[string]lab.LastWord{
	"hand-over": lab.HandedOver, "node": lab.NodeReady, "offered": lab.Offered, "receipt": lab.ReceiptShown, "delivered": lab.ReceiptDelivered,
}

// maxMachines bounds --machines: more would be a mistake on any desk.
const maxMachines = 16

const vmRunLong = `Starts virtual machines from a boot medium, as a person would start computers
from a stick. No root and no setup: what the machines write to the medium is
forgotten unless you say --keep.

The machine's serial port is on this terminal. There, Ctrl-A is a prefix:
  Ctrl-A X  pull the plug          Ctrl-A P  press the power button
  Ctrl-A R  press reset            Ctrl-A H  show these keys
  Ctrl-A A  type Ctrl-A
With several machines, or where standard input is no terminal, their consoles
are shown line by line and Ctrl-C ends them.

Each machine has a name, and with it an address on the network, a UUID and a file
of firmware variables, kept from run to run in the state folder. Runs at the same
time get different names.

With --until the command waits for what a machine reports, prints a timeline and
ends: hand-over (the seed starts what it verified), node (the node answers),
offered (the node lets its network boot from it), receipt (of its first job; it
is verified) or delivered (a provider has taken that). Exit status: 0 done or
switched off, 1 the machine stopped, ended or was too slow, 2 wrong usage.`

const vmRunExample = `  phase vm run build/phase.img                             a PC on this terminal
  phase vm run --arch arm64 --as nvme phase-arm64.qcow2    another machine, bus and format
  phase vm run --secure-boot --display auto phase.iso      signatures checked; with a screen
  phase vm run --forward 8080 --lan home --net all phase.img       on the Internet and on a LAN
  phase vm run --lan home phase.img                        in another terminal: on the LAN alone
  phase vm run --until receipt --format json phase.img     for scripts`

func newVM() *cobra.Command {
	cmd := group("vm", "Start virtual machines from boot media")
	cmd.AddCommand(newVMRun())
	return cmd
}

func newVMRun() *cobra.Command {
	r := &vmRun{}
	cmd := &cobra.Command{
		Use: "run IMAGE", Short: "Start machines from a medium, on this terminal or a screen", Long: vmRunLong, Example: vmRunExample,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("one medium is needed, not %d (see %s --help)", len(args), cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			r.image = args[0]
			if err := r.check(); err != nil {
				return usageError{err}
			}
			return r.execute(cmd.Context())
		},
	}
	r.flags(cmd)
	return cmd
}

func (r *vmRun) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&r.arch, "arch", "", "architecture of the machines: x86_64 or arm64 (default that of the medium; x86_64 where it does not tell)")
	flags.StringVar(&r.accel, "accel", vm.AccelAuto, "hardware virtualisation: auto, kvm or tcg (emulation)")
	flags.StringVar(&r.memory, "memory", "1Gi", "memory of each machine, such as 512Mi or 2Gi")
	flags.IntVar(&r.cpus, "cpus", 0, "processors of each machine (default 2, or 1 if emulated)")
	flags.StringVar(&r.as, "as", "", "what the medium is: virtio, usb, nvme, sata, scsi or cdrom (default virtio, or cdrom for .iso: media of the cloud flavour have drivers for these, nvme and scsi)")
	flags.StringVar(&r.imageFormat, "image-format", "", "raw, qcow2, vmdk, vhd or vhdx (default by the medium's name: .img .raw .iso .qcow2 .vmdk .vhd .vhdx)")
	flags.BoolVar(&r.keep, "keep", false, "let the machine write to the medium")
	flags.BoolVar(&r.secureBoot, "secure-boot", false, "let the firmware check signatures, with Microsoft's keys or those in --vars")
	flags.StringVar(&r.vars, "vars", "", "file of the firmware's variables (default one per machine in the state folder)")
	flags.StringVar(&r.display, "display", "none", "screen: none, auto, gtk, sdl, cocoa or vnc; the serial port is on this terminal all the same")
	flags.StringVar(&r.name, "name", "", "name of the machine (default the first of machine-1, machine-2 … that is not running)")
	flags.StringVar(&r.state, "state", "", "folder for what machines keep (default phase/vm in your folder for state)")
	flags.IntVar(&r.machines, "machines", 1, "number of machines, on a LAN of their own unless --lan names one")
	flags.BoolVar(&r.inTurn, "in-turn", false, "start each machine when the one before has come as far as --until, and offers others what it booted")
	flags.StringVar(&r.lan, "lan", "", "plug the machines into the LAN of this name, which leads nowhere; other runs can join it")
	flags.StringVar(&r.net, "net", "", "who reaches the Internet through this computer: all, first or none (default all; with a LAN none)")
	flags.StringArrayVar(&r.forwards, "forward", nil, "`PORT[:GUEST]` of this computer's loopback that leads to a machine's port (plasmd's is 8080); the next machine has the next; repeatable")
	flags.StringVar(&r.until, "until", "", "end when the machine has come so far: hand-over, node, offered, receipt or delivered")
	flags.DurationVar(&r.timeout, "timeout", 5*time.Minute, "with --until: how long each machine may take")
	flags.StringVarP(&r.format, "format", "f", "text", "with --until: form of the result, text or json")
	flags.BoolVar(&r.print, "print", false, "print QEMU's command lines, for you to change and run, and start nothing")
	flags.StringArrayVar(&r.qemu, "qemu", nil, "further `argument` of QEMU; repeatable")
	for flag, choices := range map[string][]string{
		"arch": {vm.X8664, vm.ARM64}, "as": {"virtio", "usb", "nvme", "sata", "scsi", "cdrom"}, "display": {"none", "auto", "gtk", "sdl", "cocoa", "vnc"},
		"accel": {vm.AccelAuto, vm.AccelKVM, vm.AccelTCG}, "net": {"all", "first", "none"}, "format": {"text", "json"},
		"until": {"hand-over", "node", "offered", "receipt", "delivered"}, "image-format": {"raw", "qcow2", "vmdk", "vhd", "vhdx"},
	} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp)) // fails for a flag that does not exist
	}
}

// check reads the flags, and refuses those that contradict each other.
func (r *vmRun) check() (err error) {
	if r.disk, err = mediumDisk(r.image, r.imageFormat, r.as); err != nil {
		return err
	}
	r.disk.Snapshot = !r.keep
	if r.arch == "" {
		r.arch = mediumArch(r.disk)
	}
	arch, err := manifest.ParseArch(r.arch)
	if err != nil {
		return fmt.Errorf("--arch %s: choose x86_64 or arm64", r.arch)
	}
	r.arch = arch
	size, err := term.ParseBytes(r.memory)
	if err != nil {
		return fmt.Errorf("--memory: %w", err)
	}
	r.mebibyte = int(size >> 20)
	for flag, c := range map[string]struct {
		value   string
		choices []string
	}{
		"accel":   {r.accel, []string{vm.AccelAuto, vm.AccelKVM, vm.AccelTCG}},
		"display": {r.display, []string{"none", "auto", "gtk", "sdl", "cocoa", "vnc"}},
		"format":  {r.format, []string{"text", "json"}},
		"net":     {r.net, []string{"", "all", "first", "none"}},
		"until":   {r.until, []string{"", "hand-over", "node", "offered", "receipt", "delivered"}},
	} {
		if !slices.Contains(c.choices, c.value) {
			return fmt.Errorf("--%s %s: choose one of %s", flag, c.value, strings.TrimPrefix(strings.Join(c.choices, ", "), ", "))
		}
	}
	if r.ports, err = parseForwards(r.forwards); err != nil {
		return err
	}
	return r.contradictions()
}

func (r *vmRun) contradictions() error {
	switch {
	case r.machines < 1 || r.machines > maxMachines:
		return fmt.Errorf("--machines %d: choose 1 to %d", r.machines, maxMachines)
	case r.mebibyte < 128:
		return fmt.Errorf("--memory %s: a machine needs 128Mi at least to start anything", r.memory)
	case r.keep && r.machines > 1:
		return errors.New("--keep is for one machine: several cannot write to one medium")
	case r.keep && r.disk.CDROM:
		return errors.New("--keep: a CD cannot be written to")
	case r.vars != "" && r.machines > 1:
		return errors.New("--vars is for one machine: each has its own")
	case r.inTurn && (r.until == "" || r.machines == 1):
		return errors.New("--in-turn needs --until and several --machines")
	case r.format == "json" && r.until == "":
		return errors.New("--format json needs --until: what else would be the result?")
	case r.name != "" && !machineName.MatchString(r.name):
		return fmt.Errorf("--name %s: choose letters, digits, dots and dashes, at most 40", r.name)
	case r.lan != "" && !machineName.MatchString(r.lan):
		return fmt.Errorf("--lan %s: choose letters, digits, dots and dashes, at most 40", r.lan)
	case len(r.forwards) > 0 && !r.reaches(0):
		return errors.New("--forward needs a machine that reaches the Internet: add --net all or --net first")
	case r.timeout <= 0:
		return fmt.Errorf("--timeout %v: choose a time", r.timeout)
	}
	return nil
}

// mediumFormats are QEMU's formats by what people call them, and by the ends of
// names. A medium's content is never asked: a guest could have written it.
func mediumFormats() map[string]string {
	return map[string]string{
		"raw": vm.FormatRaw, "img": vm.FormatRaw, "iso": vm.FormatRaw, "qcow2": vm.FormatQCOW2,
		"vmdk": vm.FormatVMDK, "vhd": vm.FormatVHD, "vhdx": vm.FormatVHDX,
	}
}

// mediumDisk is the disk that a medium makes, in a format or that of its name, on
// a bus or that of its kind.
func mediumDisk(path, format, as string) (vm.Disk, error) {
	info, err := os.Stat(path)
	if err != nil {
		return vm.Disk{}, err
	}
	suffix := strings.ToLower(strings.TrimPrefix(filepath.Ext(path), "."))
	switch {
	case info.IsDir():
		return vm.Disk{}, fmt.Errorf("%s is a folder, not a medium", path)
	case format != "":
	case info.Mode()&os.ModeDevice != 0:
		format = "raw" // a stick
	default:
		format = suffix
	}
	d := vm.Disk{Path: path, Format: mediumFormats()[format], Bus: as}
	if d.Format == "" {
		return d, fmt.Errorf("%s: the format is not in the name; add --image-format raw, qcow2, vmdk, vhd or vhdx", path)
	}
	switch as {
	case "":
		d.Bus, d.CDROM = vm.BusVirtio, suffix == "iso"
		if d.CDROM {
			d.Bus = vm.BusSCSI
		}
	case "cdrom":
		d.Bus, d.CDROM = vm.BusSCSI, true
	case vm.BusUSB, vm.BusNVMe, vm.BusSATA, vm.BusVirtio, vm.BusSCSI:
	default:
		return d, fmt.Errorf("--as %s: choose usb, nvme, sata, virtio, scsi or cdrom", as)
	}
	return d, nil
}

// parseForwards reads PORT and PORT:GUEST.
func parseForwards(texts []string) (forwards []vm.Forward, err error) {
	for _, text := range texts {
		host, guest, both := strings.Cut(text, ":")
		if !both {
			guest = host
		}
		h, errHost := strconv.ParseUint(host, 10, 16)
		g, errGuest := strconv.ParseUint(guest, 10, 16)
		if errHost != nil || errGuest != nil || h == 0 || g == 0 || h+maxMachines > 65535 {
			return nil, fmt.Errorf("--forward %s: name a port of this computer, or two as 8080:80", text)
		}
		loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		forwards = append(forwards, vm.Forward{Host: netip.AddrPortFrom(loopback, uint16(h)), Guest: uint16(g)})
	}
	return forwards, nil
}

// reaches says whether machine n has a card that leads to the Internet.
func (r *vmRun) reaches(n int) bool {
	switch r.net {
	case "all":
		return true
	case "first":
		return n == 0
	case "none":
		return false
	}
	return r.lan == "" && r.machines == 1
}

func (r *vmRun) execute(ctx context.Context) error {
	if err := ensureTools(ctx, doctor.VM, r.arch, false); err != nil {
		return err
	}
	windows, err := r.windows(ctx)
	if err != nil {
		return err
	}
	state, err := stateFolder(r.state)
	if err != nil {
		return err
	}
	names, err := claimMachines(state, r.name, r.machines)
	if err != nil {
		return err
	}
	defer names.release()
	var cfgs []vm.Config
	for n, name := range names.names {
		cfgs = append(cfgs, r.config(n, name, state, windows[n]))
	}
	switch {
	case r.print:
		return printCommands(ctx, cfgs)
	case r.until != "":
		return r.follow(ctx, names.names, cfgs)
	case r.machines == 1 && isTerminal(os.Stdin) && isTerminal(os.Stdout):
		return r.attend(ctx, names.names[0], cfgs[0])
	}
	return r.watch(ctx, names.names, cfgs)
}

// config is that of machine n.
func (r *vmRun) config(n int, name, state, window string) vm.Config {
	folder := filepath.Join(state, name)
	cfg := vm.Config{
		Arch: r.arch, Memory: r.mebibyte, CPUs: r.cpus, Accel: r.accel, ProbeCache: state,
		Disks: []vm.Disk{r.disk}, SecureBoot: r.secureBoot, Vars: r.vars, Window: window, Reboot: true, Report: true,
		Dir: folder, Extra: append(identity(name), r.qemu...),
	}
	if cfg.Vars == "" {
		cfg.Vars = filepath.Join(folder, "variables-"+r.arch+".fd")
		if r.secureBoot {
			cfg.Vars = filepath.Join(folder, "variables-"+r.arch+"-secure.fd")
		}
	}
	if r.reaches(n) {
		card := vm.Net{MAC: cardAddress(name, "internet")}
		for _, f := range r.ports {
			card.Forwards = append(card.Forwards, vm.Forward{Host: netip.AddrPortFrom(f.Host.Addr(), f.Host.Port()+uint16(n)), Guest: f.Guest})
		}
		cfg.Nets = append(cfg.Nets, card)
	}
	if lan := r.lanName(); lan != "" {
		cfg.Nets = append(cfg.Nets, vm.Net{Kind: vm.NetSegment, Segment: segment(lan), MAC: cardAddress(name, "lan")})
	}
	return cfg
}

// lanName is the LAN that the machines are on: one of their own if they are several
// and none is named.
func (r *vmRun) lanName() string {
	if r.lan == "" && r.machines > 1 {
		return "of process " + strconv.Itoa(os.Getpid())
	}
	return r.lan
}

// printCommands writes command lines for a shell.
func printCommands(ctx context.Context, cfgs []vm.Config) error {
	for _, cfg := range cfgs {
		command, err := vm.CommandLine(ctx, cfg)
		if err != nil {
			return hintedVM(err)
		}
		var quoted strings.Builder
		for i, word := range command {
			switch {
			case i == 0:
			case strings.HasPrefix(word, "-"):
				quoted.WriteString(" \\\n  ")
			default:
				quoted.WriteString(" ")
			}
			quoted.WriteString(shellQuote(word))
		}
		if _, err := fmt.Println(quoted.String()); err != nil {
			return err
		}
	}
	return nil
}

// shellQuote writes a word so that a POSIX shell reads it as it is.
func shellQuote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_=+.,:/@%", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
