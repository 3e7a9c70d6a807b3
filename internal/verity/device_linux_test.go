package verity_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/guest"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/verity"
	"github.com/phasebased/phase/manifest"
)

// TestOpen lets a kernel read a file through its tree: what is right is given, what
// is wrong is EIO and is noted, also in the tree itself, and all that was wrong
// before it was opened.
func TestOpen(t *testing.T) {
	if !guest.Run(t, guest.Config{Modules: []string{"loop", "dm_verity"}}) {
		return
	}
	for name, salt := range map[string][]byte{"no salt": nil, "salt": []byte("of thirty-two bytes, the longest.")[:manifest.MaxVeritySalt]} {
		for _, blocks := range []int{1, 2, 300} {
			path, v, size := file(t, blocks, salt)
			d := open(t, path, v, size)
			got, err := os.ReadFile(d.Path)
			if err != nil || int64(len(got)) != v.DataSize || got[len(got)-1] != byte(blocks) {
				t.Errorf("%s, %d blocks: %d bytes, %v", name, blocks, len(got), err)
			}
			if corrupt, err := d.Corrupt(); err != nil || corrupt {
				t.Errorf("%s, %d blocks: corrupt is %v, %v", name, blocks, corrupt, err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	for what, at := range map[string]int64{"first block": 5, "last block": 299*manifest.VerityBlock + 7, "top of the tree": 300*manifest.VerityBlock + 3, "leaves": 302*manifest.VerityBlock + 9} {
		t.Run(what, func(t *testing.T) { rots(t, at) })
	}
	t.Run("while it is open", rotsLater)
	t.Run("refusals", refusals)
}

// file is some blocks with their tree.
func file(t *testing.T, blocks int, salt []byte) (path string, v manifest.Verity, size int64) {
	t.Helper()
	var data []byte
	for i := range blocks {
		data = append(data, bytes.Repeat([]byte{byte(i + 1)}, manifest.VerityBlock)...)
	}
	path = filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if v, err = verity.Append(f, salt); err != nil {
		t.Fatal(err)
	}
	return path, v, v.DataSize + manifest.VerityTreeSize(v.DataSize)
}

func open(t *testing.T, path string, v manifest.Verity, size int64) *verity.Device {
	t.Helper()
	loop, err := sysinit.AttachLoop(path)
	if err != nil {
		t.Fatal(err)
	}
	defer loop.Close()
	d, err := verity.Open("test", loop.Device, v, size)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func rots(t *testing.T, at int64) {
	path, v, size := file(t, 300, nil)
	flip(t, path, at)
	d := open(t, path, v, size)
	defer d.Close()
	f, err := os.Open(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	wrong := 0
	block := make([]byte, manifest.VerityBlock)
	for i := range int64(300) {
		n, err := f.ReadAt(block, i*manifest.VerityBlock)
		switch {
		case errors.Is(err, unix.EIO):
			wrong++
		case err != nil && err != io.EOF:
			t.Errorf("block %d: %v", i, err)
		case n != len(block) || !bytes.Equal(block, bytes.Repeat([]byte{byte(i + 1)}, len(block))):
			t.Fatalf("block %d has other bytes", i)
		}
	}
	if corrupt, err := d.Corrupt(); wrong == 0 || err != nil || !corrupt {
		t.Errorf("%d blocks were refused; corrupt is %v, %v", wrong, corrupt, err)
	}
}

// rotsLater: what was right when it was opened is still compared when it is read.
func rotsLater(t *testing.T) {
	path, v, size := file(t, 300, nil)
	d := open(t, path, v, size)
	defer d.Close()
	f, err := os.Open(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, manifest.VerityBlock)
	if _, err := f.ReadAt(block, 0); err != nil {
		t.Fatal(err)
	}
	flip(t, path, 200*manifest.VerityBlock)
	if _, err := f.ReadAt(block, 200*manifest.VerityBlock); !errors.Is(err, unix.EIO) {
		t.Errorf("a block that was changed meanwhile: %v", err)
	}
}

func refusals(t *testing.T) {
	path, v, size := file(t, 300, nil)
	loop, err := sysinit.AttachLoop(path)
	if err != nil {
		t.Fatal(err)
	}
	defer loop.Close()
	for name, change := range map[string]func(v *manifest.Verity, name, source *string, size *int64){
		"no root":   func(v *manifest.Verity, _, _ *string, _ *int64) { v.Root = blob.Digest{} },
		"odd data":  func(v *manifest.Verity, _, _ *string, _ *int64) { v.DataSize++ },
		"long salt": func(v *manifest.Verity, _, _ *string, _ *int64) { v.Salt = make([]byte, 33) },
		"no name":   func(_ *manifest.Verity, name, _ *string, _ *int64) { *name = "" },
		"no device": func(_ *manifest.Verity, _, source *string, _ *int64) { *source = "/dev/none" },
		"a small one": func(v *manifest.Verity, _, _ *string, size *int64) {
			v.DataSize *= 2
			*size = v.DataSize + manifest.VerityTreeSize(v.DataSize)
		},
		"other size": func(_ *manifest.Verity, _, _ *string, size *int64) { *size++ },
	} {
		wrong, called, source, bytes := v, "refused", loop.Device, size
		change(&wrong, &called, &source, &bytes)
		var failed *verity.OpenError
		if d, err := verity.Open(called, source, wrong, bytes); !errors.As(err, &failed) {
			t.Errorf("%s: %v, %v", name, d, err)
		}
	}
	d, err := verity.Open("refused", loop.Device, v, size) // nothing was left behind
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verity.Open("refused", loop.Device, v, size); err == nil {
		t.Error("two devices of one name")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
