package diskformat

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/nettest"
)

// drivers are QEMU's names of the formats.
var drivers = map[string]string{QCOW2: "qcow2", VMDK: "vmdk", VMDKStream: "vmdk", VHD: "vpc", VHDX: "vhdx"}

var testTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// part is a run of random bytes on a disk.
type part struct{ at, size int64 }

// disks are raw images by what is special about them.
var disks = map[string]struct {
	size  int64
	parts []part
}{
	"empty":      {16 << 20, nil},
	"dense":      {9 << 20, []part{{0, 9 << 20}}},
	"sparse":     {413 << 20, []part{{0, 17 << 10}, {1 << 20, 70000}, {300<<20 + 12345, 3 << 20}, {413<<20 - 17<<10, 17 << 10}}},
	"odd":        {5<<20 + 12345, []part{{4<<20 - 7, 1<<20 + 7 + 12345}}},
	"tiny":       {1, []part{{0, 1}}},
	"huge":       {40<<30 + 512, []part{{0, 4096}, {4<<30 - 4096, 8192}, {4 << 30, 512}, {17 << 30, 100000}, {40<<30 + 511, 1}}},
	"many zeros": {64 << 20, []part{{64<<20 - 1, 1}}},
}

// raw writes a sparse file with these bytes, the same each time.
func raw(t *testing.T, size int64, parts []part) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	random := rand.NewChaCha8([32]byte{})
	for _, p := range parts {
		if _, err := io.CopyN(io.NewOffsetWriter(f, p.at), random, p.size); err != nil {
			t.Fatal(err)
		}
	}
	// A byte of data is never zero, so that the end of a part is one.
	for _, p := range parts {
		if _, err := f.WriteAt([]byte{1}, p.at+p.size-1); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

// qemuImg runs the judge.
func qemuImg(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(nettest.Tool(t, "qemu-img"), args...).CombinedOutput()
	if err != nil {
		t.Errorf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func write(t *testing.T, src io.ReaderAt, size int64, format, out string) {
	t.Helper()
	if err := Write(context.Background(), src, size, Config{Format: format, Out: out, Time: testTime}); err != nil {
		t.Fatal(err)
	}
}

// TestJudged has QEMU check every format of every disk, and compare it with the
// raw image.
func TestJudged(t *testing.T) {
	for name, disk := range disks {
		for format, driver := range drivers {
			t.Run(name+"/"+format, func(t *testing.T) {
				src := raw(t, disk.size, disk.parts)
				out := filepath.Join(t.TempDir(), "disk."+format)
				write(t, src, disk.size, format, out)
				if format != VHD { // QEMU has no check for it
					qemuImg(t, "check", "-q", "-f", driver, out)
				}
				if format == VHDX && disk.size > 1<<30 {
					compareParts(t, src, driver, out, disk.parts) // QEMU reads its zeros one by one
					return
				}
				qemuImg(t, "compare", "-q", "-f", "raw", "-F", driver, src.Name(), out)
			})
		}
	}
}

// compareParts compares the MiB in which each part begins.
func compareParts(t *testing.T, src *os.File, driver, out string, parts []part) {
	t.Helper()
	for _, p := range parts {
		window := out + ".window"
		qemuImg(t, "dd", "-f", driver, "-O", "raw", "bs=1048576", // It counts from the beginning, not from what it skips.
			fmt.Sprintf("count=%d", p.at>>20+1), fmt.Sprintf("skip=%d", p.at>>20), "if="+out, "of="+window)
		got, err := os.ReadFile(window)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, 1<<20)
		if _, err := src.ReadAt(want, p.at>>20<<20); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("the MiB at byte %d differs", p.at>>20<<20)
		}
	}
}

// TestBackToRaw has QEMU convert disks of sizes that all formats can express back
// to raw ones: no byte is lost or added.
func TestBackToRaw(t *testing.T) {
	for _, name := range []string{"sparse", "dense"} {
		disk := disks[name]
		src := raw(t, disk.size, disk.parts)
		for format, driver := range drivers {
			out := filepath.Join(t.TempDir(), "disk."+format)
			write(t, src, disk.size, format, out)
			back := out + ".raw"
			qemuImg(t, "convert", "-f", driver, "-O", "raw", out, back)
			if want, got := digest(t, src.Name()), digest(t, back); got != want {
				t.Errorf("%s of the %s disk differs when it is converted back", format, name)
			}
		}
	}
}

func digest(t *testing.T, path string) [32]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

// TestWritable lets QEMU write to the disks, into blocks that exist and such that
// do not, and check them again.
func TestWritable(t *testing.T) {
	nettest.Require(t, "qemu-io")
	disk := disks["sparse"]
	src := raw(t, disk.size, disk.parts)
	for format, driver := range drivers {
		if format == VMDKStream {
			continue // read-only by its nature
		}
		out := filepath.Join(t.TempDir(), "disk."+format)
		write(t, src, disk.size, format, out)
		cmd := exec.Command("qemu-io", "-f", driver, "-c", "write -P 7 1M 64k", "-c", "write -P 9 350M 1M", "-c", "read -P 9 350M 1M", out)
		if text, err := cmd.CombinedOutput(); err != nil || bytes.Contains(text, []byte("failed")) {
			t.Errorf("%s: %v\n%s", format, err, text)
		}
		if format != VHD {
			qemuImg(t, "check", "-q", "-f", driver, out)
		}
	}
}

// TestSame gives the same bytes for the same disk, whether its holes are known or
// not, and another identifier for another disk.
func TestSame(t *testing.T) {
	disk := disks["odd"]
	src := raw(t, disk.size, disk.parts)
	content, err := os.ReadFile(src.Name())
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(content)
	changed[len(changed)-1] ^= 2
	for format := range drivers {
		names := [3]string{}
		for i, from := range []io.ReaderAt{src, bytes.NewReader(content), bytes.NewReader(changed)} {
			names[i] = filepath.Join(t.TempDir(), "disk."+format)
			write(t, from, disk.size, format, names[i])
		}
		if digest(t, names[0]) != digest(t, names[1]) {
			t.Errorf("%s: the same disk gives other bytes when its holes are not known", format)
		}
		if format != QCOW2 && bytes.Equal(head(t, names[0]), head(t, names[2])) {
			t.Errorf("%s: another disk has the same identifiers", format)
		}
	}
}

// head is where the formats keep their identifiers.
func head(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, 512)
	at := int64(0)
	switch filepath.Ext(path) {
	case ".vmdk", ".vmdk-stream":
		at = sector
	case ".vhdx":
		at = 64 << 10
	}
	if _, err := f.ReadAt(data, at); err != nil {
		t.Fatal(err)
	}
	return data
}

