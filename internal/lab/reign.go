package lab

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/manifest"
)

// Reign is a root and the private keys of those it lists.
type Reign struct {
	Root []byte
	Keys *release.Keys
}

// First is the reign that the lab's media know.
func (l *Lab) First() Reign { return Reign{l.Root, l.Keys} }

// Successor is the next root, in which the named roles have new keys. Old and
// new root keys sign it.
func (r Reign) Successor(roles ...manifest.Role) (Reign, error) {
	root, err := manifest.ParseRoot(r.Root)
	if err != nil {
		return Reign{}, err
	}
	spec, err := root.Spec()
	if err != nil {
		return Reign{}, err
	}
	fresh, err := release.NewKeys()
	if err != nil {
		return Reign{}, err
	}
	keys := *r.Keys
	spec.Version++
	for _, role := range roles {
		var private []ed25519.PrivateKey
		switch role {
		case manifest.RoleRoot:
			keys.Root = fresh.Root
			private = keys.Root[:]
		case manifest.RoleTargets:
			keys.Targets = fresh.Targets
			private = keys.Targets[:]
		case manifest.RoleTimestamp:
			keys.Timestamp = fresh.Timestamp
			private = []ed25519.PrivateKey{keys.Timestamp}
		default:
			return Reign{}, fmt.Errorf("the lab does not change the keys of %s", role)
		}
		spec.Roles[role] = manifest.RoleKeys{Keys: release.PublicKeys(private), Threshold: spec.Roles[role].Threshold}
	}
	draft, err := manifest.DraftRoot(spec)
	if err != nil {
		return Reign{}, err
	}
	for _, key := range append(r.Keys.Root[:], keys.Root[:]...) {
		if err := draft.Sign(key); err != nil {
			return Reign{}, err
		}
	}
	raw, err := draft.Bytes()
	return Reign{raw, &keys}, err
}

// Crown puts the roots of a chain beside a published release, the last of them
// as the newest, and takes away those that lie there.
func Crown(p *release.Published, chain ...Reign) error {
	old, err := filepath.Glob(filepath.Join(p.Dir, "*root.json"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	for _, reign := range chain {
		root, err := manifest.ParseRoot(reign.Root)
		if err != nil {
			return err
		}
		for _, name := range []string{fmt.Sprintf("%d.root.json", root.Version()), "root.json"} {
			if err := durable.WriteFile(filepath.Join(p.Dir, name), reign.Root, 0o644); err != nil {
				return fmt.Errorf("write %s: %w", name, err)
			}
		}
	}
	return nil
}

// Resigning says what is signed anew in a published folder, by whom. It is what
// somebody can do who has signing keys: the publisher, or a thief.
type Resigning struct {
	Manifest  func(*manifest.Manifest) // changes it; nil: as it is
	Pointer   func(*manifest.Pointer)  // changes it, after it was set to the manifest; nil: as it is
	Targets   []ed25519.PrivateKey     // who sign the manifest
	Timestamp ed25519.PrivateKey       // who signs the pointer
}

// Resign signs the manifest and the pointer of a published folder anew.
func Resign(p *release.Published, r Resigning) error {
	signed, err := resign(filepath.Join(p.Dir, "manifest.json"), manifest.OpenManifestDraft, func(d *manifest.Draft) (*manifest.Draft, error) {
		m := d.Manifest()
		if r.Manifest != nil {
			r.Manifest(&m)
		}
		return manifest.DraftManifest(m)
	}, r.Targets)
	if err != nil {
		return err
	}
	file, err := signed.Bytes()
	if err != nil {
		return err
	}
	p.Manifest, p.Version = signed.Digest(), signed.Manifest().ManifestVersion
	path := release.BlobPath(filepath.Dir(filepath.Dir(p.Dir)), blob.Of(file))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := durable.WriteFile(path, file, 0o644); err != nil {
		return err
	}
	_, err = resign(filepath.Join(p.Dir, "pointer.json"), manifest.OpenPointerDraft, func(d *manifest.Draft) (*manifest.Draft, error) {
		pointer := d.Pointer()
		pointer.ManifestVersion, pointer.ManifestHash, pointer.ManifestSize = p.Version, blob.Of(file), int64(len(file))
		if r.Pointer != nil {
			r.Pointer(&pointer)
		}
		return manifest.DraftPointer(pointer)
	}, []ed25519.PrivateKey{r.Timestamp})
	return err
}

// resign replaces the document at path by one that was changed and signed.
func resign(path string, open func([]byte) (*manifest.Draft, error), change func(*manifest.Draft) (*manifest.Draft, error), keys []ed25519.PrivateKey) (*manifest.Draft, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	draft, err := open(raw)
	if err != nil {
		return nil, err
	}
	if draft, err = change(draft); err != nil {
		return nil, err
	}
	for _, key := range keys {
		if err := draft.Sign(key); err != nil {
			return nil, err
		}
	}
	if raw, err = draft.Bytes(); err != nil {
		return nil, err
	}
	return draft, durable.WriteFile(path, raw, 0o644)
}
