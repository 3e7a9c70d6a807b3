package vm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/vm"
)

// TestTwoBuildsAreIdentical builds the medium and the published artifacts twice
// from the same inputs: in another folder, from copies with other dates, and
// with nothing reused.
func TestTwoBuildsAreIdentical(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	b.image = filepath.Join(b.run, "first.img")
	nodes := []lab.Node{{PeerID: "12D3KooWQGLiWTAuy6jV6rxQc4NbtxDQ8JLSQGaew5hPFYofeuuk", Address: "/ip4/10.0.2.2/tcp/4001"}}
	options := lab.ImageOptions{Out: b.image, Mode: "internet", Menu: 10, Nodes: nodes, Cache: testCache}
	if _, err := b.lab.Image(ctx, options); err != nil {
		t.Fatal(err)
	}
	second := secondLab(t)
	options.Out = filepath.Join(b.run, "second.img")
	if _, err := second.Image(ctx, options); err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2]string{
		"image":     {b.image, options.Out},
		"seed":      {b.lab.Seed, second.Seed},
		"initramfs": {b.lab.Node.Initramfs.Path, second.Node.Initramfs.Path},
		"rootfs":    {b.lab.Node.Rootfs.Path, second.Node.Rootfs.Path},
	} {
		if !bytes.Equal(digest(t, pair[0]), digest(t, pair[1])) {
			t.Errorf("%s: the second build has other bytes", name)
		}
	}
}

// secondLab is a lab in a folder of its own, with copies of the first one's
// keys, packages and programs.
func secondLab(t *testing.T) *lab.Lab {
	t.Helper()
	work, target := t.TempDir(), t.TempDir()
	old := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	first := filepath.Join(repository, "build", "lab")
	copyFolder(t, filepath.Join(first, "keys"), filepath.Join(work, "keys"), old)
	copyFolder(t, filepath.Join(first, "inputs", "packages"), filepath.Join(work, "inputs", "packages"), old)
	copyFolder(t, filepath.Join(repository, "build", "target", vm.X8664), target, old)
	l, err := lab.New(context.Background(), lab.Config{
		Arch: vm.X8664, Target: target, Plasmd: filepath.Join(target, "plasmd"), Work: work,
		Version: labVersion, Time: labTime, Offline: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func copyFolder(t *testing.T, from, to string, date time.Time) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(to, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, date, date)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func digest(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		t.Fatal(err)
	}
	return hash.Sum(nil)
}
