package provider

import (
	"net/http"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/manifest"
)

func (p *Provider) serveDefaultManifest(w http.ResponseWriter, r *http.Request) {
	p.serveFile(w, r, path.Join(p.cfg.Channel, p.cfg.Arch, manifestFile))
}

// serveRelease answers /<channel>/<arch>/<file> for the known names only.
func (p *Provider) serveRelease(w http.ResponseWriter, r *http.Request) {
	channel, arch, file := r.PathValue("channel"), r.PathValue("arch"), r.PathValue("file")
	known := slices.Contains(docs, file) || slices.Contains(artifacts, file) || numberedRoot.MatchString(file)
	if manifest.CheckChannel(channel) != nil || !slices.Contains(arches, arch) || !known {
		http.NotFound(w, r)
		return
	}
	p.serveFile(w, r, path.Join(channel, arch, file))
}

// serveBlob answers /blobs/<aa>/<hex>.bin, from the blobs folder or from the
// artifact that has this digest.
func (p *Provider) serveBlob(w http.ResponseWriter, r *http.Request) {
	aa, file := r.PathValue("aa"), r.PathValue("file")
	if !blobFile.MatchString(file) || file[:2] != aa {
		http.NotFound(w, r)
		return
	}
	name := path.Join("blobs", aa, file)
	if _, err := p.root.Stat(name); err != nil {
		d, err := blob.Parse(blob.Prefix + strings.TrimSuffix(file, ".bin"))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		if artifact, ok := p.state.Load().byDigest[d]; ok {
			name = artifact
		} else if p.cfg.Blob != nil {
			p.serveOther(w, r, d)
			return
		}
	}
	p.serveFile(w, r, name)
}

// serveOther sends a blob from outside the folder.
func (p *Provider) serveOther(w http.ResponseWriter, r *http.Request, d blob.Digest) {
	f, err := p.cfg.Blob(d)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		http.NotFound(w, r)
		return
	}
	setHeaders(w.Header(), d.Hex())
	http.ServeContent(w, r, "", info.ModTime(), f)
}

// serveFile sends a file of the folder, with ranges and conditions (RFC 9110)
// by http.ServeContent, which hands an *os.File to sendfile(2). The entity tag
// is the digest of the bytes as measured, so a range can never continue
// another file; a file that was not measured yet has none.
func (p *Provider) serveFile(w http.ResponseWriter, r *http.Request, name string) {
	f, info, err := p.open(name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	h := w.Header()
	setHeaders(h, name)
	if m, ok := p.state.Load().files[name]; ok && m.matches(info) {
		h.Set("ETag", `"`+m.digest.String()+`"`)
		h.Set("X-Artifact-Hash", m.digest.String())
	}
	http.ServeContent(w, r, "", info.ModTime(), f)
}

func setHeaders(h http.Header, name string) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache") // that is: ask again with the tag
	h.Set("Content-Type", contentType(name))
}

func contentType(name string) string {
	switch path.Ext(name) {
	case ".json":
		return "application/json"
	case ".tlog-proof":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

// open opens a regular file. The test comes first: opening a pipe would wait.
func (p *Provider) open(name string) (*os.File, os.FileInfo, error) {
	info, err := p.root.Stat(name)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errNotRegular
	}
	f, err := p.root.Open(name)
	if err != nil {
		return nil, nil, err
	}
	if info, err = f.Stat(); err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}
