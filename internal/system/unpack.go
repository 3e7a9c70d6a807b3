package system

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/phasebased/phase/internal/debpkg"
	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/kmod"
)

// maxUnpacked bounds one file of a package, in bytes.
const maxUnpacked = 512 << 20

// unpackKernel extracts kernel and modules of packages into a folder named
// after their digests, once, and indexes the modules there as depmod would.
func unpackKernel(ctx context.Context, dir string, pkgs []debpkg.Package) (Kernel, error) {
	h := sha256.New()
	for _, p := range pkgs {
		io.WriteString(h, p.SHA256.String())
	}
	target := filepath.Join(dir, hex.EncodeToString(h.Sum(nil))[:16])
	if k, err := findKernel(target); err == nil {
		return k, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Kernel{}, fmt.Errorf("system: %w", err)
	}
	tmp, err := os.MkdirTemp(dir, "unpack-")
	if err != nil {
		return Kernel{}, fmt.Errorf("system: %w", err)
	}
	defer os.RemoveAll(tmp)
	for _, p := range pkgs {
		if err := unpack(ctx, p, tmp, kernelFile); err != nil {
			return Kernel{}, err
		}
	}
	k, err := findKernel(tmp)
	if err != nil {
		return Kernel{}, err
	}
	if err := writeIndex(k.Modules); err != nil {
		return Kernel{}, err
	}
	os.RemoveAll(target) // an incomplete one; nothing else can be there
	if err := os.Rename(tmp, target); err != nil {
		return Kernel{}, fmt.Errorf("system: %w", err)
	}
	return findKernel(target)
}

// kernelFile places boot/vmlinuz-* and the modules; the rest is left out.
func kernelFile(name string) string {
	name = strings.TrimPrefix(name, "usr/")
	if strings.HasPrefix(name, "boot/vmlinuz-") || strings.HasPrefix(name, "lib/modules/") {
		return name
	}
	return ""
}

// findKernel recognises an unpacked kernel: one kernel file and the modules of
// the same release.
func findKernel(dir string) (Kernel, error) {
	images, _ := filepath.Glob(filepath.Join(dir, "boot/vmlinuz-*"))
	if len(images) != 1 {
		return Kernel{}, fmt.Errorf("system: the kernel packages hold %d kernels, expected one", len(images))
	}
	release := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	modules := filepath.Join(dir, "lib/modules", release)
	if _, err := os.Stat(filepath.Join(modules, "modules.builtin")); err != nil {
		return Kernel{}, fmt.Errorf("system: no modules for kernel %s: %w", release, err)
	}
	return Kernel{Image: images[0], Modules: modules, Release: release}, nil
}

func writeIndex(modules string) error {
	tree, err := kmod.Scan(os.DirFS(modules), ".", decompress)
	if err != nil {
		return fmt.Errorf("system: %w", err)
	}
	for name, data := range tree.Files() {
		if err := os.WriteFile(filepath.Join(modules, name), data, 0o644); err != nil {
			return fmt.Errorf("system: %w", err)
		}
	}
	return nil
}

// unpackFile extracts one file of a package, once, and returns its path.
func unpackFile(ctx context.Context, dir string, pkg debpkg.Package, name string) (string, error) {
	target := filepath.Join(dir, pkg.SHA256.Hex()[:16], path.Base(name))
	if _, err := os.Stat(target); err == nil {
		return target, nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return "", fmt.Errorf("system: %w", err)
	}
	tmp, err := os.MkdirTemp(dir, "unpack-")
	if err != nil {
		return "", fmt.Errorf("system: %w", err)
	}
	defer os.RemoveAll(tmp)
	err = unpack(ctx, pkg, tmp, func(n string) string {
		if n == name {
			return path.Base(n)
		}
		return ""
	})
	if err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(tmp, path.Base(name)), target); err != nil {
		return "", fmt.Errorf("system: package %s has no %s: %w", pkg.Name, name, err)
	}
	return target, nil
}

// unpack writes regular files of a package below dir where place puts them.
// Names are clean (package debpkg) and links are not made, so nothing lands
// outside dir.
func unpack(ctx context.Context, pkg debpkg.Package, dir string, place func(string) string) error {
	return pkg.Files(ctx, func(name string, hdr *tar.Header, r io.Reader) error {
		to := place(name)
		if to == "" || hdr.Typeflag != tar.TypeReg {
			return nil
		}
		if hdr.Size > maxUnpacked {
			return &sizeError{name, maxUnpacked}
		}
		full := filepath.Join(dir, filepath.FromSlash(to))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		f, err := os.OpenFile(full, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	})
}

// maxModule bounds a kernel module, uncompressed: package kmod has the same bound.
const maxModule = 128 << 20

// A sizeError says that something unpacks to more than any real one.
type sizeError struct {
	what  string
	limit int64
}

func (e *sizeError) Error() string { return fmt.Sprintf("%s has more than %d bytes", e.what, e.limit) }

// readAtMost reads r to its end, which comes after limit bytes or earlier.
func readAtMost(r io.Reader, what string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, &sizeError{what, limit}
	}
	return data, err
}

// decompress opens a compressed kernel module, whose reader bounds what it takes of
// it. Xz has no decoder in Go's standard library; its tool is part of every
// distribution that uses it.
func decompress(ext string, r io.Reader) (io.Reader, error) {
	switch ext {
	case ".gz":
		return gzip.NewReader(r)
	case ".zst":
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxModule))
	case ".xz":
		data, err := unxz(r, maxModule)
		return bytes.NewReader(data), err
	}
	return nil, fmt.Errorf("unknown compression %q", ext)
}

// unxz ends xz as soon as it has written more than limit bytes: a kilobyte can
// stand for millions.
func unxz(r io.Reader, limit int64) ([]byte, error) {
	tool, err := exec.LookPath("xz")
	if err != nil {
		return nil, &image.ToolError{Tool: "xz", Package: "xz-utils", Err: exec.ErrNotFound}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, "-dc", "--memlimit-decompress=256MiB")
	cmd.Stdin, cmd.WaitDelay = r, 10*time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	data, err := readAtMost(out, "what xz unpacked", limit)
	if err != nil {
		cancel()
	}
	if waitErr := cmd.Wait(); err == nil {
		err = waitErr
	}
	return data, err
}
