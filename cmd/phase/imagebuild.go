package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/bom"
	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/system"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/version"
	"github.com/phasebased/phase/media"
)

// imageBuild is what image build was asked for.
type imageBuild struct {
	workshop
	out, mode, logPolicyFile, chain string
	rootFile                        string
	config                          mediumConfig
	sign                            signing
	also                            conversion // to further formats
	menu                            int
	json                            bool
}

const imageBuildHelp = `Writes a raw image with an EFI system partition, the seed partition and an
empty cache partition, as plain files: no root, no mounts. The image trusts the
root keys in the work folder, which are made the first time, or the root.json that
--root names. The same inputs give the same bytes: docs/downloads.md tells how an
image of somebody else is made again.

One image boots machines of both architectures, x86_64 and arm64, if the programs
for both are built; --arch makes one for a single architecture, which is smaller.
Of the two flavours, generic has drivers for real machines (Ethernet, USB Ethernet,
disks, keyboards), and for virtual ones; cloud is for virtual machines and smaller.
Some devices need firmware besides their driver: see --firmware.

Kernel, boot loader and certificates come from Debian's packages through apt. On
any other system, name them with --kernel, --modules, --loader and
--ca-certificates, or put them into one folder and name that with --parts.

The bill of materials is written beside the image. Sizes go to standard error, the
image's path (or with --json a report) to standard output.`

const imageBuildExample = `  phase image build
  phase image build --arch arm64 --flavour cloud --out arm64.img
  phase image build --firmware firmware-realtek --firmware firmware-bnx2
  phase image build --wifi --firmware firmware-iwlwifi --out laptop.img
  phase image build --policy policy.toml --out lab.img
  phase image build --arch x86_64 --kernel /lib/modules/6.12.9/vmlinuz --modules /lib/modules/6.12.9 \
      --loader /usr/lib/systemd/boot/efi/systemd-bootx64.efi --ca-certificates /etc/ssl/certs/ca-certificates.crt`

func newImageBuild() *cobra.Command {
	var b imageBuild
	cmd := &cobra.Command{
		Use: "build", Short: "Write a USB image that trusts the keys of the work folder, or --root", Args: noArgs,
		Long: imageBuildHelp, Example: imageBuildExample,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd) },
	}
	b.workshop.flags(cmd)
	archsFlag(cmd, &b.arch)
	b.machineFlags(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&b.out, "out", "o", "", "image to write (default build/phase-<architecture>-<flavour>.img)")
	flags.StringVar(&b.mode, "default", defaultMode, fmt.Sprintf("menu entry that boots by itself: one of %v", media.Modes()))
	chainFlag(cmd, &b.chain)
	b.sign.flags(cmd)
	b.also.buildFlag(cmd)
	flags.Int64Var(&b.minVersion, "min-version", 0, "lowest release that machines accept from this medium, even when they remember none")
	b.config.flags(cmd)
	flags.StringVar(&b.rootFile, "root", "", "root.json `FILE` that machines are to trust, of a publisher whose keys are elsewhere (default that of the keys in the work folder)")
	flags.StringVar(&b.logPolicyFile, "log-policy", "", "file with a C2SP tlog-policy: machines boot only releases that stand in its log")
	flags.BoolVar(&b.tor, "tor", false, "carry Debian's Tor, so that private mode can ask everything through it (phase.tor=on, or [tor] in policy.toml)")
	flags.BoolVar(&b.shell, "shell", false, "carry Debian's busybox: the console's menu then offers a shell to whoever sits there")
	flags.IntVar(&b.menu, "menu", defaultMenu, "seconds that the menu is shown")
	flags.BoolVar(&b.json, "json", false, "print a report for machines instead of the path, and write no further formats")
	return cmd
}

func (b *imageBuild) run(cmd *cobra.Command) (err error) {
	archs, err := b.archs()
	if err != nil {
		return err
	}
	if b.root, err = readRoot(b.rootFile); err != nil {
		return err
	}
	if b.logPolicy, err = readLogPolicy(b.logPolicyFile); err != nil {
		return err
	}
	o := lab.ImageOptions{Mode: b.mode, Menu: b.menu, Out: b.out}
	if o.Out == "" {
		o.Out = filepath.Join("build", imageName(archs, b.flavour))
	}
	if o.PolicyFile, o.BootstrapFile, err = b.config.read(archs[0]); err != nil {
		return err
	}
	if o.Chain, err = chainOf(b.chain, archs); err != nil {
		return err
	}
	if o.Signing, err = b.sign.open(cmd, o.Chain); err != nil {
		return ownError(err)
	}
	if err := b.also.checkBuild(); err != nil {
		return err
	}
	b.mediumOnly = true
	labs, err := b.prepareAll(cmd.Context(), archs)
	if err != nil {
		return err
	}
	report, bill, err := writeMedium(cmd.Context(), labs, o)
	if err != nil {
		return err
	}
	if b.json {
		return b.report(cmd.OutOrStdout(), labs, report, bill)
	}
	showSizes(cmd.ErrOrStderr(), labs, report)
	return b.also.built(cmd, report.Path)
}

