package provider

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/manifest"
)

// maxFiles bounds how many files are hashed; more are served without a tag.
const maxFiles = 4096

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
	blobFile     = regexp.MustCompile(`^[0-9a-f]{64}\.bin$`)
)

// A state is what the last scan found. It does not change once stored.
type state struct {
	files    map[string]measured    // by path below the base
	byDigest map[blob.Digest]string // artifacts by what they are
	releases []release
	at       time.Time // zero: nothing was scanned yet
}

// measured is a file's digest, valid while size and modification time stay.
type measured struct {
	info   fs.FileInfo
	digest blob.Digest
}

func (m measured) matches(info fs.FileInfo) bool {
	return m.info != nil && m.info.Size() == info.Size() && m.info.ModTime().Equal(info.ModTime()) && os.SameFile(m.info, info)
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
	tick := time.NewTicker(p.cfg.Rescan)
	defer tick.Stop()
	for {
		if err := p.Refresh(ctx); err != nil {
			p.cfg.Log.Warn("cannot scan the published folder", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Refresh scans the folder once: files that are new or changed are hashed,
// then each release is compared with its manifest. It returns ctx's error, or
// that of reading the folder itself; faults of single files are problems of
// their release.
func (p *Provider) Refresh(ctx context.Context) error {
	s := &scan{ctx: ctx, p: p, old: p.state.Load(), seen: map[int64][]measured{}}
	s.state = state{files: map[string]measured{}, byDigest: map[blob.Digest]string{}, at: p.cfg.Now()}
	if _, err := p.root.Stat("."); err != nil {
		return err
	}
	for _, channel := range channels {
		for _, arch := range arches {
			s.release(channel, arch)
		}
	}
	s.blobs()
	if err := ctx.Err(); err != nil {
		return err
	}
	p.state.Store(&s.state)
	return nil
}

// A scan builds a state. seen finds hard links, so that a blob and the
// artifact that is the same file are hashed once.
type scan struct {
	ctx   context.Context
	p     *Provider
	old   *state
	state state
	seen  map[int64][]measured // by size
}

// measure returns the file's digest, from memory if it did not change.
func (s *scan) measure(name string) (measured, error) {
	info, err := s.p.root.Stat(name)
	if err != nil {
		return measured{}, err
	}
	if !info.Mode().IsRegular() {
		return measured{}, errNotRegular
	}
	if len(s.state.files) >= maxFiles {
		return measured{}, errors.New("too many files")
	}
	m, ok := s.old.files[name]
	if !ok || !m.matches(info) {
		if m, err = s.hash(name, info); err != nil {
			return measured{}, err
		}
	}
	s.state.files[name] = m
	s.seen[info.Size()] = append(s.seen[info.Size()], m)
	return m, nil
}

var errNotRegular = errors.New("not a regular file")

func (s *scan) hash(name string, info fs.FileInfo) (measured, error) {
	for _, m := range s.seen[info.Size()] {
		if m.matches(info) {
			return m, nil
		}
	}
	f, err := s.p.root.Open(name)
	if err != nil {
		return measured{}, err
	}
	defer f.Close()
	start := time.Now()
	h := sha256.New()
	if err := copyContext(s.ctx, h, f); err != nil {
		return measured{}, err
	}
	after, err := f.Stat()
	if err != nil {
		return measured{}, err
	}
	m := measured{info: info, digest: blob.FromSum([sha256.Size]byte(h.Sum(nil)))}
	if !m.matches(after) {
		return measured{}, errors.New("changed while it was read")
	}
	s.p.cfg.Log.Debug("hashed", "file", name, "digest", m.digest, "size", info.Size(), "took", time.Since(start))
	return m, nil
}

// copyContext is io.Copy that stops when ctx does.
func copyContext(ctx context.Context, w io.Writer, r io.Reader) error {
	buf := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf)
		w.Write(buf[:n]) // a hash does not fail
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
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
			s.state.byDigest[m.digest] = path.Join(dir, name)
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
	dirs, err := fs.ReadDir(fsys, "blobs")
	if err != nil {
		return
	}
	for _, dir := range dirs {
		files, err := fs.ReadDir(fsys, path.Join("blobs", dir.Name()))
		if err != nil || len(dir.Name()) != 2 {
			continue
		}
		for _, f := range files {
			if blobFile.MatchString(f.Name()) && f.Name()[:2] == dir.Name() {
				s.measure(path.Join("blobs", dir.Name(), f.Name()))
			}
		}
	}
}
