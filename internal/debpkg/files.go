package debpkg

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"time"
)

// limits bound what a package unpacks to, whatever it says itself: a few
// kilobytes of xz can stand for any number of gigabytes.
type limits struct {
	stream  int64 // bytes of the whole archive, and of all contents together
	members int
}

// contentLimits leave room: the largest package that is read here, a kernel with
// its modules, has 0.7 GB in 6,000 members.
var contentLimits = limits{stream: 4 << 30, members: 1 << 18}

// maxPadding is what may follow the end of the archive: tar fills up its last
// record of 10 KiB.
const maxPadding = 1 << 20

// maxPath bounds names and the targets of links, as the kernel does (PATH_MAX).
const maxPath = 4096

// A LimitError reports a package that unpacks to more than any real one.
type LimitError struct {
	What  string // "bytes", "members" or "bytes after its end"
	Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("debpkg: it unpacks to more than %d %s", e.Limit, e.What)
}

// A MemberError reports a member that no Debian package has.
type MemberError struct {
	Name   string // the first bytes of it
	Reason string
}

func (e *MemberError) Error() string { return fmt.Sprintf("debpkg: member %.64q %s", e.Name, e.Reason) }

// Files streams the content of a package, as dpkg-deb unpacks it, to each; names
// are relative and clean, and there are only folders, regular files and links.
// Each may read the content of a regular file from r. A package that unpacks to
// more than 4 GiB is a *LimitError, one with other members a *MemberError; each
// may have been called before.
func (p Package) Files(ctx context.Context, each func(name string, hdr *tar.Header, r io.Reader) error) error {
	return p.files(ctx, contentLimits, each)
}

func (p Package) files(ctx context.Context, lim limits, each func(string, *tar.Header, io.Reader) error) error {
	tool, err := exec.LookPath("dpkg-deb")
	if err != nil {
		return &ToolError{Tool: "dpkg-deb", Err: exec.ErrNotFound}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, "--fsys-tarfile", p.Path())
	var errs bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &limited{&errs}, 10*time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("debpkg: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return &ToolError{Tool: "dpkg-deb", Err: err}
	}
	walkErr := walkTar(out, lim, each)
	if walkErr != nil {
		cancel() // do not wait for the rest; dpkg-deb's own children end when nobody reads
		_ = out.Close()
	}
	waitErr := cmd.Wait()
	switch {
	case walkErr != nil:
		return fmt.Errorf("debpkg: reading %s: %w", p.File, walkErr)
	case waitErr != nil:
		return &ToolError{Tool: "dpkg-deb", Output: lastLine(errs.String()), Err: waitErr}
	}
	return nil
}

// walkTar reads r to its end.
func walkTar(r io.Reader, lim limits, each func(string, *tar.Header, io.Reader) error) error {
	stream := &boundedReader{r: r, left: lim.stream, err: &LimitError{"bytes", lim.stream}}
	tr := tar.NewReader(stream)
	w := walk{lim: lim, links: map[string]bool{}}
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return drain(stream)
		}
		if err != nil {
			return err
		}
		name, err := w.member(hdr)
		if err != nil {
			return err
		}
		if name == "." {
			continue
		}
		if err := each(name, hdr, tr); err != nil {
			return err
		}
	}
}

// drain lets dpkg-deb write its padding.
func drain(r io.Reader) error {
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxPadding+1))
	if err == nil && n > maxPadding {
		err = &LimitError{"bytes after its end", maxPadding}
	}
	return err
}

// walk is what must be known of the members so far.
type walk struct {
	lim     limits
	bytes   int64
	members int64
	links   map[string]bool // symbolic links, by clean name
}

// member checks one header and returns its clean name.
func (w *walk) member(hdr *tar.Header) (string, error) {
	if w.members++; w.members > int64(w.lim.members) {
		return "", &LimitError{"members", int64(w.lim.members)}
	}
	// A sparse file of any size has a header and nothing else in the stream.
	if w.bytes += max(hdr.Size, 0); hdr.Size > w.lim.stream || w.bytes > w.lim.stream {
		return "", &LimitError{"bytes", w.lim.stream}
	}
	if len(hdr.Name) > maxPath || len(hdr.Linkname) > maxPath {
		return "", &MemberError{hdr.Name, "has a name or a target that is too long"}
	}
	name, err := cleanName(hdr.Name)
	if err != nil {
		return "", err
	}
	// What lies below a symbolic link lies elsewhere once the link is made.
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if w.links[dir] {
			return "", &MemberError{hdr.Name, "lies below the symbolic link " + dir}
		}
	}
	switch hdr.Typeflag {
	case tar.TypeSymlink:
		w.links[name] = true
	case tar.TypeReg, tar.TypeDir, tar.TypeLink:
	default: // Debian policy 10.6: no devices, no pipes
		return "", &MemberError{hdr.Name, fmt.Sprintf("is of type %q, which packages may not have", hdr.Typeflag)}
	}
	return name, nil
}

// boundedReader fails with err instead of reading more than left bytes.
type boundedReader struct {
	r    io.Reader
	left int64
	err  error
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, b.err
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