// What media do by themselves unless they are told otherwise.
const (
	defaultMode = "internet"
	defaultMenu = 10 // seconds
)

// imageName names an image for the machines that it is for.
func imageName(archs []string, flavour string) string {
	name := archs[0]
	if len(archs) > 1 {
		name = allArchitectures
	}
	return fmt.Sprintf("phase-%s-%s.img", name, flavour)
}

// chainOf reads what --chain was given: the chain of the first architecture that
// knows it. The others start with systemd-boot.
func chainOf(name string, archs []string) (chain system.Chain, err error) {
	for _, arch := range archs {
		if chain, err = system.ParseChain(name, arch); err == nil {
			return chain, nil
		}
	}
	return "", usageError{fmt.Errorf("--chain: %w", err)}
}

// writeMedium writes one image for the machines of all labs, and its bill of
// materials beside it.
func writeMedium(ctx context.Context, labs []*lab.Lab, o lab.ImageOptions) (report system.ImageReport, bill string, err error) {
	o.With = labs[1:]
	if report, err = labs[0].Image(ctx, o); err != nil {
		return report, "", err
	}
	subject := mediumSubject(labs, report)
	subject.Name = filepath.Base(report.Path)
	made, err := bom.Of(subject)
	if err != nil {
		return report, "", err
	}
	bill = bom.Path(report.Path)
	return report, bill, bom.Write(bill, made)
}

// mediumSubject is what a bill of materials says of an image, in whatever format.
func mediumSubject(labs []*lab.Lab, report system.ImageReport) bom.Subject {
	subject := bom.Subject{Version: version.Version, Time: labs[0].Time(), Materials: report.Materials}
	for _, l := range labs {
		subject.Programs = append(subject.Programs, l.SeedPrograms()...)
	}
	for _, f := range report.Files {
		subject.Files = append(subject.Files, bom.File{Name: f.Path, SHA256: f.SHA256, Size: f.Size})
	}
	return subject
}

// showSizes says what takes the room: on the boot partition, with the limits of what
// has one, and on the medium.
func showSizes(out io.Writer, labs []*lab.Lab, report system.ImageReport) {
	show := func(name string, size int64, note string) {
		fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("  %-34s %10s  %s", name, term.Bytes(size), note), " "))
	}
	fmt.Fprintln(out, "On the boot partition:")
	for _, f := range report.Files {
		if f.Size >= 64<<10 {
			show(f.Path, f.Size, limitNote(labs, f))
		}
	}
	fmt.Fprintln(out, "On the medium:")
	for _, p := range report.Partitions {
		used := report.Used(p)
		note := "all of it used"
		switch {
		case used == 0:
			note = "empty"
		case used < p.Size:
			note = term.Bytes(used) + " used"
		}
		show(p.Label, p.Size, note)
	}
	show("in all", report.Size, term.Bytes(report.Payload())+" used; the rest of the file are holes")
}

// limitNote compares a seed with its limit.
func limitNote(labs []*lab.Lab, f system.FileReport) string {
	for _, l := range labs {
		if _, seeds := system.ESPPaths(l.Arch(), 1); seeds[0] == f.Path {
			limit := l.SeedLimit()
			return fmt.Sprintf("%d %% of the limit for %s, %s", (f.Size*100+limit-1)/limit, l.Flavour(), term.Bytes(limit))
		}
	}
	return ""
}

// imageReport is what --json prints.
type imageReport struct {
	Image         string              `json:"image"`
	Bill          string              `json:"bill_of_materials"`
	Version       string              `json:"version"`
	Flavour       string              `json:"flavour"`
	Architectures []string            `json:"architectures"`
	Size          int64               `json:"size"`    // bytes of the file
	Payload       int64               `json:"payload"` // bytes that are used
	SeedLimits    map[string]int64    `json:"seed_limits"`
	Partitions    []partitionReport   `json:"partitions"`
	Files         []system.FileReport `json:"files"` // on the boot partition
	Materials     []system.Material   `json:"materials"`
}

type partitionReport struct {
	Label  string `json:"label"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
	Used   int64  `json:"used"`
}

func (b *imageBuild) report(out io.Writer, labs []*lab.Lab, r system.ImageReport, bill string) error {
	doc := imageReport{
		Image: r.Path, Bill: bill, Version: version.Version, Flavour: string(labs[0].Flavour()), Size: r.Size, Payload: r.Payload(),
		SeedLimits: map[string]int64{}, Files: r.Files, Materials: r.Materials,
	}
	for _, l := range labs {
		doc.Architectures = append(doc.Architectures, l.Arch())
		doc.SeedLimits[l.Arch()] = l.SeedLimit()
	}
	for _, p := range r.Partitions {
		doc.Partitions = append(doc.Partitions, partitionReport{p.Label, p.Offset, p.Size, r.Used(p)})
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(doc)
}
