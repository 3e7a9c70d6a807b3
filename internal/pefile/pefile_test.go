package pefile

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

// program is the smallest EFI program with room for three more sections: its
// headers, then sections with these contents.
func program(machine uint16, contents ...string) []byte {
	const pe, align, headers = 0x80, 0x200, 0x400
	b := make([]byte, headers)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], pe)
	copy(b[pe:], "PE\x00\x00")
	coff, opt := b[pe+4:], b[pe+4+coffHeader:]
	le.PutUint16(coff, machine)
	le.PutUint16(coff[2:], uint16(len(contents)))
	le.PutUint16(coff[16:], optionalFixed+8*directories)
	le.PutUint16(opt, 0x20b)
	le.PutUint32(opt[32:], 0x1000)
	le.PutUint32(opt[36:], align)
	le.PutUint32(opt[60:], headers)
	le.PutUint16(opt[68:], 10)
	le.PutUint32(opt[108:], directories)
	table := pe + 4 + coffHeader + optionalFixed + 8*directories
	address := uint32(0x1000)
	for i, c := range contents {
		h := b[table+i*sectionHeader:]
		copy(h, "."+string(rune('a'+i)))
		size := uint32(roundUp(uint64(len(c)), align))
		le.PutUint32(h[8:], uint32(len(c)))
		le.PutUint32(h[12:], address)
		le.PutUint32(h[16:], size)
		if size > 0 {
			le.PutUint32(h[20:], uint32(len(b)))
		}
		b = append(b, c...)
		b = append(b, make([]byte, int(size)-len(c))...)
		address += uint32(roundUp(uint64(max(size, 1)), 0x1000))
	}
	return b
}

func mustParse(t *testing.T, data []byte) *File {
	t.Helper()
	f, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAppend(t *testing.T) {
	before := program(MachineX8664, "code", "", strings.Repeat("d", 0x1001))
	symbols := uint32(len(before)) // as the stub of systemd has them
	before = append(before, "symbols"...)
	le.PutUint32(before[0x84+8:], symbols)
	le.PutUint32(before[0x84+12:], 1)
	out, err := mustParse(t, before).Append(Addition{".new", []byte("one")}, Addition{".second", bytes.Repeat([]byte("2"), 0x300)})
	if err != nil {
		t.Fatal(err)
	}
	f := mustParse(t, out)
	if len(f.Sections) != 5 || f.Machine != MachineX8664 {
		t.Fatalf("%+v", f.Sections)
	}
	end := uint32(0)
	for _, s := range f.Sections {
		if s.VirtualAddress%f.SectionAlignment != 0 || s.VirtualAddress < end {
			t.Errorf("section %s lies at %#x, behind %#x", s.Name, s.VirtualAddress, end)
		}
		end = s.VirtualAddress + max(s.VirtualSize, s.Size)
	}
	for name, want := range map[string]string{".a": "code", ".b": "", ".new": "one", ".second": strings.Repeat("2", 0x300)} {
		if got, ok := f.Content(name); !ok || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
	}
	if f.image < end || f.image%f.SectionAlignment != 0 {
		t.Errorf("the image has %#x bytes, its sections end at %#x", f.image, end)
	}
	if _, ok := f.Content(".none"); ok {
		t.Error("found what is not there")
	}
}

func TestAppendRefuses(t *testing.T) {
	plain := program(MachineX8664, "code")
	signed, err := mustParse(t, plain).Signed([]byte("signature"))
	if err != nil {
		t.Fatal(err)
	}
	stained := slices.Clone(plain)
	stained[0x80+4+coffHeader+optionalFixed+8*directories+sectionHeader] = 'x'
	tail := append(slices.Clone(plain), "what follows"...)
	named := slices.Clone(plain)
	named[0x80+4+coffHeader+optionalFixed+8*directories] = '/'
	one := []byte("1")
	for name, tt := range map[string]struct {
		data []byte
		add  []Addition
	}{
		"signed":       {signed, []Addition{{".x", one}}},
		"no room":      {plain, slices.Repeat([]Addition{{".x", one}}, 20)},
		"hidden bytes": {stained, []Addition{{".x", one}}},
		"long name":    {plain, []Addition{{".too-long", one}}},
		"no name":      {plain, []Addition{{"", one}}},
		"empty":        {plain, []Addition{{".x", nil}}},
		"tail":         {tail, []Addition{{".x", one}}},
		"long names":   {named, []Addition{{".x", one}}},
		"twice":        {plain, []Addition{{".a", one}}},
	} {
		if out, err := mustParse(t, tt.data).Append(tt.add...); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %d bytes, %v", name, len(out), err)
		}
	}
}

