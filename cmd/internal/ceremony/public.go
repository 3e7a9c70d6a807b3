package ceremony

import (
	"crypto/ed25519"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/keyfile"
)

func newPublic(cfg Config) *cobra.Command {
	var p person
	var format string
	cmd := &cobra.Command{
		Use: "public NAME.key", Short: "Write a lost NAME.pub anew, from the private key", Args: arguments(1, 1, "the private key"),
		Long: `Opens NAME.key with its passphrase and writes NAME.pub, as keygen did. A file that
is there already is left as it is: the same key is fine, anything else is refused.`,
		Example: `  phase release public alice.key`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p.attend(cmd, cfg)
			if err := checkFormat(format); err != nil {
				return err
			}
			name, isKey := strings.CutSuffix(args[0], ".key")
			if !isKey {
				return usage("%s does not end in .key (see %s --help)", args[0], cmd.CommandPath())
			}
			pub, there, err := p.writePublic(args[0], name+".pub")
			if err != nil {
				return err
			}
			note := "give it away"
			if there {
				note = "there already, the same"
			}
			return newMadeKey(name, pub).write(cmd.OutOrStdout(), format, "", note)
		},
	}
	p.passphraseFlag(cmd)
	cmd.Flags().StringVarP(&format, "format", "f", "text", "text or json")
	return cmd
}

// writePublic writes the public half of the key in private, unless it is there.
func (p *person) writePublic(private, public string) (pub ed25519.PublicKey, there bool, err error) {
	key, err := p.openKey(private)
	if err != nil {
		return nil, false, err
	}
	defer clear(key)
	pub = append(pub, key.Public().(ed25519.PublicKey)...)
	err = keyfile.WritePublic(public, pub)
	if errors.Is(err, keyfile.ErrExists) {
		if old, readErr := keyfile.ReadPublic(public); readErr == nil && old.Equal(pub) {
			return pub, true, nil
		}
	}
	return pub, false, err
}
