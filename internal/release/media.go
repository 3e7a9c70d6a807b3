package release

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/keyfile"
	"github.com/phasebased/phase/internal/sums"
)

// Names in the folder <dir>/media: a folder for each release, and the publisher's
// key for those who have it from elsewhere to compare with.
const (
	mediaDir     = "media"
	keyName      = "media-key"
	pemExt       = ".pem"
	minisignExt  = ".minisign"
	mediaPartial = ".part-*"
)

// Media are files for people to download: images, their bills of materials, notes.
// They lie in a folder with SHA256SUMS and its signatures, and are published as
//
//	<dir>/media/<name>/{SHA256SUMS,SHA256SUMS.sig,SHA256SUMS.minisig,…}
//
// in one step: nobody meets a list that names a file which is not there. What is
// published under a name stays as it is.
type Media struct {
	From  string            // folder with files, list and signatures
	Dir   string            // folder that is served
	Name  string            // for instance "stable-41"
	Key   ed25519.PublicKey // that has to have signed the list
	Watch sums.Watch        // nil: nobody is told
}

var mediaName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)

// CheckMediaName refuses what is no name for Media.
func CheckMediaName(name string) error {
	if !mediaName.MatchString(name) || strings.HasSuffix(name, ".") {
		return &FolderError{fmt.Sprintf("%q is no name for media", name), "Use lower-case letters, digits, dots and dashes, such as stable-41."}
	}
	return nil
}

// Publish verifies the list and every file, and lays them out. It returns the
// folder, which may be there already, with the same content. Hold the Lock.
func (m Media) Publish() (string, error) {
	if err := CheckMediaName(m.Name); err != nil {
		return "", err
	}
	list, err := sums.OpenFolder(m.From, m.Key)
	if err != nil {
		return "", err
	}
	home := filepath.Join(m.Dir, mediaDir)
	to := filepath.Join(home, m.Name)
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return to, m.same(to)
	}
	if err := durable.MkdirAll(home, 0o755); err != nil {
		return "", err
	}
	if err := sweepMedia(home); err != nil {
		return "", err
	}
	part, err := os.MkdirTemp(home, mediaPartial)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(part)
	if err := m.lay(part, list); err != nil {
		return "", err
	}
	if err := m.exportKey(home); err != nil {
		return "", err
	}
	if err := errors.Join(os.Chmod(part, 0o755), os.Rename(part, to)); err != nil {
		return "", err
	}
	return to, durable.SyncDir(home)
}

