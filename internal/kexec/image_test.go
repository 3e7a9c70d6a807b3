package kexec

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// armKernel makes an arm64 Image of n bytes that takes size bytes in memory.
func armKernel(n int, textOffset, size, flags uint64) []byte {
	k := bytes.Repeat([]byte{0xaa}, n)
	le := binary.LittleEndian
	le.PutUint64(k[0x08:], textOffset)
	le.PutUint64(k[0x10:], size)
	le.PutUint64(k[0x18:], flags)
	copy(k[0x38:], armMagic)
	return k
}

// debianARM is like Debian's: anywhere, 4 KiB pages.
func debianARM() []byte { return armKernel(5<<20, 0, 6<<20, 0xa) }

// zboot wraps a packed kernel as the kernel's own build does, with the unpacked
// size behind.
func zboot(method string, packed []byte) []byte {
	b := make([]byte, zbootHeader, zbootHeader+len(packed)+4)
	copy(b, zbootMagic)
	binary.LittleEndian.PutUint32(b[zbootOffset:], zbootHeader)
	binary.LittleEndian.PutUint32(b[zbootSize:], uint32(len(packed)))
	copy(b[zbootMethod:], method)
	return append(append(b, packed...), 1, 2, 3, 4)
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstdPacked(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

func TestParseARM(t *testing.T) {
	k := debianARM()
	for name, file := range map[string][]byte{
		"plain": k, "gzip": gzipped(t, k), "zboot gzip": zboot("gzip", append(gzipped(t, k), 0, 0, 80, 0)),
		"zboot zstd": zboot("zstd22", zstdPacked(t, k)), "gzip with more behind": append(gzipped(t, k), 9, 9),
	} {
		img, err := parseARM(file)
		if err != nil || img.size != 6<<20 || img.textOffset != 0 || !bytes.Equal(img.code, k) {
			t.Errorf("%s: %d bytes, size %#x, %v", name, len(img.code), img.size, err)
		}
	}
}

func TestParseARMRefuses(t *testing.T) {
	packed := gzipped(t, debianARM())
	cut := zboot("gzip", packed)
	binary.LittleEndian.PutUint32(cut[zbootSize:], uint32(len(cut)))
	for name, tt := range map[string]struct {
		file []byte
		kind kind
		want string
	}{
		"empty":        {nil, kindImage, "not an arm64 Image"},
		"text":         {bytes.Repeat([]byte("x"), 100), kindImage, "not an arm64 Image"},
		"ELF":          {append([]byte("\x7fELF"), make([]byte, 100)...), kindImage, "not an arm64 Image"},
		"x86":          {x86Kernel(), kindMachine, "it is for x86_64"},
		"big-endian":   {armKernel(100, 0, 4096, 0xb), kindImage, "big-endian"},
		"old":          {armKernel(100, 0x80000, 0, 0), kindImage, "older than Linux 4.6"},
		"old, sized":   {armKernel(100, 0x80000, 4096, 2), kindImage, "older than Linux 4.6"},
		"offset":       {armKernel(100, 4096, 4096, 0xa), kindImage, "the offset 0x1000"},
		"large offset": {armKernel(100, 4<<20, 4096, 0xa), kindImage, "the offset 0x400000"},
		"enormous":     {armKernel(100, 0, 1<<40, 0xa), kindImage, "bytes in memory"},
		"bad gzip":     {[]byte{0x1f, 0x8b, 0}, kindImage, "cannot be unpacked"},
		"cut gzip":     {packed[:len(packed)/2], kindImage, "cannot be unpacked"},
		"cut zboot":    {cut, kindImage, "its packed part ends"},
		"bad zstd":     {zboot("zstd22", []byte("no zstd")), kindImage, "cannot be unpacked"},
		"xz":           {zboot("xzkern", nil), kindImage, `packed with "xzkern"`},
	} {
		if _, err := parseARM(tt.file); !is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestInflateIsBounded(t *testing.T) {
	for method, packed := range map[string][]byte{"gzip": gzipped(t, make([]byte, 1000)), "zstd": zstdPacked(t, make([]byte, 1000))} {
		if code, err := inflate(method, packed, 1000); err != nil || len(code) != 1000 {
			t.Errorf("%s: %d bytes, %v", method, len(code), err)
		}
		if _, err := inflate(method, packed, 999); !is(err, kindImage) || !strings.Contains(err.Error(), "more than 999 bytes") {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// An unpacked kernel is in memory once, whatever its header says.
func TestInflateTakesMemoryOnce(t *testing.T) {
	k := debianARM()
	code, err := inflate("gzip", gzipped(t, k), maxImage)
	if err != nil || len(code) != len(k) || cap(code) != 6<<20+bytes.MinRead {
		t.Errorf("%d bytes in %d, %v", len(code), cap(code), err)
	}
	lying := armKernel(5000, 0, 1<<63, 0xa)
	if code, err := inflate("gzip", gzipped(t, lying), 6000); err != nil || !bytes.Equal(code, lying) || cap(code) != 6000+bytes.MinRead {
		t.Errorf("%d bytes in %d, %v", len(code), cap(code), err)
	}
	short := gzipped(t, []byte("short"))
	if code, err := inflate("gzip", short, maxImage); !is(err, kindImage) {
		t.Errorf("%q, %v", code, err)
	}
}

// x86Kernel makes a bzImage with the header of Debian's.
func x86Kernel() []byte {
	const sectors = 4
	k := bytes.Repeat([]byte{0xcc}, (sectors+1)*bzSector+1<<20)
	le := binary.LittleEndian
	k[offSetup] = sectors
	copy(k[offBootFlag:], []byte{0x55, 0xaa, 0xeb, 0x6a})
	copy(k[offHeaderMagic:], bzMagic)
	le.PutUint16(k[offVersion:], 0x020f)
	k[offLoadFlags] = bzLoadedHigh
	le.PutUint32(k[offInitrdMax:], 0x7fffffff)
	le.PutUint32(k[offAlignment:], 2<<20)
	k[offRelocatable] = 1
	le.PutUint16(k[offXLoadFlags:], bzKernel64|bzAbove4G)
	le.PutUint32(k[offCmdlineSize:], 2047)
	le.PutUint64(k[offPreferred:], 16<<20)
	le.PutUint32(k[offInitSize:], 40<<20)
	return k
}

func TestParseX86(t *testing.T) {
	img, err := parseX86(x86Kernel())
	if err != nil || img.size != 40<<20 || img.preferred != 16<<20 || img.align != 2<<20 || img.initrdMax != 0x7fffffff ||
		img.cmdline != 2047 || len(img.code) != 1<<20 || len(img.setup) != 0x26c-offSetup {
		t.Errorf("%d %d %d, %v", len(img.code), len(img.setup), img.size, err)
	}
	k := x86Kernel()
	k[offSetup] = 0 // means four
	if img, err := parseX86(k); err != nil || len(img.code) != 1<<20 {
		t.Errorf("%d bytes of code, %v", len(img.code), err)
	}
}

func TestParseX86Refuses(t *testing.T) {
	patched := func(offset int, bytes ...byte) []byte {
		k := x86Kernel()
		copy(k[offset:], bytes)
		return k
	}
	for name, tt := range map[string]struct {
		file []byte
		kind kind
		want string
	}{
		"empty":           {nil, kindImage, "not a bzImage"},
		"short":           {x86Kernel()[:offInitSize], kindImage, "not a bzImage"},
		"boot flag":       {patched(offBootFlag, 0), kindImage, "not a bzImage"},
		"magic":           {patched(offHeaderMagic, 0), kindImage, "not a bzImage"},
		"arm64":           {debianARM(), kindMachine, "it is for arm64"},
		"old":             {patched(offVersion, 0x0b, 2), kindImage, "older than Linux 3.8"},
		"zImage":          {patched(offLoadFlags, 0), kindImage, "older than Linux 3.8"},
		"32 bits":         {patched(offXLoadFlags, 0), kindMachine, "32-bit"},
		"below 4G":        {patched(offXLoadFlags, bzKernel64), kindImage, "cannot be moved"},
		"not relocatable": {patched(offRelocatable, 0), kindImage, "cannot be moved"},
		"cut off":         {x86Kernel()[:5*bzSector+entry64], kindImage, "cut off"},
		"long header":     {patched(offHeaderEnd, 0x8f), kindImage, "wrong length"},
		"short header":    {patched(offHeaderEnd, 0x60), kindImage, "wrong length"},
		"alignment 0":     {patched(offAlignment, 0, 0, 0, 0), kindImage, "asks for"},
		"odd alignment":   {patched(offAlignment, 3), kindImage, "asks for"},
		"preferred":       {patched(offPreferred, 0, 0, 0, 0, 0, 0, 0, 1), kindImage, "asks for"},
		"enormous":        {patched(offInitSize, 0xff, 0xff, 0xff, 0xff), kindImage, "asks for"},
	} {
		if _, err := parseX86(tt.file); !is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
