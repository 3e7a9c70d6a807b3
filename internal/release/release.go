// Package release lays signed documents and the files they are about out as a
// folder that plasmd or any static web server can serve. It has no network
// code.
//
//	<dir>/<channel>/<arch>/{pointer,manifest,root}.json, N.root.json,
//	                       manifest.tlog-proof, kernel, initramfs, rootfs
//	<dir>/blobs/<aa>/<hex>.bin
//
// Among the blobs are, beside the files themselves, the chunk list of each that
// is larger than a chunk, and patches from earlier releases. A manifest names
// both, and both save machines time and traffic; what a machine boots is decided
// by the digest of the whole file alone.
//
// There are two ways in. A Set was signed by people on their own machines;
// Check applies every check that a machine makes before anything is written.
// Publish signs with a ring of Keys that lies on this one machine, which is for
// demonstrations and tests.
package release

import (
	"crypto/ed25519"
	"fmt"
	"path/filepath"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/manifest"
)

// Release says what to publish.
type Release struct {
	Channel string // stable, testing or nightly
	Arch    string // x86_64 or arm64
	Version int64  // manifest_version, above every earlier one

	Created       time.Time // of manifest and pointer
	Expires       time.Time // of the manifest
	PointerExpiry time.Time // of the pointer; zero: as late as it may be

	Kernel    string           // path of the kernel image
	Initramfs string           // path of the initramfs
	Rootfs    string           // path of the root file system; empty: none
	Verity    *manifest.Verity // its hash tree, which the file must have; nil: none is named
	Cmdline   string           // kernel command line the publisher asks for
	Blobs     []string         // further files to serve by digest, for instance job modules

	Previous []Previous // releases from which there shall be patches, at most 8
	Progress Progress   // nil: nobody is told
	Bases    []string   // base URLs of providers, named in the pointer
}

// Published says what Publish wrote.
type Published struct {
	Dir      string      // <dir>/<channel>/<arch>
	Manifest blob.Digest // of the signed payload: the manifest's identity
	Version  int64
	Blobs    map[string]blob.Digest // by file name: kernel, initramfs, rootfs and the further blobs
	Patches  []Patch                // that were made, also those that were not kept
}

// Publish signs the release with the keys of one ring and writes it below dir.
// root is the root file that lies beside it, normally of the same ring.
func Publish(dir string, r Release, keys *Keys, root []byte) (*Published, error) {
	out := &Published{Dir: filepath.Join(dir, r.Channel, r.Arch), Version: r.Version, Blobs: map[string]blob.Digest{}}
	l := layout{dir: dir, home: out.Dir, blobs: r.Blobs}
	m, err := r.describe(&l, out)
	if err != nil {
		return nil, err
	}
	if l.manifest, err = manifest.SignManifest(m, keys.Targets[:threshold]...); err != nil {
		return nil, fmt.Errorf("sign the manifest: %w", err)
	}
	if l.pointer, err = r.pointer(l.manifest, keys.Timestamp); err != nil {
		return nil, err
	}
	if out.Manifest, err = r.check(l.manifest, keys); err != nil {
		return nil, err
	}
	trusted, err := manifest.ParseRoot(root)
	if err != nil {
		return nil, err
	}
	l.roots = []RootFile{{Raw: root, Root: trusted}}
	return out, l.write()
}

// describe hashes the files into a manifest and a layout.
func (r Release) describe(l *layout, out *Published) (manifest.Manifest, error) {
	m := manifest.Manifest{
		ManifestVersion: r.Version, Channel: r.Channel, Arch: r.Arch,
		CreatedAt: r.Created, ExpiresAt: r.Expires, Cmdline: r.Cmdline,
	}
	paths := map[string]string{}
	for _, a := range []struct {
		name, path string
		into       func(manifest.Artifact)
	}{
		{"kernel", r.Kernel, func(a manifest.Artifact) { m.Kernel = a }},
		{"initramfs", r.Initramfs, func(a manifest.Artifact) { m.Initramfs = a }},
		{"rootfs", r.Rootfs, func(a manifest.Artifact) { a.Verity = r.Verity; m.Rootfs = &a }},
	} {
		if a.path == "" {
			continue
		}
		artifact, err := r.artifact(l.dir, a.name, a.path, out)
		if err != nil {
			return m, fmt.Errorf("publish %s: %w", a.name, err)
		}
		paths[a.name] = a.path
		a.into(artifact)
	}
	if err := r.checkTree(); err != nil {
		return m, err
	}
	for _, a := range artifactsOf(m) {
		a.path = paths[a.name]
		l.artifacts = append(l.artifacts, a)
	}
	for _, path := range r.Blobs {
		f, err := Describe(path, nil)
		if err != nil {
			return m, fmt.Errorf("publish %s: %w", path, err)
		}
		out.Blobs[filepath.Base(path)] = f.Digest
	}
	return m, nil
}

// artifact describes one file, and has the patches to it made.
func (r Release) artifact(dir, name, path string, out *Published) (manifest.Artifact, error) {
	f, err := Describe(path, nil)
	if err != nil {
		return manifest.Artifact{}, err
	}
	a := f.Artifact()
	made, err := Patcher{dir, r.Previous, r.Progress}.Make(name, path, &a)
	out.Patches = append(out.Patches, made...)
	out.Blobs[name] = f.Digest
	return a, err
}

// check reads the manifest back as a machine that trusts these keys would, on
// the day it was made: what no machine could accept is not published.
func (r Release) check(envelope []byte, keys *Keys) (blob.Digest, error) {
	own, err := keys.RootFile(r.Created.AddDate(1, 0, 0))
	if err != nil {
		return blob.Digest{}, err
	}
	root, err := manifest.ParseRoot(own)
	if err != nil {
		return blob.Digest{}, fmt.Errorf("read back the root: %w", err)
	}
	want := manifest.Want{Channel: r.Channel, Arch: r.Arch}
	verified, err := manifest.Verifier{Root: root, Want: want}.Manifest(envelope, nil, nil, r.Created)
	if err != nil {
		return blob.Digest{}, fmt.Errorf("read back the manifest: %w", err)
	}
	return verified.Digest(), nil
}

func (r Release) pointer(envelope []byte, key ed25519.PrivateKey) ([]byte, error) {
	expires := r.PointerExpiry
	if expires.IsZero() {
		expires = r.Created.Add(manifest.MaxPointerLife)
	}
	if expires.After(r.Expires) {
		expires = r.Expires
	}
	p := manifest.Pointer{
		Channel: r.Channel, Arch: r.Arch, ManifestVersion: r.Version,
		ManifestHash: blob.Of(envelope), ManifestSize: int64(len(envelope)), RootVersion: 1,
		CreatedAt: r.Created, ExpiresAt: expires,
	}
	for _, base := range r.Bases {
		p.URLs = append(p.URLs, ManifestURL(base, r.Channel, r.Arch))
	}
	signed, err := manifest.SignPointer(p, key)
	if err != nil {
		return nil, fmt.Errorf("sign the pointer: %w", err)
	}
	return signed, nil
}
