// Package release turns artifacts into a signed, publishable folder: manifest
// and pointer with their signatures, the artifacts under the names the
// provider serves, and every blob under its digest. It has no network code.
//
// The folder can be served by plasmd or by any static web server:
//
//	<dir>/<channel>/<arch>/{root.json,manifest.json,pointer.json,kernel,initramfs,rootfs}
//	<dir>/blobs/<aa>/<hex>.bin
package release

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
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

	Kernel    string   // path of the kernel image
	Initramfs string   // path of the initramfs
	Rootfs    string   // path of the root file system; empty: none
	Cmdline   string   // kernel command line the publisher asks for
	Blobs     []string // further files to serve by digest, for instance job modules

	Bases []string // base URLs of providers, named in the pointer
}

// Published says what Publish wrote.
type Published struct {
	Dir      string      // <dir>/<channel>/<arch>
	Manifest blob.Digest // of the signed payload: the manifest's identity
	Version  int64
	Blobs    map[string]blob.Digest // by file name: kernel, initramfs, rootfs and the further blobs
}

// Publish writes the release below dir, signed with keys. The pointer is
// written last, so a reader of the folder never sees one that names a manifest
// which is not there yet.
func Publish(dir string, r Release, keys *Keys, root []byte) (*Published, error) {
	home := filepath.Join(dir, r.Channel, r.Arch)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, fmt.Errorf("make the release folder: %w", err)
	}
	out := &Published{Dir: home, Version: r.Version, Blobs: map[string]blob.Digest{}}
	m, err := r.place(dir, out)
	if err != nil {
		return nil, err
	}
	envelope, err := manifest.SignManifest(m, keys.Targets[:threshold]...)
	if err != nil {
		return nil, fmt.Errorf("sign the manifest: %w", err)
	}
	pointer, err := r.pointer(envelope, keys.Timestamp)
	if err != nil {
		return nil, err
	}
	if out.Manifest, err = r.check(envelope, keys); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{"root.json", root}, {"manifest.json", envelope}} {
		if err := durable.WriteFile(filepath.Join(home, f.name), f.data, 0o644); err != nil {
			return nil, fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	if err := placeBlob(dir, filepath.Join(home, "manifest.json"), blob.Of(envelope)); err != nil {
		return nil, err
	}
	if err := durable.WriteFile(filepath.Join(home, "pointer.json"), pointer, 0o644); err != nil {
		return nil, fmt.Errorf("write pointer.json: %w", err)
	}
	return out, nil
}

// place copies the artifacts into the folder and describes them as a manifest.
func (r Release) place(dir string, out *Published) (manifest.Manifest, error) {
	m := manifest.Manifest{
		ManifestVersion: r.Version, Channel: r.Channel, Arch: r.Arch,
		CreatedAt: r.Created, ExpiresAt: r.Expires, Cmdline: r.Cmdline,
	}
	artifacts := []struct {
		name, path string
		into       func(manifest.Artifact)
	}{
		{"kernel", r.Kernel, func(a manifest.Artifact) { m.Kernel = a }},
		{"initramfs", r.Initramfs, func(a manifest.Artifact) { m.Initramfs = a }},
		{"rootfs", r.Rootfs, func(a manifest.Artifact) { m.Rootfs = &a }},
	}
	for _, a := range artifacts {
		if a.path == "" {
			continue
		}
		digest, size, err := placeFile(a.path, filepath.Join(out.Dir, a.name))
		if err != nil {
			return m, fmt.Errorf("publish %s: %w", a.name, err)
		}
		if err := placeBlob(dir, filepath.Join(out.Dir, a.name), digest); err != nil {
			return m, err
		}
		out.Blobs[a.name] = digest
		a.into(manifest.Artifact{Hash: digest, Size: size})
	}
	for _, path := range r.Blobs {
		digest, err := digestOf(path)
		if err != nil {
			return m, fmt.Errorf("publish %s: %w", path, err)
		}
		if err := placeBlob(dir, path, digest); err != nil {
			return m, err
		}
		out.Blobs[filepath.Base(path)] = digest
	}
	return m, nil
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
		p.URLs = append(p.URLs, fmt.Sprintf("%s/%s/%s/manifest.json", base, r.Channel, r.Arch))
	}
	signed, err := manifest.SignPointer(p, key)
	if err != nil {
		return nil, fmt.Errorf("sign the pointer: %w", err)
	}
	return signed, nil
}

// placeBlob gives the file at path its second name, under its digest.
func placeBlob(dir, path string, digest blob.Digest) error {
	target := filepath.Join(dir, "blobs", digest.Hex()[:2], digest.Hex()+".bin")
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return fmt.Errorf("make the blob folder: %w", err)
	}
	if _, _, err := placeFile(path, target); err != nil {
		return fmt.Errorf("publish blob %s: %w", digest, err)
	}
	return nil
}

// placeFile copies the file at from to the path to, hashing what it writes. The
// new file appears whole or not at all.
func placeFile(from, to string) (digest blob.Digest, size int64, err error) {
	in, err := os.Open(from)
	if err != nil {
		return digest, 0, err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), ".part-*")
	if err != nil {
		return digest, 0, err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	hash := sha256.New()
	if size, err = io.Copy(io.MultiWriter(out, hash), in); err != nil {
		return digest, 0, err
	}
	if err := errors.Join(out.Chmod(0o644), out.Sync(), out.Close(), os.Rename(out.Name(), to)); err != nil {
		return digest, 0, err
	}
	return blob.FromSum([32]byte(hash.Sum(nil))), size, nil
}

func digestOf(path string) (blob.Digest, error) {
	in, err := os.Open(path)
	if err != nil {
		return blob.Digest{}, err
	}
	defer in.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, in); err != nil {
		return blob.Digest{}, err
	}
	return blob.FromSum([32]byte(hash.Sum(nil))), nil
}
