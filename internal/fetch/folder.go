package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/phasebased/phase/blob"
)

// NewLocal is the Source of a file or folder of this machine: a path, or a
// file:// URL, that a person typed or the program knows. A folder has its blobs
// under blobs/<aa>/<hex>.bin, as providers have. Documents never name one: what
// they call a URL is http or https.
func NewLocal(at string) (Source, error) {
	path := at
	if strings.HasPrefix(strings.ToLower(at), "file:") {
		u, err := url.Parse(at)
		if err != nil || u.Host != "" && u.Host != "localhost" || u.Opaque != "" || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("%w: a file is file:///path", ErrURL)
		}
		path = u.Path
	}
	if path == "" || strings.ContainsRune(path, 0) {
		return nil, fmt.Errorf("%w: no path", ErrURL)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrURL, err)
	}
	return local(abs), nil
}

type local string

func (l local) String() string { return string(l) }

// Read implements Source.
func (l local) Read(ctx context.Context, p Part, w io.Writer) error {
	f, err := l.open(p.Blob)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrAbsent
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != p.Size {
		return &blob.MismatchError{Want: p.Blob, WantSize: p.Size, GotSize: info.Size()}
	}
	return copyPart(ctx, w, &ctxReader{ctx, io.NewSectionReader(f, p.Offset, p.Length)}, p)
}

// open finds the file. One that would block, such as a pipe, is not opened.
func (l local) open(d blob.Digest) (*os.File, error) {
	path := string(l)
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		path = filepath.Join(path, "blobs", d.Hex()[:2], d.Hex()+".bin")
		info, err = os.Stat(path)
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return os.Open(path)
}

// ctxReader lets a copy from a slow disk be given up between two reads.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
