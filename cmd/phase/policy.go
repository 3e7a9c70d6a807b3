package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/manifest"
	"github.com/phasebased/phase/media"
)

const policyHelp = `Says how a machine would boot, by the same code that decides it there: from the
medium's policy.toml and bootstrap-nodes.toml, and the kernel's command line.

Passphrases, passwords and lines for Tor are not shown. Warnings are what the
machine would warn of.

Exit status: 0 a machine would boot by it, 1 it would refuse it, 2 wrong usage.`

func newPolicy() *cobra.Command {
	cmd := group("policy", "Show and check how media tell machines to boot")
	cmd.Long = policyHelp
	cmd.AddCommand(newPolicyShow(), newPolicyCheck())
	return cmd
}

// policyInputs are what decides a boot; an empty path takes the shipped file.
type policyInputs struct{ policy, bootstrap, cmdline, arch string }

func (p *policyInputs) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&p.bootstrap, "bootstrap", "", "bootstrap-nodes.toml to go by (default: the shipped one)")
	flags.StringVar(&p.cmdline, "cmdline", "", "kernel command line to go by, such as \"phase.mode=private\"")
	archFlag(cmd, &p.arch)
}

// read returns both files and the architecture's canonical name.
func (p *policyInputs) read() (policy, bootstrap []byte, arch string, err error) {
	if arch, err = manifest.ParseArch(p.arch); err != nil {
		return nil, nil, "", usageError{err}
	}
	policy, bootstrap = media.Policy(), media.BootstrapNodes()
	if p.policy != "" {
		if policy, err = durable.ReadSmall(p.policy, bootcfg.MaxFile, durable.FollowLinks); err != nil {
			return nil, nil, "", err
		}
	}
	if p.bootstrap != "" {
		if bootstrap, err = readConfig("--bootstrap", p.bootstrap); err != nil {
			return nil, nil, "", err
		}
	}
	return policy, bootstrap, arch, nil
}

func newPolicyShow() *cobra.Command {
	var in policyInputs
	var format string
	cmd := &cobra.Command{
		Use: "show", Short: "Print every key, what is in force, and who decided it", Args: noArgs, Long: policyHelp,
		Example: "  phase policy show\n  phase policy show --file policy.toml --cmdline \"phase.mode=private\"\n  phase policy show --format toml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			show, err := policyFormat(format)
			if err != nil {
				return err
			}
			policy, bootstrap, arch, err := in.read()
			if err != nil {
				return err
			}
			config, decisions, err := bootcfg.Explain(in.cmdline, policy, bootstrap, arch)
			if err != nil {
				return err
			}
			warn(cmd.ErrOrStderr(), "", config.Warnings)
			return show(cmd.OutOrStdout(), shownPolicy{config, decisions})
		},
	}
	cmd.Flags().StringVar(&in.policy, "file", "", "policy.toml to go by (default: the shipped one)")
	cmd.Flags().StringVarP(&format, "format", "f", "text", "text, toml or json")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"text", "toml", "json"}, cobra.ShellCompDirectiveNoFileComp))
	in.flags(cmd)
	return cmd
}

func policyFormat(name string) (func(io.Writer, shownPolicy) error, error) {
	switch name {
	case "text":
		return policyText, nil
	case "toml":
		return policyTOML, nil
	case "json":
		return policyJSON, nil
	}
	return nil, usageError{fmt.Errorf("--format %s: choose text, toml or json", name)}
}

func newPolicyCheck() *cobra.Command {
	var in policyInputs
	var format string
	cmd := &cobra.Command{
		Use: "check FILE", Short: "Say whether machines would boot by a policy.toml", Long: policyHelp,
		Example: "  phase policy check policy.toml\n  phase policy check policy.toml --cmdline \"phase.mode=local\" --format json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("one policy.toml is needed (see %s --help)", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			in.policy = args[0]
			switch format {
			case "text":
				return in.check(cmd.OutOrStdout(), cmd.ErrOrStderr())
			case "json":
				return in.checkJSON(cmd.OutOrStdout())
			}
			return usageError{fmt.Errorf("--format %s: choose text or json", format)}
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "text", "text or json")
	in.flags(cmd)
	return cmd
}

// A verdict says what machines make of a policy.
type verdict struct {
	Boots    bool            `json:"boots"`
	Mode     string          `json:"mode,omitempty"` // unless the boot entry names another
	Warnings []policyWarning `json:"warnings"`
	Code     string          `json:"code,omitempty"` // why not
	Error    string          `json:"error,omitempty"`
	Hint     string          `json:"hint,omitempty"`
}

// A policyWarning is what a machine would warn of.
type policyWarning struct {
	Mode string `json:"mode,omitempty"` // only when started in that mode
	Text string `json:"text"`
}

// judge goes through the menu: each entry names its mode before what else is on
// the command line.
func (p *policyInputs) judge() (verdict, error) {
	v := verdict{Warnings: []policyWarning{}}
	policy, bootstrap, arch, err := p.read()
	if err != nil {
		return v, err
	}
	config, err := bootcfg.Parse(p.cmdline, policy, bootstrap, arch)
	if err != nil {
		return v, err
	}
	for _, w := range config.Warnings {
		v.Warnings = append(v.Warnings, policyWarning{Text: w})
	}
	for _, mode := range media.Modes() {
		entry, err := bootcfg.Parse("phase.mode="+mode+" "+p.cmdline, policy, bootstrap, arch)
		if err != nil {
			return v, err
		}
		for _, w := range entry.Warnings {
			if entry.Mode != config.Mode && !slices.Contains(config.Warnings, w) {
				v.Warnings = append(v.Warnings, policyWarning{entry.Mode.String(), w})
			}
		}
	}
	v.Boots, v.Mode = true, config.Mode.String()
	return v, nil
}

func (p *policyInputs) check(out, errs io.Writer) error {
	v, err := p.judge()
	if err != nil {
		return err
	}
	for _, w := range v.Warnings {
		when := ""
		if w.Mode != "" {
			when = "in " + w.Mode + " mode: "
		}
		warn(errs, when, []string{w.Text})
	}
	_, err = fmt.Fprintf(out, "%s: a machine would boot by it in %s mode, unless its boot entry names another\n",
		term.Clean(p.policy), v.Mode)
	return err
}

// checkJSON is for programs. What a machine would refuse is a verdict, too.
func (p *policyInputs) checkJSON(out io.Writer) error {
	v, err := p.judge()
	var refused *bootcfg.Error
	if errors.As(err, &refused) {
		v.Code, v.Error, v.Hint = refused.Code(), refused.Error(), refused.Hint()
		err = silentError{err}
	} else if err != nil {
		return err
	}
	return errors.Join(err, writeJSON(out, v))
}

func warn(out io.Writer, when string, warnings []string) {
	for _, w := range warnings {
		fmt.Fprintf(out, "WARNING: %s%s\n", when, term.Clean(w))
	}
}
