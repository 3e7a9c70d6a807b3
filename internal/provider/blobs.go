package provider

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/phasebased/phase/blob"
)

// ErrUnchecked says that a blob may be here, but that it was not read through
// since it appeared or changed. A moment later it is served, or known to be
// something else.
var ErrUnchecked = errors.New("not checked yet")

// A Blob is content that was found to be what its digest says. A file may change
// after that: whoever gets it checks it again.
type Blob struct {
	Content
	Size int64 // bytes

	modified time.Time // zero: made here
	file     *os.File  // nil: none to close
}

// Content is an *os.File where there is one, so that the kernel can send it.
type Content interface {
	io.ReadSeeker
	io.ReaderAt
}

// Close releases the blob.
func (b *Blob) Close() error {
	if b.file == nil {
		return nil
	}
	return b.file.Close()
}

// Blobs are the digests of all that the folder holds. The caller may keep the
// slice.
func (p *Provider) Blobs() []blob.Digest { return p.files.digests() }

// OpenBlob opens the blob d, wherever it is: in the blobs folder, as an artifact
// or document of a release, made of one, or outside the folder. It never opens
// what is known to be something else. Errors are ErrUnchecked and fs.ErrNotExist,
// wrapped. The caller closes the blob.
func (p *Provider) OpenBlob(d blob.Digest) (*Blob, error) {
	b, changed := p.openMeasured(d)
	if b != nil {
		return b, nil
	}
	if raw, ok := p.files.list(d); ok {
		return &Blob{Content: bytes.NewReader(raw), Size: int64(len(raw))}, nil
	}
	if p.cfg.Blob != nil {
		b, err := p.others.open(d, p.cfg.Blob)
		if err == nil {
			return b, nil
		}
		changed = changed || noDescriptor(err)
	}
	if changed || p.unchecked(d) {
		select {
		case p.wanted <- struct{}{}:
		default: // somebody asked for a scan already
		}
		return nil, fmt.Errorf("blob %s: %w", d, ErrUnchecked)
	}
	return nil, fmt.Errorf("blob %s: %w", d, fs.ErrNotExist)
}

// openMeasured opens a file of the folder that has the digest. It also says
// whether there was one that is not what it was when it was measured.
func (p *Provider) openMeasured(d blob.Digest) (_ *Blob, changed bool) {
	for _, name := range p.files.named(d) {
		f, info, err := p.open(name)
		if err != nil {
			changed = changed || noDescriptor(err)
			continue
		}
		if m, ok := p.files.get(name); ok && m.digest == d && m.matches(info) {
			return &Blob{Content: f, Size: info.Size(), modified: info.ModTime(), file: f}, false
		}
		f.Close()
		changed = true
	}
	return nil, changed
}

// unchecked says that the blob may turn up once the folder was scanned.
func (p *Provider) unchecked(d blob.Digest) bool {
	state := p.state.Load()
	if state.at.IsZero() {
		return true
	}
	info, err := p.root.Stat(blobName(d))
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	m, ok := p.files.get(blobName(d))
	return ok && !m.matches(info) || !ok && !state.tooMany
}

// maxOthers bounds how many blobs from outside the folder are remembered.
const maxOthers = 1024

// others are blobs from outside the folder, which is nobody's to scan: they are
// read through when somebody asks for one.
type others struct {
	reading sync.Mutex // one at a time
	mu      sync.Mutex
	checked map[blob.Digest]verdictOn
}

// A verdictOn is what came of reading a file through.
type verdictOn struct {
	info fs.FileInfo
	err  error // nil: it is what its name says
}

// open gives what from has for d, if that is what it is.
func (o *others) open(d blob.Digest, from func(blob.Digest) (*os.File, error)) (*Blob, error) {
	f, err := from(d)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	if err == nil {
		err = o.check(d, f, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Blob{Content: f, Size: info.Size(), modified: info.ModTime(), file: f}, nil
}

// check reads a file through unless it is as it was. Whoever asks for one that was
// read does not wait for others; and one that is rotten is not read for each who asks.
func (o *others) check(d blob.Digest, f *os.File, info fs.FileInfo) error {
	if ok, err := o.known(d, info); ok {
		return err
	}
	o.reading.Lock()
	defer o.reading.Unlock()
	if ok, err := o.known(d, info); ok {
		return err
	}
	whole := blob.NewReader(io.NewSectionReader(f, 0, info.Size()), d, info.Size())
	_, err := io.Copy(io.Discard, whole)
	var rotten *blob.MismatchError
	if err != nil && !errors.As(err, &rotten) {
		return err // another time it may be readable
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.checked == nil || len(o.checked) >= maxOthers {
		o.checked = map[blob.Digest]verdictOn{}
	}
	o.checked[d] = verdictOn{info, err}
	return err
}

func (o *others) known(d blob.Digest, info fs.FileInfo) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	v, ok := o.checked[d]
	return ok && (measured{info: v.info}).matches(info), v.err
}
