package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/system"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/logproof"
	"github.com/phasebased/phase/media"
)

func newImage() *cobra.Command {
	cmd := group("image", "Build boot media")
	cmd.AddCommand(newImageWrite(), newImageDevices())
	cmd.AddCommand(newImageBuild(), newImageConvert(), newImageVerify(), newSecureBoot())
	return cmd
}

func newImageBuild() *cobra.Command {
	var w workshop
	var out, mode, logPolicy, chainName string
	var config mediumConfig
	var sign signing
	var also conversion
	var menu int
	cmd := &cobra.Command{
		Use: "build", Short: "Write a USB image that trusts the keys of the work folder", Args: noArgs,
		Long: `Writes a raw image with an EFI system partition, the seed partition and an
empty cache partition, as plain files: no root, no mounts. The image trusts the
root keys in the work folder, which are made the first time; the same inputs
give the same bytes.`,
		Example: "  phase image build --out phase.img\n  phase image build --policy policy.toml --out lab.img\n  phase image build --wifi --firmware firmware-iwlwifi --out laptop.img",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if w.logPolicy, err = readLogPolicy(logPolicy); err != nil {
				return err
			}
			policy, bootstrap, err := config.read(w.arch)
			if err != nil {
				return err
			}
			chain, err := chainOf(chainName, w.arch)
			if err != nil {
				return err
			}
			signed, err := sign.open(cmd, chain)
			if err != nil {
				return ownError(err)
			}
			if err := also.checkBuild(); err != nil {
				return err
			}
			w.mediumOnly = true
			l, err := w.prepare(cmd.Context())
			if err != nil {
				return err
			}
			report, err := l.Image(cmd.Context(), lab.ImageOptions{
				Out: out, Mode: mode, Menu: menu, Chain: chain, Signing: signed, PolicyFile: policy, BootstrapFile: bootstrap,
			})
			if err != nil {
				return err
			}
			showSizes(report)
			return also.built(cmd, report.Path)
		},
	}
	w.flags(cmd)
	archFlag(cmd, &w.arch)
	w.wifiFlags(cmd)
	cmd.Flags().StringVar(&out, "out", filepath.Join("build", "phase.img"), "image to write")
	cmd.Flags().StringVar(&mode, "default", "internet", fmt.Sprintf("menu entry that boots by itself: one of %v", media.Modes()))
	chainFlag(cmd, &chainName)
	sign.flags(cmd)
	also.buildFlag(cmd)
	cmd.Flags().Int64Var(&w.minVersion, "min-version", 0, "lowest release that machines accept from this medium, even when they remember none")
	config.flags(cmd)
	cmd.Flags().StringVar(&logPolicy, "log-policy", "", "file with a C2SP tlog-policy: machines boot only releases that stand in its log")
	cmd.Flags().BoolVar(&w.tor, "tor", false, "carry Debian's Tor, so that private mode can ask everything through it (phase.tor=on, or [tor] in policy.toml)")
	cmd.Flags().BoolVar(&w.shell, "shell", false, "carry Debian's busybox: the console's menu then offers a shell to whoever sits there")
	cmd.Flags().IntVar(&menu, "menu", 10, "seconds that the menu is shown")
	return cmd
}

// chainFlag adds --chain.
func chainFlag(cmd *cobra.Command, chain *string) {
	cmd.Flags().StringVar(chain, "chain", string(system.ChainSystemdBoot), "how the firmware starts the medium: stock (shim and Debian's signed GRUB, with Secure Boot on or off), systemd-boot or uki")
	choices := cobra.FixedCompletions([]string{string(system.ChainStock), string(system.ChainSystemdBoot), string(system.ChainUKI)}, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("chain", choices) // fails for a flag that does not exist
}

// chainOf reads what --chain was given, for an architecture.
func chainOf(name, archName string) (system.Chain, error) {
	arch, err := parseArch(archName)
	if err != nil {
		return "", err
	}
	chain, err := system.ParseChain(name, arch)
	if err != nil {
		return "", usageError{fmt.Errorf("--chain: %w", err)}
	}
	return chain, nil
}

// showSizes says what takes the room, on the medium and in its boot partition.
func showSizes(report system.ImageReport) {
	show := func(name string, size int64) { fmt.Fprintf(os.Stderr, "%-28s %10s\n", name, term.Bytes(size)) }
	for _, f := range report.Files {
		if strings.HasPrefix(f.Path, "/phase/") {
			show(f.Path[1:], f.Size)
		}
	}
	for _, p := range report.Partitions {
		show(p.Label, p.Size)
	}
}

// readLogPolicy reads a policy and refuses one that the machines could not.
func readLogPolicy(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	policy, err := durable.ReadSmall(path, logproof.MaxPolicySize, durable.FollowLinks)
	if err != nil {
		return nil, fmt.Errorf("--log-policy: %w", err)
	}
	if _, err := logproof.ParsePolicy(policy); err != nil {
		return nil, fmt.Errorf("--log-policy %s: %w", path, err)
	}
	return policy, nil
}
