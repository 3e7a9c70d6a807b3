package ceremony

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/keyfile"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/sums"
	"github.com/phasebased/phase/internal/term"
)

func newMedia(cfg Config) *cobra.Command {
	cmd := group("media", "Sign images and other downloads, so that strangers can check them",
		newMediaKey(), newMediaSums(), newMediaSign(cfg))
	cmd.Long = `Writes SHA256SUMS of a folder of downloads and signs it with a key of its own role,
which no root names: it vouches for what people download, never for what machines
boot. "phase release publish --media" lays the folder out, and docs/downloads.md tells
strangers how to check it with sha256sum, OpenSSL, minisign or phase.`
	return cmd
}

func newMediaKey() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "key NAME.pub", Short: "Write a public key as OpenSSL and minisign read it", Args: arguments(1, 1, "the public key"),
		Long: `Reads the public half of a key, as keygen wrote it, and writes NAME.pem for OpenSSL
and NAME.minisign for minisign. Publish both in a place of their own, apart from the
downloads. Files that are there already are left alone.`,
		Example: `  phase release keygen media
  phase release media key media.pub`,
		RunE: func(cmd *cobra.Command, args []string) error {
			pub, err := keyfile.ReadPublic(args[0])
			if err != nil {
				return err
			}
			if out == "" {
				out = strings.TrimSuffix(args[0], ".pub")
			}
			if err := release.ExportMediaKey(out, pub, writeNew); err != nil {
				return err
			}
			return table(cmd.OutOrStdout(), []string{
				"for OpenSSL\t" + out + ".pem", "for minisign\t" + out + ".minisign",
				fmt.Sprintf("as text\t%s%x", release.KeyPrefix, []byte(pub)), "key id\t" + dsse.KeyID(pub),
			})
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "`name` of the files without .pem (default NAME)")
	return cmd
}

func newMediaSums() *cobra.Command {
	return &cobra.Command{
		Use: "sums FOLDER", Short: "Write SHA256SUMS of a folder", Args: arguments(1, 1, "the folder"),
		Long: `Reads every file of the folder and writes FOLDER/SHA256SUMS. A list that is there
already has to say the same; one that is signed is never changed.`,
		Example: `  phase release media sums downloads`,
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := sums.Folder(args[0], newMeter(cmd).progress)
			if err != nil {
				return err
			}
			raw, err := list.Bytes()
			if err != nil {
				return err
			}
			path := filepath.Join(args[0], sums.Name)
			there, err := durable.ReadSmall(path, sums.MaxBytes, durable.RefuseLinks)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				err = writeNew(path, raw)
			case err == nil && string(there) != string(raw):
				err = refuse("Find out what has changed; if the new files are right, remove the list and its signatures.", "%s says something else", path)
			}
			if err != nil {
				return err
			}
			return table(cmd.OutOrStdout(), []string{
				fmt.Sprintf("%s\t%d files", path, len(list)), "digest\t" + blob.Of(raw).String(),
			})
		},
	}
}

func newMediaSign(cfg Config) *cobra.Command {
	var s signature
	var epoch string
	cmd := &cobra.Command{
		Use: "sign FOLDER", Short: "Sign SHA256SUMS of a folder, after comparing every file", Args: arguments(1, 1, "the folder"),
		Long: `Compares every file of the folder with its SHA256SUMS, shows the list, and signs it:
SHA256SUMS.sig for OpenSSL, SHA256SUMS.minisig for minisign. Who signs builds the images
too, from the same sources, and signs over their own folder: with the same list.`,
		Example: `  phase release media sign downloads --key media.key`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s.attend(cmd, cfg)
			at := cfg.today()
			if epoch != "" {
				seconds, err := strconv.ParseInt(epoch, 10, 64)
				if err != nil {
					return usage("--date %s: give the seconds since 1970", epoch)
				}
				at = time.Unix(seconds, 0)
			}
			return signMedia(cmd, &s, args[0], at)
		},
	}
	s.person.flags(cmd)
	cmd.Flags().StringVarP(&s.key, "key", "k", "", "private key `file` of the role media")
	cmd.Flags().StringVar(&epoch, "date", "", "`seconds` since 1970 that minisign's comment names, to get the same bytes again (default now)")
	return cmd
}

// signMedia shows the list of a folder, asks, and signs it.
func signMedia(cmd *cobra.Command, s *signature, dir string, at time.Time) error {
	if s.key == "" {
		return needFlag(cmd, "--key", "the key to sign with")
	}
	if err := keyfile.Check(s.key); err != nil {
		return err
	}
	path := filepath.Join(dir, sums.Name)
	raw, err := durable.ReadSmall(path, sums.MaxBytes, durable.RefuseLinks)
	if err != nil {
		return err
	}
	list, err := sums.Parse(raw)
	if err != nil {
		return err
	}
	if err := list.Check(dir, newMeter(cmd).progress); err != nil {
		return err
	}
	rows, err := mediaRows(dir, list)
	if err != nil {
		return err
	}
	fmt.Fprintln(s.err, term.Clean(path+": every file is as it says"))
	if err := table(s.err, indented(append(rows, "digest\t"+blob.Of(raw).String()))); err != nil {
		return err
	}
	if err := s.confirm("Sign this with " + s.key + "?"); err != nil {
		return err
	}
	key, err := s.openKey(s.key)
	if err != nil {
		return err
	}
	defer clear(key)
	if err := release.SignMedia(dir, key, list, at); err != nil {
		return err
	}
	return table(cmd.OutOrStdout(), []string{
		path + ".sig\tfor OpenSSL", path + ".minisig\tfor minisign",
		"key id\t" + dsse.KeyID(key.Public().(ed25519.PublicKey)),
	})
}

// mediaRows lists files with their sizes.
func mediaRows(dir string, list sums.List) (rows []string, err error) {
	for _, e := range list {
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(e.Name)))
		if err != nil {
			return nil, err
		}
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s", e.Name, term.Bytes(info.Size()), e.SHA256.Hex()))
	}
	return rows, nil
}
