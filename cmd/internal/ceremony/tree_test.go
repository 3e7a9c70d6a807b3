package ceremony

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/verity"
	"github.com/phasebased/phase/manifest"
)

// putTree writes some blocks with their hash tree behind them.
func putTree(t *testing.T, name string, salt []byte) manifest.Verity {
	t.Helper()
	data := make([]byte, 0, 300*manifest.VerityBlock)
	for i := range cap(data) {
		data = append(data, byte(i>>12))
	}
	put(t, name, data)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v, err := verity.Append(f, salt)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

const create6 = "manifest create --number 6 --kernel kernel --initramfs initrd --rootfs root --rootfs-verity --out six.json"

func TestTreeIsNamed(t *testing.T) {
	for name, salt := range map[string][]byte{"plain": nil, "salted": []byte("some salt")} {
		t.Run(name, func(t *testing.T) {
			settle(t)
			v := putTree(t, "root", salt)
			line := create6
			if salt != nil {
				line += " --rootfs-salt " + hex.EncodeToString(salt)
			}
			if out := must(t, line); !strings.Contains(out, "hash tree "+v.Root.String()+" over 1.2 MB") {
				t.Error(out)
			}
			d, err := manifest.OpenManifestDraft(get(t, "six.json"))
			if err != nil {
				t.Fatal(err)
			}
			got := d.Manifest().Rootfs.Verity
			if got == nil || got.Root != v.Root || !bytes.Equal(got.Salt, salt) || got.DataSize != v.DataSize {
				t.Errorf("%+v, want %+v", got, v)
			}
			must(t, "manifest sign six.json --root 1.root.json --key t1.key --kernel kernel --initramfs initrd --rootfs root --yes")
		})
	}
}

// A file that ends with a tree may belong to an initramfs that knows nothing of it.
func TestTreeIsNotNamedUnasked(t *testing.T) {
	settle(t)
	putTree(t, "root", nil)
	must(t, strings.Replace(create6, " --rootfs-verity", "", 1))
	d, err := manifest.OpenManifestDraft(get(t, "six.json"))
	if err != nil || d.Manifest().Rootfs.Verity != nil {
		t.Errorf("%v, %+v", err, d)
	}
}

func TestTreeRefused(t *testing.T) {
	settle(t)
	putTree(t, "root", []byte{1})
	for line, want := range map[string]string{
		create6:                         "does not end with its hash tree",
		create6 + " --rootfs-salt 02":   "does not end with its hash tree",
		create6 + " --rootfs-salt salt": "in hexadecimal",
		create6 + " --rootfs-salt " + strings.Repeat("00", manifest.MaxVeritySalt+1):                                   "in hexadecimal",
		strings.Replace(create6, " --rootfs-verity", " --rootfs-salt 01", 1):                                           "--rootfs-verity",
		strings.Replace(create6, " --rootfs root", "", 1):                                                              "--rootfs",
		"manifest create --number 6 --kernel kernel --initramfs initrd --rootfs kernel --rootfs-verity --out six.json": "does not end with its hash tree",
	} {
		if _, _, err := call(t, now, strings.Fields(line)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
	if _, err := os.Stat("six.json"); !errors.Is(err, os.ErrNotExist) {
		t.Error("a refused command left a file")
	}
}

// Who describes a release might name a right file, and the root hash of another
// one: machines that open it in their cache compare nothing else.
func TestWrongTreeIsNotSigned(t *testing.T) {
	settle(t)
	putTree(t, "root", nil)
	must(t, create6)
	d, err := manifest.OpenManifestDraft(get(t, "six.json"))
	if err != nil {
		t.Fatal(err)
	}
	m := d.Manifest()
	m.Rootfs.Verity.Root = blob.Of([]byte("another"))
	if d, err = manifest.DraftManifest(m); err != nil {
		t.Fatal(err)
	}
	data, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	put(t, "six.json", data)
	_, _, err = call(t, now, strings.Fields("manifest sign six.json --root 1.root.json --key t1.key --rootfs root --yes")...)
	if !errors.Is(err, verity.ErrTree) && (err == nil || !strings.Contains(err.Error(), "is not that of its rootfs")) {
		t.Errorf("signed: %v", err)
	}
	if !bytes.Equal(get(t, "six.json"), data) {
		t.Error("the file was changed")
	}
}