// TestSize holds the files to what their data needs.
func TestSize(t *testing.T) {
	disk := disks["huge"]
	src := raw(t, disk.size, disk.parts)
	for format, limit := range map[string]int64{QCOW2: 2 << 20, VMDK: 6 << 20, VMDKStream: 2 << 20, VHD: 12 << 20, VHDX: 10 << 20} {
		out := filepath.Join(t.TempDir(), "disk")
		write(t, src, disk.size, format, out)
		info, err := os.Stat(out)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > limit {
			t.Errorf("%s: %d bytes for 104 KiB of data", format, info.Size())
		}
	}
}

// TestGeometry compares with the geometries that the specification's calculation
// gives for well-known sizes.
func TestGeometry(t *testing.T) {
	for _, test := range []struct {
		sectors        int64
		c              uint16
		heads, perTrck uint8
	}{
		{20480, 301, 4, 17},             // 10 MiB
		{2097152, 2080, 16, 63},         // 1 GiB
		{266338304, 65278, 16, 255},     // 127 GiB
		{MaxSize / 512, 65535, 16, 255}, // the end of the field
	} {
		if c, h, s := vhdGeometry(test.sectors); c != test.c || h != test.heads || s != test.perTrck {
			t.Errorf("%d sectors: %d/%d/%d, want %d/%d/%d", test.sectors, c, h, s, test.c, test.heads, test.perTrck)
		}
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	if err := os.WriteFile(taken, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	disk := bytes.NewReader(make([]byte, 1<<20))
	for name, test := range map[string]struct {
		ctx  context.Context
		size int64
		c    Config
		want error
	}{
		"exists":    {nil, 1 << 20, Config{Format: QCOW2, Out: taken}, ErrExists},
		"no folder": {nil, 1 << 20, Config{Format: QCOW2, Out: filepath.Join(dir, "none", "disk")}, fs.ErrNotExist},
		"unknown":   {nil, 1 << 20, Config{Format: "qcow3", Out: filepath.Join(dir, "disk")}, nil},
		"no disk":   {nil, 0, Config{Format: VHD, Out: filepath.Join(dir, "disk")}, nil},
		"too large": {nil, MaxSize + 1, Config{Format: VHD, Out: filepath.Join(dir, "disk")}, nil},
		"truncated": {nil, 2 << 20, Config{Format: VMDK, Out: filepath.Join(dir, "disk")}, io.ErrUnexpectedEOF},
		"cancelled": {ended, 1 << 20, Config{Format: VHDX, Out: filepath.Join(dir, "disk")}, context.Canceled},
		"old":       {nil, 1 << 20, Config{Format: VHD, Out: filepath.Join(dir, "disk"), Time: time.Unix(0, 0)}, nil},
		"quote":     {nil, 1 << 20, Config{Format: VMDK, Out: filepath.Join(dir, `a"b`)}, nil},
		"long name": {nil, 1 << 20, Config{Format: VMDKStream, Out: filepath.Join(dir, strings.Repeat("n", 300))}, nil},
	} {
		if test.ctx == nil {
			test.ctx = context.Background()
		}
		if test.c.Time.IsZero() {
			test.c.Time = testTime
		}
		err := Write(test.ctx, disk, test.size, test.c)
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("refusals leave files behind: %v, %v", entries, err)
	}
	if data, err := os.ReadFile(taken); err != nil || string(data) != "precious" {
		t.Errorf("the file that existed holds %q, %v", data, err)
	}
}

// TestReplace replaces a file when it is told to, and only once the new one is
// complete.
func TestReplace(t *testing.T) {
	out := filepath.Join(t.TempDir(), "disk")
	c := Config{Format: QCOW2, Out: out, Time: testTime, Replace: true}
	for i := range 2 {
		if err := Write(context.Background(), bytes.NewReader(bytes.Repeat([]byte{byte(i + 1)}, 4096)), 4096, c); err != nil {
			t.Fatal(err)
		}
	}
	before := digest(t, out)
	if err := Write(context.Background(), bytes.NewReader(nil), 4096, c); err == nil {
		t.Fatal("a disk without bytes was written")
	}
	if digest(t, out) != before {
		t.Error("a failure replaced the file")
	}
}

// TestProgress never goes back, and ends at the end.
func TestProgress(t *testing.T) {
	disk := disks["sparse"]
	src := raw(t, disk.size, disk.parts)
	last, calls := int64(-1), 0
	c := Config{Format: VHD, Out: filepath.Join(t.TempDir(), "disk"), Time: testTime, Progress: func(done, total int64) {
		if calls++; done < last || total != disk.size {
			t.Fatalf("%d of %d after %d", done, total, last)
		}
		last = done
	}}
	if err := Write(context.Background(), src, disk.size, c); err != nil {
		t.Fatal(err)
	}
	if last != disk.size {
		t.Errorf("the end is told as %d of %d", last, disk.size)
	}
}

func ExampleFormats() {
	fmt.Println(Formats())
	// Output: [qcow2 vmdk vmdk-stream vhd vhdx]
}
