package system

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
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
	kept := filepath.Join(b.Reuse, kind+"-"+key)
	out := Output{Path: path}
	err = place(path+".partial", path, func(tmp string) error {
		if b.Reuse != "" && copyFile(tmp, kept) == nil {
			out.Reused = true
			return nil
		}
		return write(tmp)
	})
	if err != nil {
		return Output{}, err
	}
	if b.Reuse != "" && !out.Reused {
		if err := place(kept+".partial", kept, func(tmp string) error { return copyFile(tmp, path) }); err != nil {
			return Output{}, err
		}
	}
	out.Digest, out.Size, err = digestFile(path)
	out.Took = time.Since(start)
	b.logf("built", "what", kind, "path", path, "bytes", out.Size, "reused", out.Reused, "took", out.Took)
	return out, err
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
	return hex.EncodeToString(h.Sum(nil))[:32], nil
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
