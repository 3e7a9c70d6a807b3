package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/delta"
	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/verity"
)

// deltaTime is the date in all images of this part.
var deltaTime = time.Unix(1_700_000_000, 0)

// deltaFigures measures what patches between root file systems cost: of two real
// updates of Debian packages, and of this project's own program.
func deltaFigures(ctx context.Context) ([]Figure, error) {
	// Where a name begins so, the go command looks for no packages: what is unpacked
	// there is none of this module.
	work, err := filepath.Abs(filepath.Join("build", "bench", "_delta"))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return nil, err
	}
	u, err := debianUpdates(ctx, filepath.Join(work, "apt"))
	if err != nil {
		return nil, err
	}
	old, err := u.image(ctx, work, nil)
	if err != nil {
		return nil, err
	}
	var figures []Figure
	for _, c := range []struct {
		name, goal string
		change     []string
	}{
		{"delta, one Debian package changed", "ratio <= 0.08", u.one()},
		{"delta, fifteen Debian packages changed", "ratio <= 0.15", u.many(15)},
	} {
		fmt.Fprintf(os.Stderr, "%s: %v\n", c.name, c.change)
		next, err := u.image(ctx, work, c.change)
		if err != nil {
			return nil, err
		}
		more, err := compare(ctx, c.name, c.goal, old, next)
		if err != nil {
			return nil, err
		}
		figures = append(figures, more...)
	}
	more, err := ownFigures(ctx, work)
	return append(figures, more...), err
}

// ownFigures compares root file systems with plasmd and with a plasmd to which
// code was added, so that everything behind it moved.
func ownFigures(ctx context.Context, work string) ([]Figure, error) {
	added := filepath.Join(work, "added.txt")
	const source = "package main\n\nimport (\n\t\"encoding/csv\"\n\t\"os\"\n)\n\nfunc init() {\n\tif len(os.Args) > 1000 {\n\t\tcsv.NewReader(os.Stdin).ReadAll()\n\t}\n}\n"
	if err := os.WriteFile(added, []byte(source), 0o644); err != nil {
		return nil, err
	}
	place, err := filepath.Abs(filepath.Join("cmd", "plasmd", "added.go"))
	if err != nil {
		return nil, err
	}
	overlay := filepath.Join(work, "overlay.json")
	if err := os.WriteFile(overlay, fmt.Appendf(nil, `{"Replace":{%q:%q}}`, place, added), 0o644); err != nil {
		return nil, err
	}
	var images [2][]byte
	for i, more := range [][]string{nil, {"-overlay", overlay}} {
		program := filepath.Join(work, "plasmd")
		args := append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", program}, more...)
		if out, err := exec.CommandContext(ctx, "go", append(args, "./cmd/plasmd")...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go build: %w: %s", err, out)
		}
		t := &image.Tree{}
		t.File("usr/bin/plasmd", 0o755, program)
		if images[i], err = squash(ctx, work, t); err != nil {
			return nil, err
		}
	}
	return compare(ctx, "delta, code added to plasmd", "", images[0], images[1])
}

// squash returns the squashfs of a tree.
func squash(ctx context.Context, work string, t *image.Tree) ([]byte, error) {
	path := filepath.Join(work, "image")
	if err := (image.Squashfs{Time: deltaTime}).Write(ctx, path, t); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0) // releases have a hash tree behind it
	if err != nil {
		return nil, err
	}
	_, err = verity.Append(f, nil)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// compare makes a patch, applies it and compares its size with that of the new
// image, and the time with that of a download in full from this machine.
func compare(ctx context.Context, name, goal string, old, next []byte) ([]Figure, error) {
	var patch, result bytes.Buffer
	oldSize, nextSize := int64(len(old)), int64(len(next))
	if err := delta.Make(&patch, bytes.NewReader(old), oldSize, bytes.NewReader(next), nextSize); err != nil {
		return nil, err
	}
	result.Grow(len(next))
	size := float64(patch.Len())
	start := time.Now()
	if err := delta.Apply(&result, bytes.NewReader(old), oldSize, &patch, nextSize); err != nil {
		return nil, err
	}
	if blob.Of(result.Bytes()) != blob.Of(next) {
		return nil, errors.New("the patched image differs")
	}
	applied := time.Since(start).Seconds()
	full, err := downloadTime(ctx, next)
	if err != nil {
		return nil, err
	}
	return []Figure{
		{name, size / 1e6, "MB", float64(nextSize) / 1e6, size / float64(nextSize), goal},
		{name + ": apply and check; download in full", applied, "s", full, applied / full, ""},
	}, nil
}

// downloadTime is how long a download of b from this machine takes in seconds,
// with its digest.
func downloadTime(ctx context.Context, b []byte) (float64, error) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", deltaTime, bytes.NewReader(b))
	}))
	defer server.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	res, err := server.Client().Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, blob.NewReader(res.Body, blob.Of(b), int64(len(b)))); err != nil {
		return 0, err
	}
	return time.Since(start).Seconds(), nil
}

// folderTree is what a folder holds.
func folderTree(root string) (*image.Tree, error) {
	t := &image.Tree{}
	return t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name, relErr := filepath.Rel(root, path)
		if err = errors.Join(err, relErr); err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch d.Type() {
		case fs.ModeDir:
			t.Dir(name, info.Mode().Perm())
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			t.Symlink(name, target)
		case 0:
			t.File(name, info.Mode().Perm(), path)
		}
		return nil
	})
}