// TestSigned: a signature changes neither the hash nor what others have signed,
// and goes away without a trace.
func TestSigned(t *testing.T) {
	for _, tail := range []string{"", "tail"} {
		plain := append(program(MachineARM64, "code"), tail...)
		f := mustParse(t, plain)
		signed, err := f.Signed([]byte("first"), []byte("the second"))
		if err != nil {
			t.Fatal(err)
		}
		g := mustParse(t, signed)
		if g.Digest() != f.Digest() {
			t.Errorf("tail %q: the hash changed", tail)
		}
		got, err := g.Signatures()
		if err != nil || len(got) != 2 || string(got[0]) != "first" || string(got[1]) != "the second" {
			t.Errorf("tail %q: %q, %v", tail, got, err)
		}
		back, err := g.Signed()
		if err != nil || !bytes.Equal(back[:len(plain)], plain) || len(bytes.Trim(back[len(plain):], "\x00")) > 0 {
			t.Errorf("tail %q: without signatures it is another file: %v", tail, err)
		}
		if _, err := f.Signed(slices.Repeat([][]byte{[]byte("x")}, maxCerts+1)...); !errors.Is(err, ErrFormat) {
			t.Errorf("many signatures: %v", err)
		}
	}
}

// TestDigestCoversAll: every byte but the checksum and the place of the
// certificates is hashed, or the file is refused.
func TestDigestCoversAll(t *testing.T) {
	plain := append(program(MachineX8664, "code", "data"), "tail"...)
	f := mustParse(t, plain)
	for at := range plain {
		changed := slices.Clone(plain)
		changed[at] ^= 1
		free := at >= f.optional+64 && at < f.optional+68
		if g, err := Parse(changed); err == nil && g.Digest() == f.Digest() != free {
			t.Errorf("byte %#x: changed without notice, or hashed", at)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := program(MachineX8664, "code", "data")
	signed, err := mustParse(t, good).Signed([]byte("signature"))
	if err != nil {
		t.Fatal(err)
	}
	const coff, opt = 0x84, 0x84 + coffHeader
	const table = opt + optionalFixed + 8*directories
	put16 := func(data []byte, at int, v uint16) []byte {
		data = slices.Clone(data)
		le.PutUint16(data[at:], v)
		return data
	}
	put32 := func(data []byte, at int, v uint32) []byte {
		data = slices.Clone(data)
		le.PutUint32(data[at:], v)
		return data
	}
	certs := len(signed) - 24
	for name, data := range map[string][]byte{
		"empty":               nil,
		"no MZ":               put16(good, 0, 0),
		"header far away":     put32(good, 0x3c, 1<<31),
		"header in MZ":        put32(good, 0x3c, 4),
		"no PE":               put16(good, 0x80, 0),
		"machine":             put16(good, coff, 0x14c),
		"no sections":         put16(good, coff+2, 0),
		"many sections":       put16(good, coff+2, 97),
		"sections don't fit":  put16(good, coff+2, 20),
		"optional header":     put16(good, coff+16, 8),
		"PE32":                put16(good, opt, 0x10b),
		"directories":         put32(good, opt+108, 4),
		"subsystem":           put16(good, opt+68, 3),
		"section alignment":   put32(good, opt+32, 0x1001),
		"file alignment":      put32(good, opt+36, 0),
		"headers":             put32(good, opt+60, 1<<31),
		"section beyond":      put32(good, table+16, 1<<31),
		"section in headers":  put32(good, table+20, 0),
		"section's address":   put32(good, table+12, 1<<32-1),
		"gap":                 put32(put32(good, table+20, 0x600), table+sectionHeader+16, 0),
		"overlap":             put32(good, table+sectionHeader+20, 0x400),
		"certificates beyond": put32(good, opt+optionalFixed+8*security, 0x10000),
		"not at the end":      append(slices.Clone(signed), 0),
		"cut short":           signed[:len(signed)-8],
		"certificate's size":  put32(signed, certs, 1<<31),
		"certificate's void":  put32(signed, certs, 8),
		"revision":            put16(signed, certs+4, 0x100),
		"certificate's kind":  put16(signed, certs+6, 0x0ef1),
	} {
		if f, err := Parse(data); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, %v", name, f != nil, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	plain := program(MachineX8664, "code", "data")
	f.Add(plain)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		for _, s := range p.Sections {
			p.Content(s.Name)
		}
		signed, err := p.Signed([]byte("signature"))
		if err != nil {
			t.Fatal(err)
		}
		q, err := Parse(signed)
		if err != nil {
			t.Fatalf("what was signed cannot be read: %v", err)
		}
		if q.Digest() != p.Digest() {
			t.Fatal("signing changed the hash")
		}
		if out, err := p.Append(Addition{".zz", []byte("z")}); err == nil {
			if r, err := Parse(out); err != nil || len(r.Sections) != len(p.Sections)+1 {
				t.Fatal(err)
			}
		}
	})
}
