package main

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/cmd/internal/ceremony"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/secureboot"
	"github.com/phasebased/phase/internal/system"
	"github.com/phasebased/phase/internal/term"
)

func newSecureBoot() *cobra.Command { return secureBootCommand(ceremony.Config{}) }

func secureBootCommand(cfg ceremony.Config) *cobra.Command {
	cmd := group("secureboot", "Keys and signatures for machines with Secure Boot")
	cmd.AddCommand(ceremony.SecureBoot(cfg)...)
	cmd.AddCommand(newSecureStatus())
	ownErrors(cmd)
	return cmd
}

// efivars is where Linux mounts the firmware's variables.
const efivars = "/sys/firmware/efi/efivars"

// secureStatus is what status prints as JSON.
type secureStatus struct {
	Machine *machineStatus     `json:"machine,omitempty"`
	Medium  *secureboot.Medium `json:"medium,omitempty"`
	Starts  string             `json:"starts,omitempty"` // "yes", or why the machine does not start the medium
}

type machineStatus struct {
	Enabled   bool     `json:"secure_boot"`
	SetupMode bool     `json:"setup_mode"`
	DB        []string `json:"db"`
	MOK       []string `json:"mok"`
}

func newSecureStatus() *cobra.Command {
	var format, variables string
	cmd := &cobra.Command{
		Use: "status [IMAGE|PROGRAM]", Short: "Say who has signed a medium, and what this machine would start",
		Args: cobra.MaximumNArgs(1),
		Long: `Without an argument: whether this machine checks signatures, and whom it trusts.
With an image or an EFI program: who has signed what is on it, which tier of Secure
Boot it reaches (see docs/secure-boot.md), and whether this machine would start it.
Exit status 1: it would not.`,
		Example: "  phase image secureboot status\n  phase image secureboot status phase.img",
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "text" && format != "json" {
				return usageError{fmt.Errorf("--format %s: choose text or json", format)}
			}
			var s secureStatus
			machine, machineErr := secureboot.ReadMachine(os.DirFS(variables))
			switch {
			case machineErr == nil:
				s.Machine = &machineStatus{machine.Enabled, machine.SetupMode, names(machine.DB), names(machine.MOK)}
			case len(args) == 0 || !errors.Is(machineErr, secureboot.ErrNoFirmware):
				return machineErr
			}
			var refused error
			if len(args) == 1 {
				medium, err := inspect(args[0])
				if err != nil {
					return err
				}
				s.Medium = &medium
				if s.Machine != nil && medium.Why != "" {
					s.Starts = "yes"
					if refused = machine.Starts(medium); refused != nil {
						s.Starts = refused.Error()
					}
				}
			}
			if err := s.show(cmd.OutOrStdout(), format); err != nil {
				return err
			}
			if refused != nil {
				return silentError{refused}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "text", "text or json")
	cmd.Flags().StringVar(&variables, "efivars", efivars, "folder of the firmware's variables")
	return cmd
}

// inspect looks at an image or at a single program, whose tier is 0.
func inspect(path string) (secureboot.Medium, error) {
	f, err := os.Open(path)
	if err != nil {
		return secureboot.Medium{}, err
	}
	defer f.Close()
	var magic [2]byte
	if _, err := f.ReadAt(magic[:], 0); err == nil && string(magic[:]) == "MZ" {
		data, err := durable.ReadSmall(path, 1<<30, durable.FollowLinks)
		if err != nil {
			return secureboot.Medium{}, err
		}
		return secureboot.Medium{Programs: []secureboot.Program{secureboot.InspectProgram(filepath.Base(path), data)}}, nil
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return secureboot.Medium{}, err
	}
	files, err := image.ReadESP(f, size, secureboot.WantsFile)
	if err != nil {
		return secureboot.Medium{}, fmt.Errorf("%s: %w", path, err)
	}
	return secureboot.Inspect(files), nil
}

func (s secureStatus) show(out io.Writer, format string) error {
	if format == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	line := func(name, text string) { fmt.Fprintf(out, "%-12s %s\n", name, term.Clean(text)) }
	if m := s.Machine; m != nil {
		state := "off: this machine starts anything"
		switch {
		case m.Enabled:
			state = "on"
		case m.SetupMode:
			state = "setup mode: whoever asks may enrol keys"
		}
		line("Secure Boot", state)
		line("starts", orNone(m.DB))
		line("shim adds", orNone(m.MOK))
	}
	if s.Medium == nil {
		return nil
	}
	for _, p := range s.Medium.Programs {
		fmt.Fprintln(out)
		line("program", p.Path)
		if p.Problem != "" {
			line("problem", p.Problem)
		}
		if len(p.Signers) == 0 && p.Problem == "" {
			line("signed by", "nobody")
		}
		for _, row := range p.Signers {
			text := row.Name
			if row.Issuer != row.Name && row.Issuer != "" {
				text += " (" + row.Issuer + ")"
			}
			if row.Problem != "" {
				text += ": " + row.Problem
			}
			line("signed by", text)
		}
	}
	if s.Medium.Why != "" {
		fmt.Fprintln(out)
		line("tier", fmt.Sprintf("%d: %s", s.Medium.Tier, s.Medium.Why))
	}
	if s.Starts != "" {
		line("starts here", s.Starts)
	}
	return nil
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "nothing known"
	}
	return strings.Join(list, ", ")
}

// signing is the key that --secure-boot-key names, for media of unified kernel
// images; zero without one.
type signing struct{ key, passphrase string }

func (s *signing) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.key, "secure-boot-key", "", "with --chain uki: key `file` that signs the image: MOK.key for PCs as they are sold, db.key for machines of your own")
	cmd.Flags().StringVar(&s.passphrase, "passphrase-file", "", "with --secure-boot-key: `file` with its passphrase, - for standard input (default: ask on the terminal)")
}

// open reads the key, and the .auth files beside a db.key.
func (s *signing) open(cmd *cobra.Command, chain system.Chain) (system.Signing, error) {
	var out system.Signing
	if s.key == "" {
		return out, nil
	}
	if chain != system.ChainUKI {
		return out, usageError{errors.New("--secure-boot-key is for --chain uki: nothing of the other chains is signed by you")}
	}
	var err error
	if filepath.Base(s.key) == secureboot.RoleDB+".key" {
		out.Owner = map[string][]byte{}
		for _, role := range secureboot.OwnerRoles() {
			name := role + ".auth"
			if out.Owner[name], err = durable.ReadSmall(filepath.Join(filepath.Dir(s.key), name), 1<<20, durable.FollowLinks); err != nil {
				return out, err
			}
		}
	}
	out.Key, err = ceremony.SecureKey(cmd, ceremony.Config{}, s.passphrase, s.key)
	return out, err
}

func names(certs []*x509.Certificate) []string {
	list := []string{}
	for _, c := range certs {
		list = append(list, c.Subject.CommonName)
	}
	return list
}
