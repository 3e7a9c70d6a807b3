package provider

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/manifest"
)

// maxBlobs bounds how many files of the blobs folder are measured. More are not
// served.
const maxBlobs = 1 << 16

// recheckAfter is how long a digest is believed of a file that did not change:
// media rot without telling anybody. One file is looked at again in each scan.
const recheckAfter = 24 * time.Hour

// The names of the documents of a release.
const (
	manifestFile = "manifest.json"
	proofFile    = "manifest.tlog-proof"
	pointerFile  = "pointer.json"
	rootFile     = "root.json"
)

// docs and artifacts are the names a release consists of, besides the roots
// that have numbers.
var (
	docs      = []string{manifestFile, proofFile, pointerFile, rootFile}
	artifacts = []string{"kernel", "initramfs", "rootfs"}
	channels  = []string{manifest.ChannelStable, manifest.ChannelTesting, manifest.ChannelNightly}
	arches    = []string{manifest.ArchX8664, manifest.ArchARM64}

	numberedRoot = regexp.MustCompile(`^[1-9][0-9]{0,8}\.root\.json$`)
)

// A state is what the last scan said of the releases. It does not change once
// stored.
type state struct {
	releases []release
	tooMany  bool      // more blobs than are measured
	at       time.Time // zero: nothing was scanned yet
}

// A release is one <channel>/<arch> folder with a manifest.
type release struct {
	Channel   string           `json:"channel"`
	Arch      string           `json:"arch"`
	Since     time.Time        `json:"since"` // when this provider first saw this manifest
	Version   int64            `json:"manifest_version,omitempty"`
	Expires   *time.Time       `json:"expires_at,omitempty"`
	Root      int64            `json:"root_version,omitempty"` // of root.json, the newest
	Documents []documentStatus `json:"documents"`
	Artifacts []artifactStatus `json:"artifacts"`
	Problems  []string         `json:"problems"`

	file blob.Digest // of manifest.json
}

// A documentStatus is a document as it lies in the folder. What it says is for
// whoever trusts a root to judge.
type documentStatus struct {
	Name string      `json:"name"`
	Hash blob.Digest `json:"hash"`
	Size int64       `json:"size"` // bytes
}

// An artifactStatus is a file beside its line in the manifest.
type artifactStatus struct {
	Name    string      `json:"name"`
	Hash    blob.Digest `json:"hash"` // stated by the manifest
	Size    int64       `json:"size"` // bytes, stated by the manifest
	Matches bool        `json:"matches"`
}

// Run keeps the digests up to date until ctx ends, and returns its error.
func (p *Provider) Run(ctx context.Context) error {
	for {
		if err := p.Refresh(ctx); err != nil && ctx.Err() == nil {
			p.cfg.Log.Warn("cannot scan the published folder", "err", err)
		}
		early := time.After(p.cfg.Rescan / 5) // no sooner, whoever asks for what
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-early:
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.wanted:
		case <-time.After(p.cfg.Rescan - p.cfg.Rescan/5):
		}
	}
}

