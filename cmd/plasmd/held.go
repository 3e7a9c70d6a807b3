package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/provider"
	"github.com/phasebased/phase/manifest"
)

// lend gives what is served over HTTP over the DHT node's streams as well, to who
// reaches this machine no other way.
func (s *server) lend() {
	port := s.listener.Addr().(*net.TCPAddr).Port
	s.peer.Lend(p2p.Offer{Open: s.openBlob, HTTPPort: uint16(port)})
}

// openBlob opens any blob that HTTP would give.
func (s *server) openBlob(d blob.Digest) (p2p.Content, int64, error) {
	b, err := s.provider.OpenBlob(d)
	if errors.Is(err, provider.ErrUnchecked) {
		err = fmt.Errorf("%w: %w", p2p.ErrLater, err)
	}
	if err != nil {
		return nil, 0, err
	}
	return b, b.Size, nil
}

// hold says on the DHT which blobs of the release are here, if that changed.
func (s *server) hold() {
	if s.peer == nil {
		return
	}
	held := slices.DeleteFunc(s.blobs(), func(d blob.Digest) bool {
		b, err := s.provider.OpenBlob(d)
		if err == nil {
			b.Close()
		}
		return err != nil
	})
	if slices.Equal(held, s.held) {
		return
	}
	if s.holdErr = s.peer.Hold(held); s.holdErr != nil {
		s.log.Error("what is here is not announced on the DHT", "err", s.holdErr)
	}
	s.held = held
	s.log.Info("to be announced on the DHT", "blobs", len(held))
}

// blobs are those that the release consists of, what a machine that boots asks for
// first in front; none if it cannot be verified.
func (s *server) blobs() []blob.Digest {
	pointer, err := s.verify()
	if err != nil {
		return nil
	}
	file, err := readBounded(filepath.Join(s.offer.folder, s.offer.channel, s.offer.arch, "manifest.json"), manifest.MaxManifestBytes)
	if err != nil {
		return nil
	}
	release, err := s.verifier().Manifest(file, nil, pointer, time.Now())
	if err != nil {
		return nil
	}
	return append([]blob.Digest{blob.Of(file)}, blobsOf(release.Manifest())...)
}

// blobsOf are what a manifest names: the artifacts, their chunk lists, then what
// only some machines ask for.
func blobsOf(m manifest.Manifest) (out []blob.Digest) {
	artifacts := []manifest.Artifact{m.Kernel, m.Initramfs}
	if m.Rootfs != nil {
		artifacts = append(artifacts, *m.Rootfs)
	}
	trees := len(artifacts)
	for _, name := range slices.Sorted(maps.Keys(m.DTBs)) {
		artifacts = append(artifacts, m.DTBs[name])
	}
	add := func(d blob.Digest) {
		if !d.IsZero() && !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	for _, a := range artifacts[:trees] {
		add(a.Hash)
		add(a.Chunks)
	}
	for _, a := range artifacts {
		for _, d := range a.Deltas {
			add(d.Hash)
		}
	}
	for _, a := range artifacts[trees:] {
		add(a.Hash)
		add(a.Chunks)
	}
	return out
}
