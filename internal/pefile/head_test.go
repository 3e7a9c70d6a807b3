package pefile

import (
	"bytes"
	"testing"
)

func TestHead(t *testing.T) {
	plain := program(MachineARM64, "code", "data")
	head := func(b []byte) (Head, error) { return ReadHead(bytes.NewReader(b)) }
	if h, err := head(plain); err != nil || h != (Head{MachineARM64, 2, EFIApplication, false}) {
		t.Errorf("%+v, %v", h, err)
	}
	f, err := Parse(plain)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := f.Signed([]byte("signature"))
	if err != nil {
		t.Fatal(err)
	}
	if h, err := head(signed); err != nil || !h.Signed {
		t.Errorf("%+v, %v", h, err)
	}
	signed[0x80+countAt] = security // directories: none for signatures
	if h, err := head(signed); err != nil || h.Signed {
		t.Errorf("%+v, %v", h, err)
	}
	for name, change := range map[string]func(k []byte) []byte{
		"empty":   func([]byte) []byte { return nil },
		"no MZ":   func(k []byte) []byte { k[0] = 0; return k },
		"far":     func(k []byte) []byte { k[63] = 0xff; return k },
		"no PE":   func(k []byte) []byte { k[0x80] = 0; return k },
		"PE32":    func(k []byte) []byte { k[0x80+24] = 0xb; k[0x80+25] = 1; return k },
		"cut off": func(k []byte) []byte { return k[:0x80+100] },
	} {
		if h, err := head(change(bytes.Clone(plain))); err == nil || h != (Head{}) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
}

func FuzzReadHead(f *testing.F) {
	f.Add(program(MachineX8664, "code"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := ReadHead(bytes.NewReader(data))
		if err == nil && (len(data) < headSize || string(data[:2]) != "MZ") || err != nil && h != (Head{}) {
			t.Errorf("%d bytes passed as %+v, %v", len(data), h, err)
		}
	})
}
