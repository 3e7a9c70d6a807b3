package ceremony

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/keyfile"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/manifest"
)

// signature is one person signing one file.
type signature struct {
	person
	key, out string
}

func (s *signature) flags(cmd *cobra.Command) {
	s.person.flags(cmd)
	cmd.Flags().StringVarP(&s.key, "key", "k", "", "private key `file` to sign with")
	cmd.Flags().StringVarP(&s.out, "out", "o", "", "`file` to write instead of signing in place")
}

// review is what a person sees before they sign.
type review struct {
	title   string
	rows    []string // what it says, or what changes
	may     []role   // those whose signatures count; none: not known
	routine bool     // signed by a machine every day: not shown if nobody is asked
}

func (r review) allows(pub ed25519.PublicKey) bool {
	return len(r.may) == 0 || slices.ContainsFunc(r.may, func(x role) bool {
		return slices.ContainsFunc(x.keys.Keys, func(key ed25519.PublicKey) bool { return key.Equal(pub) })
	})
}

func (r review) who() string {
	names := make([]string, len(r.may))
	for i, m := range r.may {
		names[i] = m.name
	}
	return strings.Join(names, " or ")
}

// sign shows the draft, asks, opens the key, adds its signature and writes the
// file. What this program cannot show, it does not sign.
func (s *signature) sign(cmd *cobra.Command, d document, r review) error {
	if err := s.possible(cmd, d); err != nil {
		return err
	}
	if !r.routine || !s.yes {
		if err := s.show(d, r); err != nil {
			return err
		}
	}
	if err := s.confirm("Sign this with " + s.key + "?"); err != nil {
		return err
	}
	key, err := s.openKey(s.key)
	if err != nil {
		return err
	}
	defer clear(key)
	if pub := key.Public().(ed25519.PublicKey); !r.allows(pub) {
		return refuse("Sign with one of the keys that count, or have this one added to a root first.",
			"a signature by %s (key id %s) would not count: it is none of the %s", s.key, dsse.KeyID(pub), r.who())
	}
	if err := d.draft.Sign(key); err != nil {
		return err
	}
	return save(d, s.out)
}

// possible refuses, before anybody reads and agrees, what could not be signed.
func (s *signature) possible(cmd *cobra.Command, d document) error {
	if s.key == "" {
		return needFlag(cmd, "--key", "the key to sign with")
	}
	if err := keyfile.Check(s.key); err != nil {
		return err
	}
	if s.out == "" {
		if err := mayPutBack(d.file); err != nil {
			return err
		}
	}
	if shown, err := digestOfShown(d.draft); err != nil || shown != d.draft.Digest() {
		return refuse("Sign it with the program that made it, or a newer one.",
			"%s says something that this program does not know and cannot show you%s", d.file, unknownIn(d.draft))
	}
	return nil
}

// unknownIn lists it, as far as it has names.
func unknownIn(d *manifest.Draft) string {
	list := d.Unknown()
	for _, name := range strangeRoles(d.Spec()) {
		list = append(list, fmt.Sprintf("%.40q", name))
	}
	if len(list) == 0 {
		return ""
	}
	return ": " + strings.Join(list, ", ")
}

// file is where the signed document was written.
func (s *signature) file(d document) string {
	if s.out != "" {
		return s.out
	}
	return d.file
}

// show writes what will be signed for the person to read.
func (s *signature) show(d document, r review) error {
	fmt.Fprintln(s.err, term.Clean(r.title))
	if err := table(s.err, indented(append(r.rows, digestRows(d.draft)...))); err != nil {
		return err
	}
	if !r.routine {
		fmt.Fprintln(s.err, "Read the digest to the others who sign: everybody must see the same.")
	}
	return nil
}

// digestOfShown is the digest of a document that says what is shown and nothing
// else, zero if there is no such document.
func digestOfShown(d *manifest.Draft) (blob.Digest, error) {
	var again *manifest.Draft
	var err error
	switch d.Object() {
	case "root":
		if len(strangeRoles(d.Spec())) > 0 {
			return blob.Digest{}, nil
		}
		again, err = manifest.DraftRoot(d.Spec())
	case "manifest":
		again, err = manifest.DraftManifest(d.Manifest())
	default:
		again, err = manifest.DraftPointer(d.Pointer())
	}
	if err != nil {
		return blob.Digest{}, err
	}
	return again.Digest(), nil
}

func indented(rows []string) []string {
	list := make([]string, len(rows))
	for i, row := range rows {
		list[i] = "  " + row
	}
	return list
}

// openKey reads a private key and asks for its passphrase if it has one. That
// takes a moment, in which the person may still press Ctrl-C.
func (p *person) openKey(file string) (ed25519.PrivateKey, error) {
	var pass keyfile.Passphrase
	defer func() { pass.Wipe() }()
	key, err := p.keys.Read(file, func() (_ keyfile.Passphrase, err error) {
		pass, err = p.passphrase(file)
		return pass, err
	})
	if err == nil && p.ctx.Err() != nil {
		clear(key)
		return nil, errInterrupted
	}
	return key, err
}
