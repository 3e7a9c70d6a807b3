package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/failure"
	"github.com/phasebased/phase/internal/mdns"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/manifest"
)

// documents are the files of the published folder that say what is announced.
// They are read whole and compared whole: they are small, and a time of change
// can stay the same.
type documents struct {
	root, pointer       []byte
	rootErr, pointerErr error
}

func (s *server) read() (d documents) {
	folder := filepath.Join(s.offer.folder, s.offer.channel, s.offer.arch)
	d.root, d.rootErr = readBounded(filepath.Join(folder, "root.json"), manifest.MaxRootBytes)
	d.pointer, d.pointerErr = readBounded(filepath.Join(folder, "pointer.json"), p2p.MaxRecord)
	return d
}

// same reports whether nothing changed. That a file went away and why it cannot
// be read makes no difference.
func (d documents) same(other documents) bool {
	return bytes.Equal(d.root, other.root) && bytes.Equal(d.pointer, other.pointer)
}

// parseRoot returns what the folder's own publisher signs with, the newest root,
// or nil if there is none. It keeps strangers' records off this DHT node; without
// it the node takes any well-formed record of others and publishes none itself.
func (d documents) parseRoot() (*manifest.Root, error) {
	if errors.Is(d.rootErr, fs.ErrNotExist) {
		return nil, nil
	}
	if d.rootErr != nil {
		return nil, d.rootErr
	}
	return manifest.ParseRoot(d.root)
}

// watch announces again whenever a root or pointer was put into the folder:
// pointers live for days, and a provider for months. It tells the caller what
// became of it, and returns when ctx ends.
func (s *server) watch(ctx context.Context) {
	tick := time.NewTicker(s.offer.lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := s.read(); !now.same(s.seen) {
			s.seen = now
			s.renew(ctx)
		} else if s.mute { // a cable may have been plugged in
			s.speak(s.pointer())
		}
		s.expire()
		if s.offer.checked {
			s.recheck()
		}
		s.hold()
		if err := s.tellCaller(); err != nil {
			s.log.Warn("what was announced could not be reported", "err", err)
		}
	}
}

// expire takes back from the local network what nobody may use any more. The DHT
// drops expired records by itself.
func (s *server) expire() {
	if s.voice != nil && !time.Now().Before(s.spoken.Expires) {
		s.fallSilent()
		s.speakErr = fmt.Errorf("the pointer to release %d expired at %s", s.spoken.Version, s.spoken.Expires.Format(time.RFC3339))
		s.log.Warn("no longer announced on the local network", "err", s.speakErr)
	}
}

// recheck follows what became of the files themselves: they lie on a medium that
// may fail, or be pulled out.
func (s *server) recheck() {
	pointer, err := s.pointer()
	switch {
	case err != nil && s.voice != nil:
		s.fallSilent()
		s.speakErr = err
		s.log.Warn("no longer announced on the local network", "err", err)
	case err == nil && s.voice == nil && s.offer.speak != nil:
		s.speak(pointer, nil)
	}
}

// renew takes over documents that changed. What cannot be used is told once, and
// what was announced before stays: somebody may be about to write the rest.
func (s *server) renew(ctx context.Context) {
	root, err := s.seen.parseRoot()
	switch {
	case err != nil:
		s.log.Error("the new root.json is not used", "err", err, "code", failure.Code(err))
	case root == nil:
		s.log.Warn("there is no root.json in the published folder any more; what was there before still holds")
	case s.root != nil && root.Version() < s.root.Version():
		s.log.Error("the new root.json is not used, it is older", "version", root.Version(), "before", s.root.Version())
	default:
		s.root = root
		if s.peer != nil {
			s.peer.SetRoot(root)
		}
		s.log.Info("the published folder has changed", "root", root.Version())
	}
	s.announce(ctx)
}

// errNoRoot says why nothing is announced.
var errNoRoot = errors.New("there is no root.json beside the pointer, so that nobody can say whether it is right")

// pointer verifies the folder's pointer as a seed would: what this machine cannot
// verify it does not announce.
func (s *server) pointer() (manifest.Pointer, error) {
	verified, err := s.verify()
	if err != nil {
		return manifest.Pointer{}, err
	}
	if s.offer.checked {
		err = s.checkRelease(verified.Pointer())
	}
	return verified.Pointer(), err
}

func (s *server) verify() (*manifest.VerifiedPointer, error) {
	if s.seen.pointerErr != nil {
		return nil, s.seen.pointerErr
	}
	if s.root == nil {
		return nil, errNoRoot
	}
	return s.verifier().Pointer(s.seen.pointer, time.Now())
}

