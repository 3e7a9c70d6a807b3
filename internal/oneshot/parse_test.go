package oneshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/guid"
)

func TestEntry(t *testing.T) {
	e := newEntry("quiet console=ttyS0,115200 x=\"a  b\"")
	text, err := e.marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseEntry(text); err != nil || got != e {
		t.Errorf("%+v, %v", got, err)
	}
	bare := newEntry("")
	if text, err = bare.marshal(); err != nil || strings.Contains(string(text), "options") {
		t.Errorf("%q, %v", text, err)
	}
	for _, bad := range []string{
		"", "title x\n", "title x\nlinux /k\ninitrd /i", "title x\nlinux /k\ninitrd /i\nefi /shell\n", "title x\ntitle y\nlinux /k\ninitrd /i\n",
		"title x\nlinux /k\ninitrd \n", "title x\nlinux /k\ninitrd /i\r\n", "title x\nlinux /k\ninitrd /i\n\n", "# x\ntitle x\nlinux /k\ninitrd /i\n",
		"title \xff\nlinux /k\ninitrd /i\n", "title " + strings.Repeat("x", maxEntry) + "\nlinux /k\ninitrd /i\n",
	} {
		if e, err := parseEntry([]byte(bad)); !errors.Is(err, ErrEntry) {
			t.Errorf("%.60q is read as %+v, %v", bad, e, err)
		}
	}
}

func TestTexts(t *testing.T) {
	for _, s := range []string{"", EntryID, testUUID} {
		if got, err := decodeText(encodeText(s)); err != nil || got != s {
			t.Errorf("%q becomes %q, %v", s, got, err)
		}
	}
	if got, err := decodeText([]byte{'a', 0}); err != nil || got != "a" {
		t.Errorf("without NUL: %q, %v", got, err)
	}
	for _, bad := range [][]byte{{'a'}, {'a', 1}, {0, 0, 'a', 0}, {'\n', 0}, make([]byte, maxValue+2)} {
		if got, err := decodeText(bad); !errors.Is(err, ErrValue) {
			t.Errorf("%q is read as %q, %v", bad[:1], got, err)
		}
	}
	list := slices.Concat(encodeText("a.conf"), encodeText(EntryID), encodeText("b.conf"))
	if !hasText(list, EntryID) || !hasText(list, "b.conf") || hasText(list, "phase") || hasText(list, "") || hasText(list[:len(list)-1], "a.conf") {
		t.Error("a list is read wrongly")
	}
	if hasText(encodeText(EntryID+"2"), EntryID) || hasText(make([]byte, maxList+2), "x") {
		t.Error("a list is read wrongly")
	}
}

func TestGPT(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		list, err := readGPT(bytes.NewReader(disk(t, sector, espType)), sector)
		if err != nil || len(list) != 2 || list[1].Number != 3 || list[1].Type != espType || list[0].Number != 1 {
			t.Errorf("%d: %+v, %v", sector, list, err)
		}
	}
	le := binary.LittleEndian
	for name, change := range map[string]func(h []byte){
		"signature":   func(h []byte) { h[0] = 'X' },
		"size":        func(h []byte) { le.PutUint32(h[12:], 91) },
		"large":       func(h []byte) { le.PutUint32(h[12:], 513) },
		"no entries":  func(h []byte) { le.PutUint32(h[80:], 0) },
		"many":        func(h []byte) { le.PutUint32(h[80:], maxPartitions+1) },
		"odd entries": func(h []byte) { le.PutUint32(h[84:], 129) },
		"giant":       func(h []byte) { le.PutUint32(h[84:], 1<<31) },
		"at header":   func(h []byte) { le.PutUint64(h[72:], 1) },
		"far":         func(h []byte) { le.PutUint64(h[72:], 1<<41) },
		"beyond":      func(h []byte) { le.PutUint64(h[72:], 1<<20) },
		"entries":     func(h []byte) { h[512] ^= 1 },
	} {
		d := disk(t, 512, espType)
		h := d[512:]
		change(h)
		if size := le.Uint32(h[12:]); name != "entries" && size <= 512 { // a checksum hides nothing here
			le.PutUint32(h[16:], 0)
			le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:size]))
		}
		if list, err := readGPT(bytes.NewReader(d), 512); !errors.Is(err, ErrTable) {
			t.Errorf("%s: %+v, %v", name, list, err)
		}
	}
	d := disk(t, 512, espType)
	d[512+40] ^= 1
	if _, err := readGPT(bytes.NewReader(d), 512); !errors.Is(err, ErrTable) {
		t.Errorf("header checksum: %v", err)
	}
	for _, sector := range []int{0, -1, 511, 1 << 20} {
		if _, err := readGPT(bytes.NewReader(d), sector); !errors.Is(err, ErrTable) {
			t.Errorf("sectors of %d bytes: %v", sector, err)
		}
	}
}

// What is read is what is written again.
func FuzzEntry(f *testing.F) {
	f.Add([]byte("title   x\nlinux   /k\ninitrd  /i\noptions quiet\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := parseEntry(data)
		if err != nil {
			return
		}
		text, err := e.marshal()
		if err != nil {
			if len(e.Options) <= maxOptions && len(data) < maxEntry-64 {
				t.Fatalf("%+v: %v", e, err)
			}
			return
		}
		if again, err := parseEntry(text); err != nil || again != e {
			t.Errorf("%+v becomes %+v, %v", e, again, err)
		}
	})
}

func FuzzValue(f *testing.F) {
	f.Add(encodeText(EntryID))
	f.Add(slices.Concat(encodeText("a.conf"), encodeText(EntryID)))
	f.Fuzz(func(t *testing.T, data []byte) {
		text, err := decodeText(data)
		if err == nil && !bytes.HasPrefix(encodeText(text), data) {
			t.Errorf("%q becomes %q", data, text)
		}
		if err == nil && text != "" && !hasText(data, text) && len(data) == len(encodeText(text)) {
			t.Errorf("%q does not hold %q", data, text)
		}
		hasText(data, EntryID)
		guid.Parse(text)
	})
}

func FuzzGPT(f *testing.F) {
	f.Add(disk(f, 512, espType)[:2048], 512)
	f.Fuzz(func(t *testing.T, data []byte, sector int) {
		list, err := readGPT(bytes.NewReader(data), sector)
		if err == nil && len(list) > maxPartitions || err != nil && len(list) > 0 {
			t.Errorf("%d partitions, %v", len(list), err)
		}
	})
}
