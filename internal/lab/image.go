package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/system"
	"github.com/phasebased/phase/internal/vm"
	"github.com/phasebased/phase/media"
)

// machineOptions are the kernel options of every medium of the lab: the
// machine's screen, then its serial port, and none of the kernel's own chatter.
var machineOptions = map[string]string{
	vm.X8664: "console=tty0 console=ttyS0,115200 quiet loglevel=3",
	vm.ARM64: "console=tty0 console=ttyAMA0,115200 quiet loglevel=3",
}

// TimerUnchecked is for virtual machines: an emulated timer of a PC may be late on a
// busy host, and the kernel's check of it would panic ("IO-APIC + timer doesn't
// work"). Real machines need the check, which finds a way around a wrong table.
const TimerUnchecked = "no_timer_check"

// options are the kernel options of the lab's machines, and further ones.
func (l *Lab) options(more string) string {
	options := machineOptions[l.cfg.Arch]
	if l.cfg.Arch == vm.X8664 && l.Flavour() == system.FlavourCloud {
		options += " " + TimerUnchecked
	}
	return strings.TrimSpace(options + " " + more)
}

// ImageOptions say how a medium differs from the shipped default.
type ImageOptions struct {
	Out     string         // the raw image to write
	With    []*Lab         // labs of the same publisher for further architectures, whose machines the image boots as well
	Mode    string         // the menu's default: internet, local or private
	Menu    int            // seconds the menu is shown; 0 boots at once
	Chain   system.Chain   // how the seed is started, where the architecture knows that chain; "" and elsewhere: systemd-boot
	Signing system.Signing // of the chain "uki": who vouches for the images; zero: nobody
	Nodes   []Node         // bootstrap nodes of the DHT
	Options string         // further kernel options of every entry
	Policy  string         // lines after those of policy.toml
	// PolicyFile and BootstrapFile take the place of the shipped policy.toml and
	// bootstrap-nodes.toml; nil: those. Whoever reads them has checked them.
	PolicyFile, BootstrapFile []byte
	Cache                     int64 // bytes of the cache partition; 0: the default, -1: none

	pins string // kernel options that tie the entries to this medium
}

// Node is a bootstrap node: its peer id, and its address without it.
type Node struct{ PeerID, Address string }

// more are the kernel options of this medium. Those that were asked for come last, and
// so win.
func (o ImageOptions) more() string { return strings.TrimSpace(o.pins + " " + o.Options) }

// Image writes a USB image.
func (l *Lab) Image(ctx context.Context, o ImageOptions) (system.ImageReport, error) {
	policy, bootstrap := o.PolicyFile, o.BootstrapFile
	if policy == nil {
		policy = media.Policy()
	}
	if bootstrap == nil {
		bootstrap = media.BootstrapNodes()
	}
	policy, bootstrap = append(slices.Clip(policy), o.Policy...), withNodes(bootstrap, o.Nodes)
	name, err := l.mediumName(o, policy, bootstrap)
	if err != nil {
		return system.ImageReport{}, err
	}
	o.pins = fmt.Sprintf("phase.medium=%s phase.policy=%s", system.SeedID(name), blob.Of(policy))
	builds, cfg, err := l.boots(ctx, o)
	if err != nil {
		return system.ImageReport{}, err
	}
	cfg.Out, cfg.Name, cfg.Root, cfg.Cache, cfg.With = o.Out, name, l.Root, o.Cache, builds[1:]
	cfg.Policy, cfg.Bootstrap = policy, bootstrap
	return builds[0].USBImage(ctx, cfg)
}