func (s *server) verifier() manifest.Verifier {
	return manifest.Verifier{Root: s.root, Want: manifest.Want{Channel: s.offer.channel, Arch: s.offer.arch}}
}

// checkRelease says why the folder is not, byte for byte, what a pointer leads to.
func (s *server) checkRelease(p manifest.Pointer) error {
	file, err := readBounded(filepath.Join(s.offer.folder, s.offer.channel, s.offer.arch, "manifest.json"), manifest.MaxManifestBytes)
	if err != nil {
		return err
	}
	if blob.Of(file) != p.ManifestHash {
		return fmt.Errorf("the pointer is that of release %d, which is not what is served", p.ManifestVersion)
	}
	if status := s.provider.Status(); !status.Healthy {
		return fmt.Errorf("what is served is not in order: %s", strings.Join(status.Problems, "; "))
	}
	return nil
}

// announce tells the local network and the DHT of the folder's pointer: the network
// first, because the DHT takes seconds where it has to be reached first. That it
// could not is told, and no reason to stop serving.
func (s *server) announce(ctx context.Context) {
	pointer, err := s.pointer()
	if s.offer.speak != nil {
		if s.speak(pointer, err); s.speakErr != nil {
			s.log.Error("not announced on the local network", "err", s.speakErr, "code", failure.Code(s.speakErr))
		}
	}
	if s.peer == nil {
		return
	}
	s.lend()
	s.hold()
	if s.publishErr = err; err == nil {
		s.publishErr = s.publish(ctx)
	}
	if s.publishErr != nil {
		s.log.Error("not published on the DHT", "err", s.publishErr, "code", failure.Code(s.publishErr))
	}
}

// speak tells the local network of a verified pointer, and notes if there is none
// to tell.
func (s *server) speak(pointer manifest.Pointer, verdict error) {
	if s.speakErr = verdict; verdict == nil {
		s.speakErr = s.tell(pointer)
	}
	s.mute = errors.Is(s.speakErr, mdns.ErrNoLink)
}

// publish puts the folder's pointer on the DHT.
func (s *server) publish(ctx context.Context) error {
	done, err := s.peer.Publish(ctx, s.seen.pointer)
	if err != nil {
		return err
	}
	s.log.Info("published on the DHT", "key", done.Key, "acknowledged_by", done.AcknowledgedBy, "bytes", done.Size)
	if len(done.AcknowledgedBy) == 1 && done.AcknowledgedBy[0] == s.peer.ID() {
		s.log.Info("only this node holds the record; who wants it must know this node", "addrs", s.peer.Addrs())
	}
	return nil
}

// announcer keeps something said on the local network until it is closed.
type announcer interface {
	Announced() mdns.Announced
	Close() error
}

func speakMDNS(a mdns.Announcement) (announcer, error) { return mdns.Announce(a) }

// tell says on the local network which version is served, unless it is being said
// already. The pointer itself is fetched from here by those who hear it.
func (s *server) tell(pointer manifest.Pointer) error {
	if s.voice != nil && s.spoken.Version == pointer.ManifestVersion {
		s.spoken.Expires = pointer.ExpiresAt.UTC()
		return nil
	}
	s.fallSilent()
	o := s.offer
	host, err := os.Hostname()
	if err != nil {
		host = "phase"
	}
	voice, err := o.speak(mdns.Announcement{
		Host: host, Query: discover.Query{Channel: o.channel, Arch: o.arch}, Version: pointer.ManifestVersion,
		Manifest: strings.TrimSuffix(o.advertise, "/") + "/" + o.channel + "/" + o.arch + "/manifest.json",
		Port:     s.listener.Addr().(*net.TCPAddr).Port,
		P2P:      s.peerAddrs(),
	})
	if err != nil {
		return err
	}
	s.voice, s.spoken = voice, spoken{Version: pointer.ManifestVersion, Expires: pointer.ExpiresAt.UTC()}
	said := s.voice.Announced()
	s.log.Info("announced on the local network", "instance", said.Instance, "version", s.spoken.Version, "port", said.Port, "addrs", said.Addrs)
	return nil
}

// peerAddrs are the addresses at which neighbours can join the DHT.
func (s *server) peerAddrs() []string {
	if s.peer == nil {
		return nil
	}
	return s.peer.Addrs()
}

// fallSilent takes back what was said on the local network.
func (s *server) fallSilent() {
	if s.voice != nil {
		_ = s.voice.Close()
		s.voice = nil
	}
}
