package blob

import (
	"bytes"
	"encoding"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// abcHex is the example of FIPS 180-2, appendix B.1.
const abcHex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

var (
	_ encoding.TextMarshaler   = Digest{}
	_ encoding.TextUnmarshaler = (*Digest)(nil)
)

func TestParse(t *testing.T) {
	d, err := Parse("sha256:" + abcHex)
	if err != nil {
		t.Fatal(err)
	}
	if d != Of([]byte("abc")) || d.Hex() != abcHex || d.String() != "sha256:"+abcHex || d.IsZero() {
		t.Errorf("parsed as %v", d)
	}
	text, err := d.MarshalText()
	if err != nil || string(text) != d.String() {
		t.Errorf("marshals as %q, %v", text, err)
	}
	for _, bad := range []string{
		"", "sha256:", abcHex, "sha256:" + abcHex[:63], "sha256:" + abcHex + "0", "SHA256:" + abcHex,
		"sha512:" + abcHex, "sha256:" + strings.ToUpper(abcHex), "sha256:" + abcHex[:63] + "g",
		" sha256:" + abcHex, "sha256:" + abcHex + "\n", "sha256-" + abcHex,
		"sha256:" + strings.Repeat("0", 64), strings.Repeat("x", 1000),
	} {
		if got, err := Parse(bad); err == nil || !got.IsZero() {
			t.Errorf("Parse(%q) = %v, %v", bad, got, err)
		} else if len(err.Error()) > 500 {
			t.Errorf("Parse(%.20q…) answers with %d bytes", bad, len(err.Error()))
		}
		kept := d
		if kept.UnmarshalText([]byte(bad)) == nil || kept != d {
			t.Errorf("UnmarshalText(%q) changed the value", bad)
		}
	}
	if _, err := (Digest{}).MarshalText(); err == nil {
		t.Error("the zero digest was written")
	}
}

func TestReader(t *testing.T) {
	const content = "some content that is longer than one read"
	want, size := Of([]byte(content)), int64(len(content))
	flipped := "x" + content[1:]
	broken := errors.New("cable pulled")
	tests := []struct {
		name    string
		source  string
		then    error // after source, instead of the end
		want    Digest
		size    int64
		gotSize int64 // of the mismatch; -1 for none
	}{
		{"right", content, nil, want, size, -1},
		{"empty", "", nil, Of(nil), 0, -1},
		{"other content", flipped, nil, want, size, size},
		{"early end", content[:10], nil, want, size, 10},
		{"no bytes", "", nil, want, size, 0},
		{"goes on", content + "!", nil, want, size, size + 1},
		{"goes on for long", content + strings.Repeat("!", 1<<20), nil, want, size, size + 1},
		{"announced too short", content, nil, want, size - 1, size},
		{"announced too long", content, nil, want, size + 1, size},
		{"negative size", content, nil, want, -1, 1},
		{"zero digest", content, nil, Digest{}, size, size},
		{"error inside", content[:10], broken, want, size, -1},
		{"error at the end", content, broken, want, size, -1},
	}
	wrappers := map[string]func(io.Reader) io.Reader{
		"plain": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader,
		"halves": iotest.HalfReader, "data with error": iotest.DataErrReader,
	}
	for _, tt := range tests {
		for how, wrap := range wrappers {
			source := io.Reader(strings.NewReader(tt.source))
			if tt.then != nil {
				source = io.MultiReader(source, iotest.ErrReader(tt.then))
			}
			r := NewReader(wrap(source), tt.want, tt.size)
			got, err := io.ReadAll(r)
			if int64(len(got)) > max(tt.size, 0) || !strings.HasPrefix(tt.source, string(got)) {
				t.Errorf("%s, %s: yields %d bytes", tt.name, how, len(got))
			}
			checkEnd(t, tt.name+", "+how, err, tt.then, tt.gotSize)
			if n, again := r.Read(make([]byte, 8)); n != 0 || (again != err && again != io.EOF) {
				t.Errorf("%s, %s: reading on gives %d, %v", tt.name, how, n, again)
			}
		}
	}
}

func checkEnd(t *testing.T, name string, err, then error, gotSize int64) {
	t.Helper()
	var mismatch *MismatchError
	switch {
	case then != nil:
		if err != then {
			t.Errorf("%s: error is %v", name, err)
		}
	case gotSize < 0:
		if err != nil {
			t.Errorf("%s: error is %v", name, err)
		}
	case !errors.As(err, &mismatch):
		t.Errorf("%s: error is %v, want a mismatch", name, err)
	case mismatch.GotSize != gotSize || !strings.Contains(mismatch.Error(), mismatch.Want.String()):
		t.Errorf("%s: %+v (%v)", name, mismatch, mismatch)
	}
}

// TestReaderWithCopy: io.EOF is the only sign of success, so Copy
// succeeds for the right bytes only.
func TestReaderWithCopy(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	if n, err := io.Copy(io.Discard, NewReader(bytes.NewReader(content), Of(content), int64(len(content)))); err != nil || n != int64(len(content)) {
		t.Errorf("%d, %v", n, err)
	}
	damaged := bytes.Clone(content)
	damaged[len(damaged)-1] ^= 1
	if _, err := io.Copy(io.Discard, NewReader(bytes.NewReader(damaged), Of(content), int64(len(content)))); err == nil {
		t.Error("damaged bytes were copied without an error")
	}
}

type liar struct{}

func (liar) Read(p []byte) (int, error) { return len(p) + 1, nil }

func TestReaderSurvivesImpossibleCount(t *testing.T) {
	if _, err := io.ReadAll(NewReader(liar{}, Of(nil), 10)); err == nil {
		t.Error("accepted")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("sha256:" + abcHex)
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := Parse(s); err == nil && d.String() != s {
			t.Fatalf("%q reads as %s", s, d)
		}
	})
}
