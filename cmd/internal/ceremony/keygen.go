package ceremony

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/keyfile"
	"github.com/phasebased/phase/internal/release"
)

func newKeygen(cfg Config) *cobra.Command {
	var p person
	var plain bool
	var format string
	cmd := &cobra.Command{
		Use: "keygen NAME", Short: "Make a signing key: NAME.key, which you keep, and NAME.pub, which you give away",
		Args: arguments(1, 1, "the name of the key"),
		Long: `Makes an Ed25519 key. NAME.key holds the private half, encrypted with your
passphrase and readable by you only; it is an age file around a PKCS #8 PEM, so
that "age -d NAME.key" opens it as well. NAME.pub holds the public half, for the
one who writes the root. The key id that is printed is what to compare by voice;
"as text" is the public half as configurations and other commands take it, where a
key stands for itself. Existing files are never overwritten.`,
		Example: `  phase release keygen alice-root
  phase release keygen --plain timestamp    # for a machine that signs unattended`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p.attend(cmd, cfg)
			if err := checkFormat(format); err != nil {
				return err
			}
			if plain && p.passphraseFile != "" {
				return usage("--plain and --passphrase-file exclude each other")
			}
			name := strings.TrimSuffix(args[0], ".key")
			pub, err := makeKey(&p, name, plain)
			if err != nil {
				return err
			}
			how := "encrypted; keep it and a copy of it"
			if plain {
				how = "NOT encrypted; whoever reads it can sign"
			}
			made := newMadeKey(name, pub)
			encrypted := !plain
			made.Private, made.Encrypted = name+".key", &encrypted
			return made.write(cmd.OutOrStdout(), format, fmt.Sprintf("private key\t%s.key (%s)", name, how), "give it away")
		},
	}
	p.passphraseFlag(cmd)
	cmd.Flags().StringVarP(&format, "format", "f", "text", "text or json")
	cmd.Flags().BoolVar(&plain, "plain", false, "do not encrypt the private key: for online keys only")
	return cmd
}

// madeKey is what --format json says of a key.
type madeKey struct {
	Private   string `json:"private_file,omitempty"` // where the private half was written, if it was
	Encrypted *bool  `json:"encrypted,omitempty"`    // whether it asks for a passphrase
	Public    string `json:"public_file"`
	Text      string `json:"public"` // ed25519:<hex>
	KeyID     string `json:"key_id"`
}

func newMadeKey(name string, pub ed25519.PublicKey) madeKey {
	return madeKey{Public: name + ".pub", Text: fmt.Sprintf("%s%x", release.KeyPrefix, []byte(pub)), KeyID: dsse.KeyID(pub)}
}

// write says what was made; first is a row about the private half, if there is one.
func (k madeKey) write(out io.Writer, format, first, note string) error {
	if format == "json" {
		return writeJSON(out, k)
	}
	rows := []string{fmt.Sprintf("public key\t%s (%s)", k.Public, note), "as text\t" + k.Text, "key id\t" + k.KeyID}
	if first != "" {
		rows = append([]string{first}, rows...)
	}
	return table(out, rows)
}

// makeKey looks for what is in the way before it asks the person anything.
func makeKey(p *person, name string, plain bool) (ed25519.PublicKey, error) {
	private, public := name+".key", name+".pub"
	for _, path := range []string{private, public} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return nil, &keyfile.Error{Object: path, Reason: keyfile.ErrExists}
		}
	}
	var pass keyfile.Passphrase
	if !plain {
		var err error
		if pass, err = p.newPassphrase(private); err != nil {
			return nil, err
		}
		defer pass.Wipe()
	}
	key, err := keyfile.Generate()
	if err != nil {
		return nil, err
	}
	defer clear(key)
	if p.ctx.Err() != nil {
		return nil, errInterrupted
	}
	pub := ed25519.PublicKey(append([]byte{}, key.Public().(ed25519.PublicKey)...))
	if err := p.keys.Write(private, key, pass); err != nil {
		return nil, err
	}
	if err := keyfile.WritePublic(public, pub); err != nil {
		return nil, errors.Join(err, os.Remove(private)) // nobody has seen this key yet
	}
	return pub, nil
}