// sweepMedia removes what an interruption has left.
func sweepMedia(home string) error {
	left, err := filepath.Glob(filepath.Join(home, mediaPartial))
	if err != nil {
		return err
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// lay copies everything, the list last.
func (m Media) lay(to string, list sums.List) error {
	for _, e := range list {
		if err := m.copy(to, e); err != nil {
			return err
		}
	}
	for _, name := range []string{sums.SigName, sums.MinisigName, sums.Name} {
		data, err := durable.ReadSmall(filepath.Join(m.From, name), sums.MaxBytes, durable.FollowLinks)
		if errors.Is(err, fs.ErrNotExist) && name != sums.Name {
			continue // one signature is enough; OpenFolder asks for it
		}
		if err != nil {
			return err
		}
		if err := durable.WriteFile(filepath.Join(to, name), data, 0o644); err != nil {
			return err
		}
	}
	_, err := sums.OpenFolder(to, m.Key) // somebody may have changed them since
	return err
}

// copy copies a file with its holes, and refuses one that is not in the list as it is.
func (m Media) copy(to string, e sums.Entry) error {
	name := filepath.FromSlash(e.Name)
	in, err := os.Open(filepath.Join(m.From, name))
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &FolderError{e.Name + " is not a regular file", "Publish files only."}
	}
	if err := durable.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(to, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	h := sha256.New()
	sparse := &sparseFile{file: out}
	watched := &counter{watch: func(done int64) error {
		if m.Watch == nil {
			return nil
		}
		return m.Watch(e.Name, done, info.Size())
	}}
	if _, err := io.CopyBuffer(io.MultiWriter(h, sparse, watched), struct{ io.Reader }{in}, make([]byte, 256<<10)); err != nil {
		return err
	}
	if got := blob.FromSum([sha256.Size]byte(h.Sum(nil))); got != e.SHA256 {
		return sums.ErrDiffers.Of(e.Name, "it has %s, expected %s", got, e.SHA256)
	}
	return errors.Join(out.Truncate(sparse.size), out.Sync(), out.Close())
}

// sparseFile writes no block of zeros.
type sparseFile struct {
	file *os.File
	size int64
}

func (s *sparseFile) Write(p []byte) (int, error) {
	at := s.size
	s.size += int64(len(p))
	if len(bytes.Trim(p, "\x00")) == 0 {
		return len(p), nil
	}
	return s.file.WriteAt(p, at)
}

// same refuses to publish other files under a name that is taken.
func (m Media) same(to string) error {
	list, err := sums.OpenFolder(to, m.Key)
	if err == nil {
		err = list.Check(to, m.Watch)
	}
	if err != nil {
		return fmt.Errorf("the media that are published already: %w", err)
	}
	one, err := os.ReadFile(filepath.Join(m.From, sums.Name))
	two, err2 := os.ReadFile(filepath.Join(to, sums.Name))
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	if !bytes.Equal(one, two) {
		return &FolderError{to + " holds other files", "Publish under another name: people may have downloaded from this one."}
	}
	return nil
}

func (m Media) exportKey(dir string) error {
	return ExportMediaKey(filepath.Join(dir, keyName), m.Key, func(path string, data []byte) error {
		return writeChanged(path, data)
	})
}

// ExportMediaKey has the public key written as OpenSSL (NAME.pem) and minisign
// (NAME.minisign) read it.
func ExportMediaKey(name string, key ed25519.PublicKey, write func(path string, data []byte) error) error {
	data, err := sums.PEM(key)
	if err != nil {
		return err
	}
	if err := write(name+pemExt, data); err != nil {
		return err
	}
	return write(name+minisignExt, sums.Minisign(key))
}

// KeyPrefix begins the text form of a public key, before 64 hexadecimal digits.
const KeyPrefix = "ed25519:"

// ReadMediaKey reads the public key that text names: a file (PEM, minisign's form,
// the .pub file of keygen), or "ed25519:" with the key itself.
func ReadMediaKey(text string) (ed25519.PublicKey, error) {
	if digits, ok := strings.CutPrefix(text, KeyPrefix); ok {
		raw, err := hex.DecodeString(digits)
		if err == nil {
			err = dsse.CheckKey(raw)
		}
		if err != nil {
			return nil, &sums.Error{Object: text, Reason: sums.ErrKey}
		}
		return raw, nil
	}
	data, err := durable.ReadSmall(text, 4<<10, durable.FollowLinks)
	defer clear(data) // it may be a private key, named by mistake
	if err != nil && !errors.Is(err, durable.ErrTooLarge) {
		return nil, err
	}
	key, err := sums.ParseKey(data)
	if err != nil {
		if pub, other := keyfile.ReadPublic(text); other == nil {
			return pub, nil
		} else if errors.Is(other, keyfile.ErrPrivateKey) {
			return nil, other
		}
	}
	return key, err
}

// SignMedia writes a list into its folder, signed for the day of at, in the order
// in which a reader may meet them: the list last.
func SignMedia(dir string, key ed25519.PrivateKey, list sums.List, at time.Time) error {
	raw, err := list.Bytes()
	if err != nil {
		return err
	}
	signed, err := sums.Sign(raw, key, at)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{sums.SigName, signed.Sig}, {sums.MinisigName, signed.Minisig}, {sums.Name, raw}} {
		if err := durable.WriteFile(filepath.Join(dir, f.name), f.data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
