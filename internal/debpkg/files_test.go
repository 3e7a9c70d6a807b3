package debpkg

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/nettest"
)

// tarOf makes an archive of headers; regular files are filled with zeros.
func tarOf(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(w, zeros{}, h.Size); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// hostileDeb makes a package around content that dpkg-deb would not make: an ar
// archive (deb(5)).
func hostileDeb(t *testing.T, name string, data []byte) Package {
	t.Helper()
	nettest.Require(t, "dpkg-deb")
	var control bytes.Buffer
	z := gzip.NewWriter(&control)
	z.Write(tarOf(t))
	z.Close()
	deb := []byte("!<arch>\n")
	for _, m := range []struct {
		name string
		data []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", control.Bytes()}, {name, data}} {
		deb = fmt.Appendf(deb, "%-16s%-12d%-6d%-6d%-8o%-10d`\n%s", m.name, 0, 0, 0, 0o100644, len(m.data), m.data)
		if len(m.data)%2 == 1 {
			deb = append(deb, '\n')
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hostile.deb"), deb, 0o644); err != nil {
		t.Fatal(err)
	}
	return Package{File: "hostile.deb", dir: dir}
}

var small = limits{stream: 1 << 20, members: 8}

// readAll reads all content of a package and returns the names of its members.
func readAll(t *testing.T, p Package, lim limits) ([]string, error) {
	t.Helper()
	var names []string
	err := p.files(t.Context(), lim, func(name string, _ *tar.Header, r io.Reader) error {
		names = append(names, name)
		_, err := io.Copy(io.Discard, r)
		return err
	})
	return names, err
}

func TestMembersThatNoPackageHas(t *testing.T) {
	long := strings.Repeat("x/", 3000) + "x"
	regular := func(name string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: 1}
	}
	for name, headers := range map[string][]tar.Header{
		"parent":                {regular("../x")},
		"parent inside":         {regular("./a/../../x")},
		"absolute":              {regular("/etc/passwd")},
		"giant name":            {regular(long)},
		"giant target":          {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: long}},
		"file below a link":     {{Name: "./lib", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, regular("./lib/passwd")},
		"far below a link":      {{Name: "./a/b", Typeflag: tar.TypeSymlink, Linkname: "../../.."}, {Name: "./a/b/c/d", Typeflag: tar.TypeDir}},
		"block device":          {{Name: "sda", Typeflag: tar.TypeBlock, Devmajor: 8}},
		"character device":      {{Name: "mem", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1}},
		"pipe":                  {{Name: "p", Typeflag: tar.TypeFifo}},
		"header of all headers": {{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"path": "../x"}}},
	} {
		names, err := readAll(t, hostileDeb(t, "data.tar", tarOf(t, append([]tar.Header{regular("./first")}, headers...)...)), small)
		var refused *MemberError
		if !errors.As(err, &refused) || len(names) == 0 || names[0] != "first" || len(err.Error()) > 300 {
			t.Errorf("%s: read %q, %v", name, names, err)
		}
	}
	// A hard link is one name more for a file, as in git's package.
	names, err := readAll(t, hostileDeb(t, "data.tar", tarOf(t, regular("./a"), tar.Header{Name: "./b", Typeflag: tar.TypeLink, Linkname: "./a"})), small)
	if err != nil || len(names) != 2 {
		t.Errorf("hard link: %q, %v", names, err)
	}
}

