//go:build unix

package fetch

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
)

// TestForeignPart: what lies under the unfinished file's name is used only when
// nobody else has a hand in it.
func TestForeignPart(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	for name, plant := range map[string]func(part string) error{
		"link":              func(part string) error { return os.Symlink(secret, part) },
		"second name":       func(part string) error { return os.Link(secret, part) },
		"writable by all":   func(part string) error { return errors.Join(os.WriteFile(part, nil, 0o600), os.Chmod(part, 0o666)) },
		"folder":            func(part string) error { return os.Mkdir(part, 0o755) },
		"pipe":              func(part string) error { return syscall.Mkfifo(part, 0o644) },
		"larger":            func(part string) error { return os.WriteFile(part, append(bytes.Clone(large), large...), 0o644) },
		"dangling link":     func(part string) error { return os.Symlink(secret+"2", part) },
		"link to the final": func(part string) error { return os.Symlink("kernel", part) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(secret, []byte("precious"), 0o644); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			part := filepath.Join(dir, durable.TempPrefix+"kernel-"+blob.Of(large).Hex()[:16]+partSuffix)
			if err := plant(part); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "kernel")
			if err := quick(t).toPath(context.Background(), chunkedJob(t, large, serve(t, honest(large))), path); err != nil {
				t.Fatal(err, attempts(err))
			}
			info, err := os.Lstat(path)
			if got, _ := os.ReadFile(path); err != nil || !bytes.Equal(got, large) || !info.Mode().IsRegular() || info.Mode().Perm()&^0o644 != 0 {
				t.Errorf("wrong content or mode: %v, %v", info.Mode(), err)
			}
			if got, _ := os.ReadFile(secret); string(got) != "precious" {
				t.Errorf("the link was followed: %d bytes", len(got))
			}
			if _, err := os.Lstat(secret + "2"); err == nil {
				t.Error("a file was made where a link points to")
			}
		})
	}
}

func TestSwappedWhileFetching(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "kernel")
	temp, err := openTemp(path, blob.Of(large), int64(len(large)))
	if err != nil {
		t.Fatal(err)
	}
	defer temp.end(false)
	if _, err := temp.WriteAt(large, 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(temp.Name()), os.WriteFile(temp.Name(), []byte("evil"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := temp.commit(); err == nil || !strings.Contains(err.Error(), "exchanged") {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the other file has the name")
	}
}

func TestDestinationIsALink(t *testing.T) {
	dir := t.TempDir()
	secret, path := filepath.Join(dir, "secret"), filepath.Join(dir, "kernel")
	if err := errors.Join(os.WriteFile(secret, []byte("precious"), 0o644), os.Symlink(secret, path)); err != nil {
		t.Fatal(err)
	}
	if err := quick(t).toPath(context.Background(), chunkedJob(t, large, serve(t, honest(large))), path); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(secret); string(got) != "precious" {
		t.Error("the link was followed")
	}
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		t.Errorf("%v, %v", info, err)
	}
}

// TestTwoAtOnce: the second has a file of its own.
func TestTwoAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kernel")
	first, err := openTemp(path, blob.Of(large), int64(len(large)))
	if err != nil {
		t.Fatal(err)
	}
	defer first.end(false)
	if err := quick(t).toPath(context.Background(), chunkedJob(t, large, serve(t, honest(large))), path); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, large) {
		t.Error("wrong content")
	}
	if err := first.still(first.Name()); err != nil {
		t.Errorf("the first lost its file: %v", err)
	}
}

func TestDiskTooSmall(t *testing.T) {
	j := jobFor(large)
	j.size = 1 << 60
	err := quick(t).toPath(context.Background(), j, filepath.Join(t.TempDir(), "kernel"))
	var local *LocalError
	if !errors.As(err, &local) || !strings.Contains(err.Error(), "are free in") || !strings.Contains(local.Hint(), "Make room") {
		t.Errorf("%v", err)
	}
}
