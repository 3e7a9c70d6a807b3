package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/verity"
	"github.com/phasebased/phase/manifest"
)

// Formats of a root file system.
const (
	FormatSquashfs = "squashfs"
	FormatEROFS    = "erofs"
)

// FormatError reports a format that nobody can write.
type FormatError struct{ Format string }

func (e *FormatError) Error() string {
	return fmt.Sprintf("system: unknown format %.40q of a root file system: use %s or %s", e.Format, FormatSquashfs, FormatEROFS)
}

// rootfs writes the node's root file system, with its hash tree. The tree has no
// salt: it would make every block of the tree another with every release, and the
// patches between them larger.
func (b *Build) rootfs(ctx context.Context, cfg NodeConfig, t *image.Tree) (Output, *manifest.Verity, error) {
	kind := "rootfs"
	var write func(ctx context.Context, path string, t *image.Tree) error
	switch cfg.Format {
	case "", FormatSquashfs:
		write = image.Squashfs{Time: b.Time}.Write
	case FormatEROFS:
		kind += "-erofs"
		write = image.EROFS{Time: b.Time}.Write
	default:
		return Output{}, nil, &FormatError{cfg.Format}
	}
	if !cfg.NoVerity {
		kind += "-verity"
	}
	out, err := b.produce(ctx, kind, filepath.Join(cfg.Dir, "rootfs"), t, func(tmp string) error {
		if err := write(ctx, tmp, t); err != nil || cfg.NoVerity {
			return err
		}
		return appendTree(tmp)
	})
	if err != nil || cfg.NoVerity {
		return out, nil, err
	}
	tree, err := treeOf(out)
	return out, tree, err
}

func appendTree(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("system: %w", err)
	}
	_, err = verity.Append(f, nil)
	return errors.Join(err, f.Close())
}

// treeOf reads what a manifest says of the tree that appendTree has put into a
// file.
func treeOf(out Output) (*manifest.Verity, error) {
	f, err := os.Open(out.Path)
	if err != nil {
		return nil, fmt.Errorf("system: %w", err)
	}
	defer f.Close()
	v, err := verity.Find(f, out.Size, nil)
	if err != nil {
		return nil, fmt.Errorf("system: %s: %w", out.Path, err)
	}
	return &v, nil
}
