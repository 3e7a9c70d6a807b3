package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/system"
	"github.com/phasebased/phase/logproof"
	"github.com/phasebased/phase/manifest"
)

func newImage() *cobra.Command {
	cmd := group("image", "Build boot media")
	cmd.AddCommand(newImageWrite(), newImageDevices())
	cmd.AddCommand(newImageBuild(), newImageConvert(), newImageVerify(), newSecureBoot())
	return cmd
}

// chainFlag adds --chain.
func chainFlag(cmd *cobra.Command, chain *string) {
	cmd.Flags().StringVar(chain, "chain", "", "how the firmware starts the medium: stock (shim and Debian's signed GRUB, with Secure Boot on or off; x86_64 only), systemd-boot or uki (default stock where it exists)")
	choices := cobra.FixedCompletions([]string{string(system.ChainStock), string(system.ChainSystemdBoot), string(system.ChainUKI)}, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("chain", choices) // fails for a flag that does not exist
}

// readRoot reads the root that media are to trust, and refuses one that machines
// could not use; "" is that of the work folder's keys.
func readRoot(path string) ([]byte, error) {
	return readGiven("--root", path, manifest.MaxRootBytes, manifest.ParseRoot)
}

// readLogPolicy reads a policy and refuses one that the machines could not.
func readLogPolicy(path string) ([]byte, error) {
	return readGiven("--log-policy", path, logproof.MaxPolicySize, logproof.ParsePolicy)
}

// readGiven reads a flag's file if there is one, and refuses what parse does.
func readGiven[T any](flag, path string, limit int, parse func([]byte) (T, error)) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	data, err := durable.ReadSmall(path, limit, durable.FollowLinks)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	if _, err := parse(data); err != nil {
		return nil, fmt.Errorf("%s %s: %w", flag, path, err)
	}
	return data, nil
}
