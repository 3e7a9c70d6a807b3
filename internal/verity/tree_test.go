package verity

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/manifest"
)

// content is size bytes that differ from block to block.
func content(size int) []byte {
	out := make([]byte, 0, size+sha256.Size)
	for sum := sha256.Sum256(nil); len(out) < size; sum = sha256.Sum256(sum[:]) {
		out = append(out, sum[:]...)
	}
	return out[:size]
}

// appended is a file with its tree.
func appended(t testing.TB, data, salt []byte) (string, manifest.Verity) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rootfs")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v, err := Append(f, salt)
	if err != nil {
		t.Fatal(err)
	}
	return path, v
}

// slowRoot is the root as one would write it down without minding memory: rows of
// hashes, each made of the one below it.
func slowRoot(data, salt []byte) (root blob.Digest, tree []byte) {
	for {
		var row []byte
		for at := 0; at < len(data); at += blockSize {
			sum := sha256.Sum256(append(bytes.Clone(salt), data[at:at+blockSize]...))
			row = append(row, sum[:]...)
		}
		if len(data) == blockSize {
			return blob.FromSum([32]byte(row)), tree
		}
		row = append(row, make([]byte, -len(row)&(blockSize-1))...)
		tree = append(bytes.Clone(row), tree...)
		data = row
	}
}

// sizes are on both sides of where a tree gets another block or another level.
var sizes = []int{1, 4095, blockSize, blockSize + 1, 2 * blockSize, 127 * blockSize, 128 * blockSize, 128*blockSize + 1,
	129 * blockSize, 256 * blockSize, 257*blockSize - 7}

// large has one more level than the others.
const large = 128*128*blockSize + 1

// TestAppend compares with the tree written down in the plainest way.
func TestAppend(t *testing.T) {
	for _, size := range append([]int{large}, sizes...) {
		for _, salt := range [][]byte{nil, {1}, bytes.Repeat([]byte{7}, manifest.MaxVeritySalt)} {
			if size == large && salt != nil {
				continue
			}
			data := content(size)
			path, v := appended(t, data, salt)
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data = append(data, make([]byte, -size&(blockSize-1))...)
			root, tree := slowRoot(data, salt)
			if v.Root != root || v.DataSize != int64(len(data)) || !bytes.Equal(got, append(data, tree...)) {
				t.Errorf("%d bytes, salt %x: root %s of %d bytes, want %s; the file has %d bytes, want %d",
					size, salt, v.Root, v.DataSize, root, len(got), len(data)+len(tree))
			}
			if int64(len(got)) != v.DataSize+manifest.VerityTreeSize(v.DataSize) {
				t.Errorf("%d bytes: the tree is not of the size that a manifest asks for", size)
			}
			if err := Check(bytes.NewReader(got), int64(len(got)), v); err != nil {
				t.Error(err)
			}
			if found, err := Find(bytes.NewReader(got), int64(len(got)), salt); err != nil || !reflect.DeepEqual(found, v) {
				t.Errorf("found %+v, %v; want %+v", found, err, v)
			}
		}
	}
}

// TestVeritysetup compares byte for byte with the tool that everybody uses.
func TestVeritysetup(t *testing.T) {
	tool := nettest.Tool(t, "veritysetup")
	rootLine := regexp.MustCompile(`Root hash:\s+([0-9a-f]{64})`)
	for _, size := range sizes {
		for _, salt := range [][]byte{nil, []byte("salt of a tree")} {
			path, v := appended(t, content(size), salt)
			ours, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, v.DataSize); err != nil {
				t.Fatal(err)
			}
			text := "-"
			if salt != nil {
				text = hex.EncodeToString(salt)
			}
			out, err := exec.Command(tool, "format", "--no-superblock", "--format=1", "--hash=sha256",
				"--data-block-size=4096", "--hash-block-size=4096", "--salt="+text,
				"--data-blocks="+strconv.FormatInt(v.DataSize/blockSize, 10), "--hash-offset="+strconv.FormatInt(v.DataSize, 10), path, path).CombinedOutput()
			if err != nil {
				t.Fatalf("%d bytes: %v\n%s", size, err, out)
			}
			theirs, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			found := rootLine.FindSubmatch(out)
			if found == nil || string(found[1]) != v.Root.Hex() {
				t.Errorf("%d bytes: root %s, but it says\n%s", size, v.Root.Hex(), out)
			}
			if !bytes.Equal(ours, theirs) {
				t.Errorf("%d bytes: the files differ (%d and %d bytes)", size, len(ours), len(theirs))
			}
		}
	}
}

