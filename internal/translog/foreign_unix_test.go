//go:build unix

package translog

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/phasebased/phase/internal/durable"
)

// TestForeignFiles: a folder from a stranger holds pipes, devices and links where
// files belong. They are refused at once.
func TestForeignFiles(t *testing.T) {
	kinds := map[string]func(path string) error{
		"pipe":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"device": func(path string) error { return os.Symlink("/dev/zero", path) },
		"link": func(path string) error {
			return errors.Join(os.WriteFile(path+".real", nil, 0o600), os.Symlink(path+".real", path))
		},
	}
	for _, file := range []string{checkpointName, keyName, tilePath(0, 0, 3), tilePath(entriesLevel, 0, 3),
		filepath.Join(cosignaturesName, "3", "00000001"), pendingName} {
		for kind, do := range kinds {
			config := started(t)
			add(t, config, "a", "b", "c")
			path := filepath.Join(config.Dir, file)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.RemoveAll(path), do(path)); err != nil {
				t.Fatal(err)
			}
			l, err := Open(config)
			if err == nil {
				err = errors.Join(l.Reader().Check(nil), l.Close())
			}
			if !errors.Is(err, durable.ErrNotRegular) {
				t.Errorf("%s is a %s: %v", file, kind, err)
			}
		}
	}
}

// TestWitnessWritesNowhereElse: a hostile log lays links where a cosignature is
// going to be written.
func TestWitnessWritesNowhereElse(t *testing.T) {
	for _, at := range []string{cosignaturesName, filepath.Join(cosignaturesName, "2")} {
		config, elsewhere := started(t), t.TempDir()
		add(t, config, "a", "b")
		// Where the reader looks there is a folder, so that only the writer is in the way.
		if err := errors.Join(os.MkdirAll(filepath.Join(elsewhere, "2"), 0o755),
			os.MkdirAll(filepath.Dir(filepath.Join(config.Dir, at)), 0o755), os.Symlink(elsewhere, filepath.Join(config.Dir, at))); err != nil {
			t.Fatal(err)
		}
		w := witness(t, "w1", filepath.Join(t.TempDir(), "memory"))
		w.First = true
		if c, err := w.Cosign(config.Dir, testNow); !errors.Is(err, durable.ErrNotFolder) {
			t.Errorf("%s is a link: %+v, %v", at, c, err)
		}
		err := filepath.WalkDir(elsewhere, func(path string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				t.Errorf("%s is a link: %s was written", at, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestWitnessReplacesALink that lies in the place of its file.
func TestWitnessReplacesALink(t *testing.T) {
	config := started(t)
	add(t, config, "a", "b")
	target := filepath.Join(t.TempDir(), "target")
	path := cosign(t, config.Dir, "w1").Path
	if filepath.Dir(path) != filepath.Join(config.Dir, cosignaturesName, strconv.Itoa(2)) {
		t.Errorf("the file is %s", path)
	}
	if err := errors.Join(os.WriteFile(target, []byte("kept"), 0o600), os.Remove(path), os.Symlink(target, path)); err != nil {
		t.Fatal(err)
	}
	w := witness(t, "w1", filepath.Join(t.TempDir(), "memory"))
	w.First = true
	if _, err := w.Cosign(config.Dir, testNow); err != nil {
		t.Fatal(err)
	}
	if kept, _ := os.ReadFile(target); string(kept) != "kept" {
		t.Errorf("the link was followed: %q", kept)
	}
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		t.Errorf("%v, %v", info, err)
	}
}
