package system

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/internal/image"
)

// produce writes the container of a tree to path, or copies it from an earlier
// build with the same inputs.
func (b *Build) produce(ctx context.Context, kind, path string, t *image.Tree, write func(path string) error) (Output, error) {
	start := time.Now()
	key, err := b.key(kind, t)
	if err != nil {
		return Output{}, err
	}
	kept := shelf{b.Reuse, kind}
	out := Output{Path: path}
	// Another process may build to the same path: each has a file of its own.
	err = place(fmt.Sprintf("%s.%d.partial", path, os.Getpid()), path, func(tmp string) error {
		if kept.take(key, tmp) {
			out.Reused = true
			return nil
		}
		if err := write(tmp); err != nil {
			return err
		}
		return kept.put(key, tmp)
	})
	if err != nil {
		return Output{}, err
	}
	out.Digest, out.Size, err = digestFile(path)
	out.Took = time.Since(start)
	b.logf("built", "what", kind, "path", path, "bytes", out.Size, "reused", out.Reused, "took", out.Took)
	return out, err
}

const (
	// mostKept is how many outputs of a kind a shelf keeps: what the tests of one
	// commit build of it, for both architectures, and some more.
	mostKept = 12
	// abandonedAfter is when a file that nobody finished writing is removed.
	abandonedAfter = time.Hour
	keyLength      = 32
)

// A shelf holds outputs of one kind for later builds, those that were used last.
// Several processes may use one folder: an output gets its name when it is
// complete, and who copies one that is removed meanwhile has it open, or builds it.
type shelf struct{ dir, kind string }

func (s shelf) path(key string) string { return filepath.Join(s.dir, s.kind+"-"+key) }

// take copies an output, if it is there, to path.
func (s shelf) take(key, path string) bool {
	if s.dir == "" || copyFile(path, s.path(key)) != nil {
		return false
	}
	now := time.Now()
	_ = os.Chtimes(s.path(key), now, now) // one that was removed meanwhile is no loss
	return true
}

// put keeps a copy of the output at path, in place of the one that was not used
// for longest.
func (s shelf) put(key, path string) error {
	if s.dir == "" {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return fmt.Errorf("system: %w", err)
	}
	tmp, err := os.CreateTemp(s.dir, s.kind+"-*.partial")
	if err != nil {
		return fmt.Errorf("system: %w", err)
	}
	tmp.Close()
	if err := place(tmp.Name(), s.path(key), func(tmp string) error { return copyFile(tmp, path) }); err != nil {
		return err
	}
	return s.prune(time.Now())
}

// prune removes the outputs that were used before the last mostKept, and files that
// nobody goes on writing.
func (s shelf) prune(now time.Time) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("system: %w", err)
	}
	var kept []fs.FileInfo
	for _, e := range entries {
		key, ours := strings.CutPrefix(e.Name(), s.kind+"-")
		info, err := e.Info()
		if !ours || err != nil { // another process has removed it
			continue
		}
		switch {
		case len(key) == keyLength && !strings.Contains(key, "."):
			kept = append(kept, info)
		case strings.HasSuffix(key, ".partial") && now.Sub(info.ModTime()) > abandonedAfter:
			_ = os.Remove(filepath.Join(s.dir, e.Name()))
		}
	}
	slices.SortFunc(kept, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for _, info := range kept[min(len(kept), mostKept):] {
		if err := os.Remove(filepath.Join(s.dir, info.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("system: %w", err)
		}
	}
	return nil
}

// key digests all that goes into a container: the time, and of every entry its
// name, kind and content.
func (b *Build) key(kind string, t *image.Tree) (string, error) {
	entries, err := t.Entries()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "phase output 2\n%s\n%d\n", kind, b.Time.Unix())
	for _, e := range entries {
		fmt.Fprintf(h, "%q %o %d %q %d %d\n", e.Path, uint32(e.Mode), e.Size, e.Link, e.Major, e.Minor)
		if err := addContent(h, e); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:keyLength], nil
}

func addContent(h hash.Hash, e *image.Entry) error {
	r, err := e.Open()
	if err != nil {
		return fmt.Errorf("system: %w", err)
	}
	defer r.Close()
	_, err = io.Copy(h, r)
	return err
}

// initramfs writes a tree as a compressed cpio archive.
func (b *Build) initramfs(ctx context.Context, kind, path string, t *image.Tree) (Output, error) {
	return b.produce(ctx, kind, path, t, func(tmp string) error {
		f, err := os.Create(tmp)
		if err != nil {
			return fmt.Errorf("system: %w", err)
		}
		defer f.Close()
		if err := image.WriteInitramfs(f, t, b.Time); err != nil {
			return err
		}
		return f.Close()
	})
}

func (b *Build) squashfs(ctx context.Context, kind, path string, t *image.Tree) (Output, error) {
	return b.produce(ctx, kind, path, t, func(tmp string) error {
		return image.Squashfs{Time: b.Time}.Write(ctx, tmp, t)
	})
}