// TestCheckNotices one wrong bit anywhere, and sizes that do not fit.
func TestCheckNotices(t *testing.T) {
	path, v := appended(t, content(200*blockSize), []byte("x"))
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(raw); at += 3*blockSize + 101 {
		raw[at] ^= 1
		if err := Check(bytes.NewReader(raw), int64(len(raw)), v); !errors.Is(err, ErrTree) {
			t.Fatalf("a wrong bit at byte %d: %v", at, err)
		}
		raw[at] ^= 1
	}
	for name, change := range map[string]func(v *manifest.Verity){
		"another root": func(v *manifest.Verity) { v.Root = blob.Of(nil) },
		"another salt": func(v *manifest.Verity) { v.Salt = []byte("y") },
		"less data":    func(v *manifest.Verity) { v.DataSize -= blockSize },
		"more data":    func(v *manifest.Verity) { v.DataSize += 2 * blockSize },
		"no data":      func(v *manifest.Verity) { v.DataSize = 0 },
		"odd data":     func(v *manifest.Verity) { v.DataSize++ },
	} {
		wrong := v
		change(&wrong)
		if err := Check(bytes.NewReader(raw), int64(len(raw)), wrong); !errors.Is(err, ErrTree) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Check(bytes.NewReader(raw[:len(raw)-1]), int64(len(raw)), v); err == nil {
		t.Error("a file that is too short")
	}
}

// TestFindRefuses what no tree was ever put behind.
func TestFindRefuses(t *testing.T) {
	for _, size := range []int{0, 1, blockSize - 1, blockSize + 1, 2 * blockSize, 10 * blockSize, 130 * blockSize, 131*blockSize - 1} {
		if v, err := Find(bytes.NewReader(make([]byte, size)), int64(size), nil); !errors.Is(err, ErrTree) {
			t.Errorf("%d bytes: %+v, %v", size, v, err)
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "empty"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Append(f, nil); err == nil {
		t.Error("a tree over nothing")
	}
	if _, err := f.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := Append(f, make([]byte, manifest.MaxVeritySalt+1)); err == nil {
		t.Error("a salt that no manifest can name")
	}
}

// FuzzCheck: whatever a file holds, it is right only if it is what Append made of
// its data, and nothing panics.
func FuzzCheck(f *testing.F) {
	for _, size := range []int{1, blockSize, 3 * blockSize} {
		path, v := appended(f, content(size), []byte("s"))
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, v.DataSize, v.Root.Hex(), v.Salt)
	}
	f.Add([]byte{}, int64(0), "", []byte{})
	f.Add(make([]byte, blockSize), int64(-blockSize), "", []byte{})
	f.Fuzz(func(t *testing.T, raw []byte, dataSize int64, root string, salt []byte) {
		digest, err := blob.Parse(blob.Prefix + root)
		if err != nil {
			digest = blob.Of(raw)
		}
		v := manifest.Verity{Root: digest, Salt: salt, DataSize: dataSize}
		if Check(bytes.NewReader(raw), int64(len(raw)), v) != nil {
			return
		}
		want, tree := slowRoot(raw[:dataSize], salt)
		if want != digest || !bytes.Equal(tree, raw[dataSize:]) {
			t.Fatal("it passed, and is not that tree")
		}
	})
}
