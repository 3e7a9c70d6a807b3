// Package ceremony holds the commands with which people make and use signing
// keys: keygen, public, root, manifest, pointer, merge, media, check-expiry and publish, all
// below `phase release`.
//
// Nothing here needs a network, and no package below this one opens
// connections: a test asserts it, and the rehearsals run where the kernel kills
// a process that asks for a socket. Documents are files that people carry to
// each other; a draft is the ordinary file with too few signatures.
//
// What a file says is shown to the person before anything is signed, with the
// digest of the very bytes that the signature will cover, and is called
// UNVERIFIED until it was checked against a root that the person named. Private
// keys are opened last, after the person agreed, and never shown.
//
// Results go to standard output; what is asked, shown for a decision, or warned
// of goes to standard error.
package ceremony

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/cmd/internal/typo"
	"github.com/phasebased/phase/internal/keyfile"
)

// Config is what the commands take from their program. The zero Config is the
// one to use.
type Config struct {
	Now  func() time.Time // nil: time.Now
	Keys keyfile.Files    // how private keys are written
}

// UsageError is a mistake in how a command was called.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the mistake.
func (e UsageError) Unwrap() error { return e.Err }

// ErrReported ends a command whose result, already written, is a bad one.
var ErrReported = errors.New("already reported")

// advice is an error with what to do next.
type advice struct {
	error
	hint string
}

func (e advice) Unwrap() error { return e.error }

// Hint says in one sentence what to do next.
func (e advice) Hint() string { return e.hint }

func refuse(hint, format string, args ...any) error {
	return advice{fmt.Errorf(format, args...), hint}
}

func usage(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// Commands returns the commands.
func Commands(cfg Config) []*cobra.Command {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return []*cobra.Command{
		newKeygen(cfg), newPublic(cfg), newRoot(cfg), newManifest(cfg), newPointer(cfg),
		newMerge(), newMedia(cfg), newPublish(cfg), newCheckExpiry(cfg), newLog(cfg),
	}
}

// today is the time that a document made now carries: whole seconds.
func (c Config) today() time.Time { return c.Now().UTC().Truncate(time.Second) }

// group is a command that only holds others.
func group(use, short string, below ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := typo.Command(cmd, args); err != nil {
				return usage("%w (see %s --help)", err, cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(below...)
	return cmd
}

// arguments wants between least and most arguments; most 0 means any number.
func arguments(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usage("%s is missing (see %s --help)", what, cmd.CommandPath())
		case most > 0 && len(args) > most, most == 0 && least == 0 && len(args) > 0:
			return usage("unexpected argument %q (see %s --help)", args[len(args)-1], cmd.CommandPath())
		}
		return nil
	}
}

// needFlag is a usage error for a flag that was left out.
func needFlag(cmd *cobra.Command, flag, what string) error {
	return usage("%s is missing: use %s (see %s --help)", what, flag, cmd.CommandPath())
}