// TestBombs: what unpacks to more than the limits ends there, and dpkg-deb with it.
func TestBombs(t *testing.T) {
	pack := func(raw []byte) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(raw)
		z.Close()
		return b.Bytes()
	}
	file := func(name string, size int64) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeReg, Size: size}
	}
	var many, halves []tar.Header
	for i := range 9 {
		many = append(many, tar.Header{Name: fmt.Sprint("d", i), Typeflag: tar.TypeDir})
	}
	for i := range 4 {
		halves = append(halves, file(fmt.Sprint("f", i), 300<<10))
	}
	whole := tarOf(t, file("f", 1))
	for name, c := range map[string]struct {
		data []byte
		what string
	}{
		"one file":          {pack(tarOf(t, file("f", 64<<20))), "bytes"},
		"several files":     {pack(tarOf(t, halves...)), "bytes"},
		"sparse file":       {pack(sparseTar(t, 8<<30)), "bytes"},
		"members":           {pack(tarOf(t, many...)), "members"},
		"after the end":     {pack(append(whole, make([]byte, 64<<20)...)), "bytes"},
		"not packed at all": {tarOf(t, file("f", 3<<20)), "bytes"},
	} {
		member := "data.tar.gz"
		if name == "not packed at all" {
			member = "data.tar"
		}
		if len(c.data) > 4<<20 {
			t.Fatalf("%s: %d bytes are no bomb", name, len(c.data))
		}
		_, err := readAll(t, hostileDeb(t, member, c.data), small)
		var limit *LimitError
		if !errors.As(err, &limit) || limit.What != c.what {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The padding has a bound of its own.
	roomy := limits{stream: 1 << 30, members: 8}
	_, err := readAll(t, hostileDeb(t, "data.tar.gz", pack(append(whole, make([]byte, 2*maxPadding)...))), roomy)
	var limit *LimitError
	if !errors.As(err, &limit) || !strings.Contains(limit.What, "end") {
		t.Errorf("long padding: %v", err)
	}
}

// sparseTar is an archive with a file of nothing but a hole (PAX format 1.0), of
// which the stream has two blocks.
func sparseTar(t *testing.T, size int64) []byte {
	t.Helper()
	record := func(key, value string) string {
		n := len(key) + len(value) + 3
		for len(fmt.Sprint(n))+len(key)+len(value)+3 != n {
			n++
		}
		return fmt.Sprintf("%d %s=%s\n", n, key, value)
	}
	pax := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "hole") + record("GNU.sparse.realsize", fmt.Sprint(size))
	var b bytes.Buffer
	block := func(name string, flag byte, content string) {
		h := make([]byte, 512)
		copy(h, name)
		copy(h[100:], "0000644\x000000000\x000000000\x00")
		copy(h[124:], fmt.Sprintf("%011o\x0000000000000\x00        ", len(content)))
		h[156] = flag
		copy(h[257:], "ustar\x0000")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		b.Write(h)
		b.WriteString(content)
		b.Write(make([]byte, (512-len(content)%512)%512))
	}
	block("pax", 'x', pax)
	block("hole", '0', fmt.Sprintf("1\n%d\n0\n", size)+strings.Repeat("\x00", 512-len(fmt.Sprintf("1\n%d\n0\n", size))))
	b.Write(make([]byte, 1024))
	hdr, err := tar.NewReader(bytes.NewReader(b.Bytes())).Next()
	if err != nil || hdr.Size != size {
		t.Fatalf("the sparse archive is none: %+v, %v", hdr, err)
	}
	return b.Bytes()
}

// TestDamagedPackages: what is cut off or changed inside ends as an error.
func TestDamagedPackages(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(tarOf(t, tar.Header{Name: "f", Typeflag: tar.TypeReg, Size: 100 << 10}))
	z.Close()
	good := packed.Bytes()
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 0x55
	for name, data := range map[string][]byte{
		"cut off": good[:len(good)/2], "changed": flipped, "foreign": []byte("no archive at all"),
	} {
		if _, err := readAll(t, hostileDeb(t, "data.tar.gz", data), small); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzWalkTar: whatever the stream holds, names are clean and the bounds hold.
func FuzzWalkTar(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		members, read := 0, int64(0)
		_ = walkTar(bytes.NewReader(raw), small, func(name string, _ *tar.Header, r io.Reader) error {
			if !filepath.IsLocal(name) {
				t.Errorf("name %q", name)
			}
			n, err := io.Copy(io.Discard, r)
			members, read = members+1, read+n
			return err
		})
		if members > small.members || read > small.stream {
			t.Errorf("%d members, %d bytes", members, read)
		}
	})
}
