package ceremony

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/keyfile"
	"github.com/phasebased/phase/internal/secureboot"
)

// SecureBoot returns the commands that make and use the keys of Secure Boot.
func SecureBoot(cfg Config) []*cobra.Command {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return []*cobra.Command{newSecureKeygen(cfg), newSecureSign(cfg)}
}

// secureKeys is what keygen is asked for.
type secureKeys struct {
	dir, owner string
	tier       int
	plain      bool
	also       []*x509.Certificate // further certificates in db
	at         time.Time
}

func newSecureKeygen(cfg Config) *cobra.Command {
	var p person
	var k secureKeys
	var also []string
	cmd := &cobra.Command{
		Use: "keygen FOLDER", Short: "Make keys that machines with Secure Boot can be made to trust",
		Args: arguments(1, 1, "the folder for the keys"),
		Long: `Makes RSA-2048 keys with self-signed certificates.

--tier 3 (the default) makes a machine owner key for PCs that keep the keys they
came with: MOK.key, which signs, MOK.pem, and MOK.cer, which a person enrols once
on each machine at shim's blue screen.

--tier 4 makes the keys of a machine that trusts nobody but its owner: PK, KEK and
db, each with .key and .pem, and PK.auth, KEK.auth and db.auth, by which a firmware
in setup mode takes them. --also puts further certificates into db: programs that
their owners have signed then start as well. With that of Debian, for instance, so
do all of Debian's kernels, with whatever initramfs somebody puts beside them.

Private keys are encrypted with one passphrase and readable by you only. Existing
files are never overwritten.`,
		Example: "  phase image secureboot keygen keys\n  phase image secureboot keygen keys --tier 4 --name \"Example Lab\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			p.attend(cmd, cfg)
			k.dir, k.at = args[0], cfg.today()
			if err := k.check(p); err != nil {
				return err
			}
			for _, file := range also {
				c, err := secureboot.LoadCertificate(file)
				if err != nil {
					return err
				}
				k.also = append(k.also, c)
			}
			rows, err := k.make(&p)
			if err != nil {
				return err
			}
			return table(cmd.OutOrStdout(), rows)
		},
	}
	p.passphraseFlag(cmd)
	flags := cmd.Flags()
	flags.IntVar(&k.tier, "tier", secureboot.TierMOK, "3: a key to enrol beside those of a PC; 4: the keys of a machine of your own")
	flags.StringVar(&k.owner, "name", "Phase", "who the certificates say the owner is: what firmware and shim show")
	flags.StringArrayVar(&also, "also", nil, "with --tier 4: `file` with a further certificate to put into db; repeatable")
	flags.BoolVar(&k.plain, "plain", false, "do not encrypt the private keys")
	return cmd
}

func (k *secureKeys) check(p person) error {
	printable := func(r rune) bool { return r < ' ' || r > '~' }
	switch {
	case k.tier != secureboot.TierMOK && k.tier != secureboot.TierOwner:
		return usage("--tier %d: choose 3 or 4", k.tier)
	case k.plain && p.passphraseFile != "":
		return usage("--plain and --passphrase-file exclude each other")
	case k.owner == "" || len(k.owner) > 40 || strings.ContainsFunc(k.owner, printable):
		return usage("--name: 1 to 40 letters, as firmware shows no others than those of ASCII")
	}
	return nil
}

// roles are the keys that a tier takes, with the files of each.
func (k *secureKeys) roles() (roles []string, files []string) {
	roles = []string{secureboot.RoleMOK}
	last := ".cer"
	if k.tier == secureboot.TierOwner {
		roles, last = secureboot.OwnerRoles(), ".auth"
	}
	for _, role := range roles {
		files = append(files, role+".key", role+".pem", role+last)
	}
	return roles, files
}

// make looks for what is in the way before it asks the person anything, and leaves
// nothing behind when it fails: nobody has seen these keys yet.
func (k *secureKeys) make(p *person) (rows []string, err error) {
	roles, files := k.roles()
	for _, name := range files {
		if _, err := os.Lstat(filepath.Join(k.dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return nil, &keyfile.Error{Object: filepath.Join(k.dir, name), Reason: keyfile.ErrExists}
		}
	}
	var pass keyfile.Passphrase
	if !k.plain {
		if pass, err = p.newPassphrase(k.dir); err != nil {
			return nil, err
		}
		defer pass.Wipe()
	}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		for _, name := range files {
			if err != nil {
				err = errors.Join(err, removed(filepath.Join(k.dir, name)))
			}
		}
	}()
	keys := map[string]*secureboot.Key{}
	for _, role := range roles {
		key, private, err := secureboot.NewKey(k.owner, role, k.at)
		if err != nil {
			return nil, err
		}
		if p.ctx.Err() != nil {
			return nil, errInterrupted
		}
		keys[role] = key
		if err := p.keys.WriteRSA(filepath.Join(k.dir, role+".key"), private, pass); err != nil {
			return nil, err
		}
	}
	return k.publish(roles, keys)
}