// Refresh scans the folder once: files that are new or changed are hashed,
// then each release is compared with its manifest. It returns ctx's error, or
// that of reading the folder itself; faults of single files are problems of
// their release.
func (p *Provider) Refresh(ctx context.Context) error {
	p.scanning.Lock()
	defer p.scanning.Unlock()
	if _, err := p.root.Stat("."); err != nil {
		return err
	}
	s := &scan{
		ctx: ctx, p: p, old: p.state.Load(), found: map[string]bool{}, seen: map[look][]measured{},
		lists: map[blob.Digest][]byte{}, state: state{at: p.cfg.Now()},
	}
	s.blobs()
	for _, channel := range channels {
		for _, arch := range arches {
			s.release(channel, arch)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	p.files.keep(s.found, s.lists)
	p.state.Store(&s.state)
	return nil
}

// A scan builds a state. seen finds hard links, so that a blob and the
// artifact that is the same file are hashed once.
type scan struct {
	ctx       context.Context
	p         *Provider
	old       *state
	state     state
	found     map[string]bool        // files that were measured
	lists     map[blob.Digest][]byte // chunk lists that no file holds
	seen      map[look][]measured
	rechecked bool // a file that did not change was looked at again
}

// A look is what the names of one file have in common.
type look struct{ size, changed int64 }

func lookOf(info fs.FileInfo) look { return look{info.Size(), info.ModTime().UnixNano()} }

// measure returns the file's digest, from memory if it did not change.
func (s *scan) measure(name string) (measured, error) {
	info, err := s.p.root.Stat(name)
	if err != nil {
		return measured{}, err
	}
	m, ok := s.p.files.get(name)
	if !ok || !m.matches(info) || s.due(m) {
		if m, err = s.hash(name, info); err != nil {
			return measured{}, err
		}
		s.p.files.put(name, m)
		s.judgeBlob(name, m)
	}
	s.found[name] = true
	s.seen[lookOf(info)] = append(s.seen[lookOf(info)], m)
	return m, nil
}

// due says that a file is to be looked at again though it did not change.
func (s *scan) due(m measured) bool {
	if s.rechecked || s.state.at.Sub(m.at) < recheckAfter {
		return false
	}
	s.rechecked = true
	return true
}

// judgeBlob tells the log of a blob that is withheld.
func (s *scan) judgeBlob(name string, m measured) {
	if want, ok := blobDigest(name); ok && want != m.digest {
		s.p.cfg.Log.Warn("a blob is not what its name says, and is not served", "file", name, "digest", m.digest, "size", m.info.Size())
	}
}

var errNotRegular = errors.New("not a regular file")

func (s *scan) hash(name string, info fs.FileInfo) (measured, error) {
	for _, m := range s.seen[lookOf(info)] {
		if m.matches(info) {
			return m, nil
		}
	}
	f, info, err := s.p.open(name)
	if err != nil {
		return measured{}, err
	}
	defer f.Close()
	start := time.Now()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, &contextReader{s.ctx, f}, make([]byte, 256<<10)); err != nil {
		return measured{}, err
	}
	after, err := f.Stat()
	if err != nil {
		return measured{}, err
	}
	m := measured{info: info, digest: blob.FromSum([sha256.Size]byte(h.Sum(nil))), at: s.state.at}
	if !m.matches(after) {
		return measured{}, errors.New("changed while it was read")
	}
	s.p.cfg.Log.Debug("hashed", "file", name, "digest", m.digest, "size", info.Size(), "took", time.Since(start))
	return m, nil
}

// A contextReader ends when ctx does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

// release measures one folder and compares it with its manifest.
func (s *scan) release(channel, arch string) {
	dir := path.Join(channel, arch)
	documents := []documentStatus{}
	for _, name := range docs {
		documents = s.document(documents, dir, name) // absent is fine, and so is any content
	}
	found := map[string]measured{}
	for _, name := range artifacts {
		if m, err := s.measure(path.Join(dir, name)); err == nil {
			found[name] = m
		}
	}
	doc, err := s.measure(path.Join(dir, manifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	r := release{Channel: channel, Arch: arch, Since: s.since(channel, arch, doc.digest), file: doc.digest,
		Documents: documents, Artifacts: []artifactStatus{}, Problems: []string{}}
	if err == nil {
		err = s.judge(&r, dir, found)
	}
	if err != nil {
		r.Problems = append(r.Problems, "manifest: "+err.Error())
	}
	s.report(r)
	s.state.releases = append(s.state.releases, r)
}

// document adds what is known of one document, if there is one.
func (s *scan) document(list []documentStatus, dir, name string) []documentStatus {
	m, err := s.measure(path.Join(dir, name))
	if err != nil {
		return list
	}
	return append(list, documentStatus{Name: name, Hash: m.digest, Size: m.info.Size()})
}

// since is kept from scan to scan while the manifest stays the same.
func (s *scan) since(channel, arch string, file blob.Digest) time.Time {
	if r, ok := s.old.release(channel, arch); ok && r.file == file {
		return r.Since
	}
	return s.state.at
}

func (s *state) release(channel, arch string) (release, bool) {
	for _, r := range s.releases {
		if r.Channel == channel && r.Arch == arch {
			return r, true
		}
	}
	return release{}, false
}

// judge reads the manifest with the root that lies beside it. That finds
// mistakes of the publisher; it is no trust, as both come from one folder.
func (s *scan) judge(r *release, dir string, found map[string]measured) error {
	v, err := s.verify(r, dir)
	if err != nil {
		return err
	}
	m := v.Manifest()
	r.Version, r.Expires = m.ManifestVersion, &m.ExpiresAt
	for _, name := range artifacts {
		a, ok := m.Artifact(name)
		if !ok {
			continue
		}
		file, present := found[name]
		st := artifactStatus{Name: name, Hash: a.Hash, Size: a.Size, Matches: present && file.digest == a.Hash}
		r.Artifacts = append(r.Artifacts, st)
		switch {
		case !present:
			r.Problems = append(r.Problems, name+" is missing or unreadable")
		case !st.Matches:
			r.Problems = append(r.Problems, name+" does not match the manifest")
		default:
			if err := s.chunks(path.Join(dir, name), a); err != nil {
				r.Problems = append(r.Problems, fmt.Sprintf("chunk list of %s: %v", name, err))
			}
		}
	}
	return nil
}

func (s *scan) verify(r *release, dir string) (*manifest.Verified, error) {
	root, err := s.roots(r, dir)
	if err != nil {
		return nil, err
	}
	raw, err := s.readSmall(path.Join(dir, manifestFile), manifest.MaxManifestBytes)
	if err != nil {
		return nil, err
	}
	want := manifest.Want{Channel: r.Channel, Arch: r.Arch}
	return manifest.Verifier{Root: root, Want: want}.Manifest(raw, nil, nil, s.state.at)
}

func (s *scan) readSmall(name string, max int64) ([]byte, error) {
	f, err := s.p.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, max+1)) // the parser refuses max+1
}

// report logs a release once per change.
func (s *scan) report(r release) {
	old, ok := s.old.release(r.Channel, r.Arch)
	if ok && old.file == r.file && fmt.Sprint(old.Problems) == fmt.Sprint(r.Problems) {
		return
	}
	log := s.p.cfg.Log.With("channel", r.Channel, "arch", r.Arch, "version", r.Version)
	if len(r.Problems) > 0 {
		log.Warn("published release has problems", "problems", r.Problems)
		return
	}
	log.Info("publishing")
}

// blobs measures blobs/<aa>/<hex>.bin.
func (s *scan) blobs() {
	fsys := s.p.root.FS()
	dirs, err := fs.ReadDir(fsys, blobDir)
	if err != nil {
		return
	}
	for _, dir := range dirs {
		files, err := fs.ReadDir(fsys, path.Join(blobDir, dir.Name()))
		if err != nil {
			continue
		}
		for _, f := range files {
			name := path.Join(blobDir, dir.Name(), f.Name())
			if _, ok := blobDigest(name); !ok {
				continue
			}
			if s.state.tooMany = len(s.found) >= maxBlobs; s.state.tooMany {
				return
			}
			_, _ = s.measure(name) // what cannot be read is not there
		}
	}
}

// chunks makes the chunk list that the manifest names if no blob holds it. So
// whoever has an artifact has its list, wherever the artifact came from.
func (s *scan) chunks(name string, a manifest.Artifact) error {
	if a.Chunks.IsZero() || s.holds(a.Chunks) {
		return nil
	}
	if raw, ok := s.p.files.list(a.Chunks); ok {
		s.lists[a.Chunks] = raw
		return nil
	}
	f, _, err := s.p.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	list, whole, _, err := blob.ChunksOf(&contextReader{s.ctx, f})
	if err != nil {
		return err
	}
	raw := list.Bytes()
	if whole != a.Hash || blob.Of(raw) != a.Chunks {
		return errors.New("it is not what the manifest says")
	}
	s.lists[a.Chunks] = raw
	return nil
}

// holds says that a file of this scan has the digest.
func (s *scan) holds(d blob.Digest) bool {
	for _, name := range s.p.files.named(d) {
		if s.found[name] {
			return true
		}
	}
	return false
}
