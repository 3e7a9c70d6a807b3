package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/durable"
)

// mediumConfig are the files with which a medium is told how to boot; an empty
// path takes the shipped one.
type mediumConfig struct{ policy, bootstrap string }

func (m *mediumConfig) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&m.policy, "policy", "", "policy.toml for the medium, instead of the shipped one with all defaults")
	flags.StringVar(&m.bootstrap, "bootstrap-nodes", "", "bootstrap-nodes.toml for the medium: where the search on the DHT begins")
}

// read returns both files, nil for the shipped ones, and refuses what the seed
// would refuse.
func (m *mediumConfig) read(arch string) (policy, bootstrap []byte, err error) {
	canonical, err := parseArch(arch)
	if err != nil {
		return nil, nil, err
	}
	if policy, err = readConfig("--policy", m.policy); err != nil {
		return nil, nil, err
	}
	if bootstrap, err = readConfig("--bootstrap-nodes", m.bootstrap); err != nil {
		return nil, nil, err
	}
	config, err := bootcfg.Parse("", policy, bootstrap, canonical)
	if err != nil {
		return nil, nil, err
	}
	for _, warning := range config.Warnings {
		fmt.Fprintln(os.Stderr, "WARNING:", warning)
	}
	if hasSecret(config.Network) {
		fmt.Fprintln(os.Stderr, "WARNING: policy.toml holds a password; whoever has the image or the medium can read it")
	}
	return policy, bootstrap, nil
}

func readConfig(flag, path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	data, err := durable.ReadSmall(path, bootcfg.MaxFile, durable.FollowLinks)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return append([]byte{}, data...), nil // an empty file is not none
}

// hasSecret reports whether the configuration holds something to keep to oneself.
func hasSecret(n bootcfg.Network) bool {
	return n.Proxy.String() != string(n.Proxy) ||
		slices.ContainsFunc(n.WiFi.Networks, func(w bootcfg.WiFiNetwork) bool { return w.Passphrase != "" })
}
