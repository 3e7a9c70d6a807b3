package trust

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/phasebased/phase/manifest"
)

// chain returns root files of versions 1 to n; versions above 1 are at their
// index. All are signed by one key.
func chain(t *testing.T, n int64) [][]byte {
	t.Helper()
	list := [][]byte{nil}
	for version := int64(1); version <= n; version++ {
		list = append(list, rootFile(t, version, nil, "root", "root"))
	}
	return list
}

// stateWithRoots returns the root of version 1, and a state that holds files by
// their names, not by what they are.
func stateWithRoots(t *testing.T, files map[int64][]byte) (*State, *manifest.Root) {
	t.Helper()
	s := OpenState(t.TempDir())
	for version, raw := range files {
		if err := os.WriteFile(s.rootPath(version), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s, parseRoot(t, rootFile(t, 1, nil, "root", "root"))
}

// checkRoots replays and compares; part is found in the warning, "" for none.
func checkRoots(t *testing.T, s *State, medium *manifest.Root, version int64, part string) {
	t.Helper()
	newest, raws, err := s.Roots(medium)
	if newest.Version() != version || len(raws) != int(version-medium.Version()) {
		t.Errorf("version %d after %d files, want version %d", newest.Version(), len(raws), version)
	}
	var typed *Error
	switch {
	case part == "" && err != nil:
		t.Error(err)
	case part != "" && (!errors.As(err, &typed) || !strings.Contains(err.Error(), part)):
		t.Errorf("warning is %v, want %q", err, part)
	case part != "" && (typed.Code() != "VFY-023" || typed.Hint() == ""):
		t.Errorf("code %s, hint %q", typed.Code(), typed.Hint())
	}
}

func TestRootsAreReplayed(t *testing.T) {
	s := OpenState(filepath.Join(t.TempDir(), "made", "on", "demand"))
	files := chain(t, 4)
	medium := parseRoot(t, files[1])
	checkRoots(t, s, medium, 1, "")
	for version := int64(2); version <= 4; version++ {
		for range 2 { // the second time writes nothing
			if err := s.SaveRoot(version, files[version]); err != nil {
				t.Fatal(err)
			}
		}
		checkRoots(t, s, medium, version, "")
	}
	checkRoots(t, s, parseRoot(t, files[3]), 4, "") // the medium was written anew
	checkRoots(t, s, parseRoot(t, files[4]), 4, "")
	_, raws, _ := s.Roots(medium)
	for i, raw := range raws {
		if !bytes.Equal(raw, files[i+2]) {
			t.Errorf("file %d is not what was stored", i)
		}
	}
}

// TestRotatedRootKey: the new key alone makes the next successor.
func TestRotatedRootKey(t *testing.T) {
	files := map[int64][]byte{
		2: rootFile(t, 2, nil, "next", "root", "next"),
		3: rootFile(t, 3, nil, "next", "next"),
	}
	s, medium := stateWithRoots(t, files)
	checkRoots(t, s, medium, 3, "")
}

func TestBadStoredRootEndsTheChain(t *testing.T) {
	files := chain(t, 4)
	for name, tt := range map[string]struct {
		bad  []byte
		part string
	}{
		"empty":           {nil, "version 3"},
		"text":            {[]byte("root"), "version 3"},
		"cut":             {files[3][:len(files[3])-1], "version 3"},
		"bit flipped":     {bytes.Replace(files[3], []byte(`"threshold":1`), []byte(`"threshold":0`), 1), "version 3"},
		"too large":       {append(files[3], bytes.Repeat([]byte(" "), manifest.MaxRootBytes)...), "larger than"},
		"skips a version": {files[4], "version 3"},
		"repeats one":     {files[2], "version 3"},
		"stranger":        {rootFile(t, 3, nil, "stranger", "stranger"), "version 3"},
		"taken over":      {rootFile(t, 3, nil, "stranger", "stranger", "targets"), "version 3"},
	} {
		s, medium := stateWithRoots(t, map[int64][]byte{2: files[2], 3: tt.bad, 4: files[4]})
		t.Run(name, func(t *testing.T) {
			checkRoots(t, s, medium, 2, tt.part)
			if err := s.SaveRoot(3, files[3]); err != nil { // fetched anew
				t.Fatal(err)
			}
			checkRoots(t, s, medium, 4, "")
		})
	}
}

func TestStoredRootsThatAreNoFiles(t *testing.T) {
	files := chain(t, 2)
	for name, make := range map[string]func(path string) error{
		"symbolic link": func(p string) error {
			return errors.Join(os.WriteFile(p+".real", files[2], 0o600), os.Symlink(p+".real", p))
		},
		"dangling link": func(p string) error { return os.Symlink("nowhere", p) },
		"directory":     func(p string) error { return os.Mkdir(p, 0o700) },
		"pipe":          func(p string) error { return syscall.Mkfifo(p, 0o600) },
	} {
		s, medium := stateWithRoots(t, nil)
		t.Run(name, func(t *testing.T) {
			if err := make(s.rootPath(2)); err != nil {
				t.Fatal(err)
			}
			checkRoots(t, s, medium, 1, "version 2")
		})
	}
}

func TestGapEndsTheChain(t *testing.T) {
	files := chain(t, 4)
	s, medium := stateWithRoots(t, map[int64][]byte{2: files[2], 4: files[4]})
	checkRoots(t, s, medium, 2, "")
}

// TestEndlessChain stops after manifest.MaxRootChain steps, in silence: it is
// no damage.
func TestEndlessChain(t *testing.T) {
	files := map[int64][]byte{}
	for version, raw := range chain(t, manifest.MaxRootChain+3)[2:] {
		files[int64(version+2)] = raw
	}
	s, medium := stateWithRoots(t, files)
	checkRoots(t, s, medium, 1+manifest.MaxRootChain, "")
}

func TestRootsWithoutARootToFollow(t *testing.T) {
	s, _ := stateWithRoots(t, map[int64][]byte{1: rootFile(t, 1, nil, "root", "root")})
	if newest, raws, err := s.Roots(nil); newest != nil || raws != nil || err != nil {
		t.Errorf("%v, %v, %v", newest, raws, err)
	}
	bare, err := manifest.KeyRoot(role("targets").Keys[0])
	if err != nil {
		t.Fatal(err)
	}
	checkRoots(t, s, bare, 0, "version 1") // nothing can succeed a bare key
}

func TestRootThatCannotBeKept(t *testing.T) {
	s := OpenState(t.TempDir())
	for _, bad := range []struct {
		version int64
		raw     []byte
	}{{0, []byte("{}")}, {1, []byte("{}")}, {-1, []byte("{}")}, {2, nil}, {2, make([]byte, manifest.MaxRootBytes+1)}} {
		var typed *Error
		if err := s.SaveRoot(bad.version, bad.raw); !errors.As(err, &typed) {
			t.Errorf("%d with %d bytes: %v", bad.version, len(bad.raw), err)
		}
	}
	if content := files(t, s.dir); len(content) != 0 {
		t.Error(fmt.Sprint(content))
	}
}