func removed(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// publish writes what belongs to the private keys and is no secret.
func (k *secureKeys) publish(roles []string, keys map[string]*secureboot.Key) (rows []string, err error) {
	signedBy := map[string]string{secureboot.RolePK: secureboot.RolePK, secureboot.RoleKEK: secureboot.RolePK, secureboot.RoleDB: secureboot.RoleKEK}
	for _, role := range roles {
		cert := keys[role].Cert
		at := func(ext string) string { return filepath.Join(k.dir, role+ext) }
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
		if err := durable.WriteFile(at(".pem"), text, 0o644); err != nil {
			return nil, err
		}
		extra, name := cert.Raw, at(".cer")
		if k.tier == secureboot.TierOwner {
			list := []*x509.Certificate{cert}
			if role == secureboot.RoleDB {
				list = append(list, k.also...)
			}
			name = at(".auth")
			if extra, err = secureboot.SignedVariable(role, secureboot.SignatureList(list...), k.at, keys[signedBy[role]]); err != nil {
				return nil, err
			}
		}
		if err := durable.WriteFile(name, extra, 0o644); err != nil {
			return nil, err
		}
		sum := secureboot.Fingerprint(cert)
		rows = append(rows, "private key\t"+at(".key"), "certificate\t"+at(".pem"), "to enrol\t"+name,
			"fingerprint\t"+fmt.Sprintf("%x", sum))
	}
	return rows, nil
}

// SecureKey reads the key file of a person who signs: the certificate is beside it,
// with the ending .pem.
func SecureKey(cmd *cobra.Command, cfg Config, passphraseFile, path string) (*secureboot.Key, error) {
	p := person{passphraseFile: passphraseFile}
	p.attend(cmd, cfg)
	return p.secureKey(path)
}

func (p *person) secureKey(path string) (*secureboot.Key, error) {
	if err := keyfile.Check(path); err != nil {
		return nil, err
	}
	return secureboot.Load(p.keys, path, strings.TrimSuffix(path, ".key")+".pem", func() (keyfile.Passphrase, error) {
		return p.passphrase(path)
	})
}

// maxProgram bounds what is signed, in bytes.
const maxProgram = 1 << 30

func newSecureSign(cfg Config) *cobra.Command {
	var p person
	var key, out string
	cmd := &cobra.Command{
		Use: "sign FILE", Short: "Sign an EFI program or a kernel for machines that trust your key",
		Args: arguments(1, 1, "the file to sign"),
		Long: `Writes FILE with a signature by the key before those that it has. The certificate
is taken from the .pem file beside the key. Same file, same key, same bytes.

Linux, when it is to start another kernel, looks at the first signature alone: a
release for machines that trust only your key (tier 4) needs its kernel signed; one
for PCs as they are sold (tier 2) must keep its distribution's signature first.`,
		Example: "  phase image secureboot sign vmlinuz --key keys/db.key --out vmlinuz.signed",
		RunE: func(cmd *cobra.Command, args []string) error {
			p.attend(cmd, cfg)
			if key == "" {
				return needFlag(cmd, "--key", "the key")
			}
			if out == "" {
				return needFlag(cmd, "--out", "the file to write")
			}
			data, err := durable.ReadSmall(args[0], maxProgram, durable.FollowLinks)
			if err != nil {
				return err
			}
			if _, err := secureboot.Signers(data); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			k, err := p.secureKey(key)
			if err != nil {
				return err
			}
			signed, err := secureboot.Sign(data, k)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if err := durable.WriteFile(out, signed, 0o644); err != nil {
				return err
			}
			return table(cmd.OutOrStdout(), []string{"signed\t" + out, "by\t" + k.Cert.Subject.CommonName})
		},
	}
	p.passphraseFlag(cmd)
	cmd.Flags().StringVarP(&key, "key", "k", "", "key `file` that keygen made: MOK.key or db.key")
	cmd.Flags().StringVarP(&out, "out", "o", "", "`file` to write")
	return cmd
}