// mediumName is a digest of what makes this medium another than others: equal inputs
// have equal identifiers, and media of two publishers, versions or policies do not.
func (l *Lab) mediumName(o ImageOptions, policy, bootstrap []byte) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %q %q %d\n", l.Root, policy, bootstrap, o.Mode, o.Chain, o.Options, o.Menu)
	for _, lab := range append([]*Lab{l}, o.With...) {
		seed, err := os.ReadFile(lab.Seed)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%q %q %q %x\n", lab.cfg.Arch, lab.cfg.Version, lab.build.Inputs.Kernel.Release, sha256.Sum256(seed))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// boots is what each architecture starts, and the menus for all of them.
func (l *Lab) boots(ctx context.Context, o ImageOptions) (builds []*system.Build, cfg system.USBConfig, err error) {
	for _, lab := range append([]*Lab{l}, o.With...) {
		if !bytes.Equal(lab.Root, l.Root) {
			return nil, cfg, fmt.Errorf("the seeds for %s and %s trust different roots: one medium has one publisher", l.cfg.Arch, lab.cfg.Arch)
		}
		build, err := lab.chained(ctx, o.Chain)
		if err != nil {
			return nil, cfg, err
		}
		if err := lab.addMenu(&cfg, build.Inputs.Chain, o); err != nil {
			return nil, cfg, err
		}
		boot := build.Inputs.Boot(lab.Seed)
		if boot.Chain == system.ChainUKI {
			boot.Signing = o.Signing
			if boot.UKI, err = lab.uki(o); err != nil {
				return nil, cfg, err
			}
		}
		builds, cfg.Boots = append(builds, build), append(cfg.Boots, boot)
	}
	return builds, cfg, nil
}

// addMenu writes the menu of a chain's boot loader for this architecture.
func (l *Lab) addMenu(cfg *system.USBConfig, chain system.Chain, o ImageOptions) error {
	kernel, initrds := system.ESPPaths(l.cfg.Arch, 1)
	options := l.options(o.more())
	if chain == system.ChainStock {
		text, err := media.GrubConf(media.GrubData{Timeout: o.Menu, Default: o.Mode, Linux: kernel, Initrds: initrds, Options: options})
		cfg.Grub = []byte(text)
		return err
	}
	if chain == system.ChainUKI {
		return nil // the seed has it
	}
	conf, err := media.LoaderConf(o.Menu, o.Mode)
	if err != nil {
		return err
	}
	if cfg.Loader == nil {
		cfg.Loader = map[string][]byte{"loader.conf": []byte(conf)}
	}
	arch := ""
	if len(o.With) > 0 {
		arch = l.cfg.Arch
	}
	for _, mode := range media.Modes() {
		entry, err := media.Entry(media.EntryData{Mode: mode, Arch: l.cfg.Arch, Linux: kernel, Initrd: initrds[0], Options: options})
		if err != nil {
			return err
		}
		cfg.Loader["entries/"+media.EntryName(mode, arch)] = []byte(entry)
	}
	return nil
}

// uki describes the unified kernel image.
func (l *Lab) uki(o ImageOptions) (media.UKI, error) {
	return media.UKIOf(media.EntryData{Mode: o.Mode, Arch: l.cfg.Arch, Options: l.options(o.more())}, o.Menu, l.cfg.Version)
}

// chained is the build with the EFI programs of a boot chain.
func (l *Lab) chained(ctx context.Context, chain system.Chain) (*system.Build, error) {
	if !slices.Contains(system.Chains(l.cfg.Arch), chain) {
		chain = system.ChainSystemdBoot
	}
	if chain == l.build.Inputs.Chain {
		return l.build, nil
	}
	from, build := l.from, *l.build
	from.Chain = chain
	var err error
	build.Inputs, err = l.build.Inputs.For(ctx, from)
	return &build, err
}

// DirectImage writes an image whose boot loader starts the node system by
// itself, with what the seed would have handed over: no discovery, no
// verification, no second kernel. It is what the corridor's cost is measured
// against. Its node keeps no identity: nothing tells it of a cache.
func (l *Lab) DirectImage(ctx context.Context, out, base string, p *release.Published, node Node) (system.ImageReport, error) {
	info, err := handover.Info{
		SchemaVersion: handover.SchemaVersion, Mode: "internet", Channel: Channel, Arch: l.cfg.Arch,
		Manifest:  handover.Manifest{Version: p.Version, Digest: p.Manifest},
		Bases:     []string{base},
		Bootstrap: []string{node.Address + "/p2p/" + node.PeerID},
	}.Marshal()
	if err != nil {
		return system.ImageReport{}, err
	}
	kernel, initrds := system.ESPPaths(l.cfg.Arch, 2)
	conf, err := media.LoaderConf(0, media.Modes()[0])
	if err != nil {
		return system.ImageReport{}, err
	}
	entry := fmt.Sprintf("title direct\nlinux %s\ninitrd %s\ninitrd %s\noptions %s\n", kernel, initrds[0], initrds[1], l.cmdline())
	return l.build.DirectImage(ctx, system.DirectConfig{
		Out: out, Node: l.Node, Handover: info,
		Loader: map[string][]byte{"loader.conf": []byte(conf), "entries/" + media.Modes()[0] + ".conf": []byte(entry)},
	})
}

// withNodes is a bootstrap-nodes.toml with further nodes.
func withNodes(file []byte, nodes []Node) []byte {
	text := string(file)
	for _, n := range nodes {
		text += fmt.Sprintf("\n[[bootstrap]]\npeer_id = %q\naddress = %q\n", n.PeerID, n.Address)
	}
	return []byte(text)
}

// RunDir is a folder for one run's files.
func (l *Lab) RunDir(name string) string { return filepath.Join(l.cfg.Work, "runs", name) }
