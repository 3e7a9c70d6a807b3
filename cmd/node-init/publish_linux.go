package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/manifest"
)

// publishedDir is a published folder, as package provider serves it, of what was
// booted. It lies in memory; the artifacts in it are those in the cache.
const publishedDir = pid1.RunDir + "/published"

// publish lays out what was booted for plasmd to offer to others. Without a cache
// there is nothing to lay out: kernel and initramfs are gone.
func (n *node) publish() error {
	d := n.info.Documents
	if n.state == nil || d == nil {
		return nil
	}
	// What names files in the cache was verified by the seed, from whose memory it
	// comes; plasmd verifies it once more, and so does everybody who asks.
	draft, err := manifest.OpenManifestDraft(d.Manifest)
	if err != nil {
		return err
	}
	m := draft.Manifest()
	folder := filepath.Join(publishedDir, m.Channel, m.Arch)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if err := keepPointer(pointerFile, d); err != nil {
		n.system.Log.Warn("the pointer of what was booted", "error", err)
	}
	if err := writeDocuments(folder, d); err != nil {
		return err
	}
	cache, err := openCache()
	if err != nil {
		return err
	}
	defer cache.Close()
	for _, name := range []string{"kernel", "initramfs", "rootfs"} {
		artifact, named := m.Artifact(name)
		if !named {
			continue
		}
		if err := show(cache, artifact.Hash, artifact.Size, filepath.Join(folder, name)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		n.publishParts(cache, artifact)
	}
	n.published = true
	return nil
}

// publishParts offers what else the cache has of an artifact: its chunk list, and
// patches. Nobody needs them who can have the whole.
func (n *node) publishParts(cache *store.Store, a manifest.Artifact) {
	parts := map[blob.Digest]int64{}
	if !a.Chunks.IsZero() {
		parts[a.Chunks] = blob.ListSize(a.Size)
	}
	for _, d := range a.Deltas {
		parts[d.Hash] = d.Size
	}
	for d, size := range parts {
		if !cache.Has(d) {
			continue
		}
		path := filepath.Join(publishedDir, "blobs", d.Hex()[:2], d.Hex()+".bin")
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = show(cache, d, size, path)
		}
		if err != nil {
			n.system.Log.Warn("a part of what was booted cannot be offered", "blob", d, "error", err)
		}
	}
}

func openCache() (*store.Store, error) { return store.Open(filepath.Join(cacheDir, "store")) }

// keep protects what was booted in the cache, in place of what came up before it:
// no room is made at its cost.
func (n *node) keep() error {
	d := n.info.Documents
	if d == nil {
		return nil
	}
	draft, err := manifest.OpenManifestDraft(d.Manifest)
	if err != nil {
		return err
	}
	cache, err := openCache()
	if err != nil {
		return err
	}
	defer cache.Close()
	return keep(cache, draft.Manifest(), d.Manifest)
}

func keep(cache *store.Store, m manifest.Manifest, file []byte) error {
	if err := cache.Pin(handover.PinLastGood, handover.Blobs(m, file)); err != nil {
		return err
	}
	return cache.Unpin(handover.PinBooting)
}

// pointerFile keeps the pointer for a boot from the cache, which finds none: with
// it this machine can be the first on its network after everything was off. plasmd
// checks its signature, and that it has not expired.
const pointerFile = stateDir + "/pointer.json"

// keepPointer stores the pointer, or adds the one that was stored, if it is that of
// the release: another channel may have been booted since, and others write to the
// medium too.
func keepPointer(file string, d *handover.Documents) error {
	if len(d.Pointer) > 0 {
		return durable.WriteFile(file, d.Pointer, 0o644)
	}
	kept, err := durable.ReadSmall(file, handover.MaxPointerBytes, durable.RefuseLinks)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if p, err := manifest.InspectPointer(kept); err == nil && p.ManifestHash == blob.Of(d.Manifest) {
		d.Pointer = kept
	}
	return nil
}

// writeDocuments writes the documents under the names that seeds ask for.
func writeDocuments(folder string, d *handover.Documents) error {
	files := map[string][]byte{"manifest.json": d.Manifest, "manifest.tlog-proof": d.Proof, "pointer.json": d.Pointer}
	for _, raw := range d.Roots {
		root, err := manifest.ParseRoot(raw)
		if err != nil {
			return err
		}
		files[strconv.FormatInt(root.Version(), 10)+".root.json"] = raw
		files["root.json"] = raw // the newest comes last
	}
	for name, data := range files {
		if len(data) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// show mounts a file of the cache at path. The cache lies on a medium that others
// can write: the descriptor makes sure that it is a regular file in there.
func show(cache *store.Store, d blob.Digest, size int64, path string) error {
	kept, err := cache.OpenUnverified(d, size)
	if err != nil {
		return err
	}
	defer kept.Close()
	at, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	source := "/proc/self/fd/" + strconv.Itoa(int(kept.Fd()))
	return errors.Join(syscall.Mount(source, path, "", syscall.MS_BIND, ""), at.Close())
}
