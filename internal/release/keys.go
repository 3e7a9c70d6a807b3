package release

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/keyfile"
	"github.com/phasebased/phase/manifest"
)

// Keys are the private keys of every role of one publisher, held together.
// That is for a demonstration or a test only: a real publisher keeps each
// role's keys on different machines with different people.
type Keys struct {
	Root      [3]ed25519.PrivateKey // threshold 2
	Targets   [3]ed25519.PrivateKey // threshold 2: they sign manifests
	Timestamp ed25519.PrivateKey    // signs pointers
	Snapshot  ed25519.PrivateKey    // required by TUF's root format; signs nothing here
	Media     ed25519.PrivateKey    // signs lists of what people download; no root names it
}

// mediaRole is the name of the key for media. Rings that were made before there was
// one have none.
const mediaRole = "media"

// threshold is how many of a role's three keys must sign.
const threshold = 2

// named lists every key with the name of its file. Order is fixed.
func (k *Keys) named() []struct {
	name string
	key  *ed25519.PrivateKey
} {
	return []struct {
		name string
		key  *ed25519.PrivateKey
	}{
		{"root-1", &k.Root[0]}, {"root-2", &k.Root[1]}, {"root-3", &k.Root[2]},
		{"targets-1", &k.Targets[0]}, {"targets-2", &k.Targets[1]}, {"targets-3", &k.Targets[2]},
		{"timestamp", &k.Timestamp}, {"snapshot", &k.Snapshot}, {mediaRole, &k.Media},
	}
}

// NewKeys makes fresh keys from the system's randomness.
func NewKeys() (*Keys, error) {
	keys := &Keys{}
	for _, n := range keys.named() {
		private, err := keyfile.Generate()
		if err != nil {
			return nil, fmt.Errorf("make key %s: %w", n.name, err)
		}
		*n.key = private
	}
	return keys, nil
}

// LoadKeys reads the keys that Save wrote; that for media may be missing. A
// missing folder is fs.ErrNotExist.
func LoadKeys(dir string) (*Keys, error) {
	keys := &Keys{}
	for _, n := range keys.named() {
		key, err := keyfile.Read(filepath.Join(dir, n.name+".pem"), nil)
		if errors.Is(err, fs.ErrNotExist) && n.name == mediaRole {
			continue
		}
		if err != nil {
			return nil, err
		}
		*n.key = key
	}
	return keys, nil
}

// Save writes each key as an unencrypted PKCS #8 PEM file that only its owner
// can read, in a folder that only its owner can enter, with a note that says
// what these are.
// The folder appears whole or not at all, and must not exist before.
func (k *Keys) Save(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("make the key folder: %w", err)
	}
	part, err := os.MkdirTemp(filepath.Dir(dir), ".keys-*") // 0700 from the start
	if err != nil {
		return fmt.Errorf("make the key folder: %w", err)
	}
	defer os.RemoveAll(part)
	if err := k.write(part); err != nil {
		return err
	}
	if err := os.Rename(part, dir); err != nil {
		return fmt.Errorf("make the key folder: %w", err)
	}
	return durable.SyncDir(filepath.Dir(dir))
}

func (k *Keys) write(dir string) error {
	for _, n := range k.named() {
		if err := keyfile.Write(filepath.Join(dir, n.name+".pem"), *n.key, keyfile.Passphrase{}); err != nil {
			return err
		}
	}
	return durable.WriteFile(filepath.Join(dir, "README"), []byte(ringNote), 0o600)
}

// ringNote lies beside the keys, for whoever finds them.
const ringNote = `These are all the signing keys of one trial of Phase Boot, on one machine and
NOT ENCRYPTED. Whoever reads them can sign what media with this trial's root
will boot. A publisher makes keys with "phase release keygen" instead, one on
each person's machine.
`

// LoadOrCreateKeys reads the keys of dir, or makes and saves them when the
// folder does not exist yet.
func LoadOrCreateKeys(dir string) (*Keys, error) {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		keys, err := LoadKeys(dir)
		if err == nil && keys.Media == nil {
			keys.Media, err = addKey(filepath.Join(dir, mediaRole+".pem"))
		}
		return keys, err
	}
	keys, err := NewKeys()
	if err != nil {
		return nil, err
	}
	return keys, keys.Save(dir)
}

// addKey makes a key file; another process may be faster.
func addKey(path string) (ed25519.PrivateKey, error) {
	key, err := keyfile.Generate()
	if err != nil {
		return nil, err
	}
	err = keyfile.Write(path, key, keyfile.Passphrase{})
	if errors.Is(err, keyfile.ErrExists) {
		return keyfile.Read(path, nil)
	}
	return key, err
}

// RootFile is the signed version 1 of the root metadata that trusts these keys
// until expires. The same keys and date give the same bytes.
func (k *Keys) RootFile(expires time.Time) ([]byte, error) {
	root, err := manifest.NewRoot(manifest.RootSpec{
		Version: 1,
		Expires: expires,
		Roles: map[manifest.Role]manifest.RoleKeys{
			manifest.RoleRoot:      {Keys: PublicKeys(k.Root[:]), Threshold: threshold},
			manifest.RoleTargets:   {Keys: PublicKeys(k.Targets[:]), Threshold: threshold},
			manifest.RoleTimestamp: {Keys: PublicKeys([]ed25519.PrivateKey{k.Timestamp}), Threshold: 1},
			manifest.RoleSnapshot:  {Keys: PublicKeys([]ed25519.PrivateKey{k.Snapshot}), Threshold: 1},
		},
	}, k.Root[:threshold]...)
	if err != nil {
		return nil, fmt.Errorf("sign the root metadata: %w", err)
	}
	return root, nil
}

// PublicKeys are the public halves of keys.
func PublicKeys(private []ed25519.PrivateKey) []ed25519.PublicKey {
	public := make([]ed25519.PublicKey, len(private))
	for i, key := range private {
		public[i] = key.Public().(ed25519.PublicKey)
	}
	return public
}
