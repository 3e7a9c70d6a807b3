package provider

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

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

// serveBlob answers /blobs/<aa>/<hex>.bin. A blob that is not known to be what
// its name says is withheld: its clients would take this provider for a liar.
func (p *Provider) serveBlob(w http.ResponseWriter, r *http.Request) {
	d, ok := blobDigest(path.Join(blobDir, r.PathValue("aa"), r.PathValue("file")))
	if !ok {
		http.NotFound(w, r)
		return
	}
	b, err := p.OpenBlob(d)
	switch {
	case errors.Is(err, ErrUnchecked):
		p.counters.refused(refusedUnchecked)
		w.Header().Set("Retry-After", "1")
		http.Error(w, ErrUnchecked.Error(), http.StatusServiceUnavailable)
		return
	case err != nil:
		http.NotFound(w, r)
		return
	}
	defer b.Close()
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	p.send(w, r, ".bin", content{b.Content, b.Size, b.modified, d})
}

// mediaPart is a name below media: visible, and no way out.
var mediaPart = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+~-]{0,254}$`)

// serveMedia answers /media/<name>/<file>, downloads for people, and the keys beside
// them. What lies under a name is never replaced, so its date tells it apart.
func (p *Provider) serveMedia(w http.ResponseWriter, r *http.Request) {
	release, file := r.PathValue("name"), r.PathValue("file")
	if release != "" && !mediaPart.MatchString(release) || !mediaPart.MatchString(file) {
		http.NotFound(w, r)
		return
	}
	name := path.Join("media", release, file)
	f, info, ok := p.openFor(w, r, name)
	if !ok {
		return
	}
	defer f.Close()
	p.send(w, r, path.Ext(name), content{ReadSeeker: f, size: info.Size(), modified: info.ModTime()})
}

// serveFile sends a file of the folder under its name. One that was not measured
// yet, or changed since, is sent without tag and date, so that no range can
// continue another file.
func (p *Provider) serveFile(w http.ResponseWriter, r *http.Request, name string) {
	f, info, ok := p.openFor(w, r, name)
	if !ok {
		return
	}
	defer f.Close()
	c := content{ReadSeeker: f, size: info.Size()}
	if m, ok := p.files.get(name); ok && m.matches(info) {
		c.digest = m.digest
		if time.Since(info.ModTime()) > dateAfter {
			c.modified = info.ModTime()
		}
	}
	p.send(w, r, path.Ext(name), c)
}

// openFor opens a file of the folder for an answer, which a cache has to ask for again
// with the tag. If it cannot, it has answered.
func (p *Provider) openFor(w http.ResponseWriter, r *http.Request, name string) (f *os.File, info os.FileInfo, ok bool) {
	f, info, err := p.open(name)
	switch {
	case noDescriptor(err):
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many files are open", http.StatusServiceUnavailable)
		return nil, nil, false
	case err != nil:
		http.NotFound(w, r)
		return nil, nil, false
	}
	w.Header().Set("Cache-Control", "no-cache")
	return f, info, true
}

// noDescriptor says that a file may well be there, but none can be opened now.
func noDescriptor(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// dateAfter is how old a file must be for its date to be told: dates have whole
// seconds, and a younger file may be replaced by one of the same date.
const dateAfter = 2 * time.Second

// content is what is about to be sent.
type content struct {
	io.ReadSeeker
	size     int64
	modified time.Time   // zero: not known
	digest   blob.Digest // zero: not known
}

// maxRanges is how many ranges one request may have. Each costs the headers of a
// part, and leaves the way by sendfile(2).
const maxRanges = 8

// send answers with ranges and conditions (RFC 9110) by http.ServeContent, which
// hands a plain file to sendfile(2).
func (p *Provider) send(w http.ResponseWriter, r *http.Request, ext string, c content) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Type", contentType(ext))
	if !c.digest.IsZero() {
		h.Set("ETag", `"`+c.digest.String()+`"`)
		h.Set("X-Artifact-Hash", c.digest.String())
	}
	if strings.Count(r.Header.Get("Range"), ",") >= maxRanges {
		p.counters.refused(refusedRanges)
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", c.size))
		http.Error(w, fmt.Sprintf("more than %d ranges", maxRanges), http.StatusRequestedRangeNotSatisfiable)
		return
	}
	strict(r, c.modified)
	http.ServeContent(w, r, "", c.modified, c.ReadSeeker)
}

// strict drops the conditions that http.ServeContent would take too lightly.
// Files are replaced within a second, and by older ones: of dates only the very
// same is a reason to send nothing, and none is a reason to continue a file. HEAD
// knows no ranges (RFC 9110, 14.2).
func strict(r *http.Request, modified time.Time) {
	h := r.Header
	if tag := h.Get("If-Range"); r.Method == http.MethodHead || tag != "" && !strings.HasPrefix(tag, `"`) {
		h.Del("Range")
	}
	if h.Get("If-Modified-Since") != modified.UTC().Format(http.TimeFormat) {
		h.Del("If-Modified-Since")
	}
}

func contentType(ext string) string {
	switch ext {
	case ".json":
		return "application/json"
	case ".tlog-proof", ".md", ".pem", ".minisign", ".minisig":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

// open opens a regular file of the folder. The first test keeps devices closed,
// which may do something when opened; a pipe that takes the file's place after
// that is not waited for.
func (p *Provider) open(name string) (*os.File, os.FileInfo, error) {
	info, err := p.root.Stat(name)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errNotRegular
	}
	f, err := p.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err = f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}
