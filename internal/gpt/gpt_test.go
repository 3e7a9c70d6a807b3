package gpt

import (
	"bytes"
	"hash/crc32"
	"testing"
	"unicode/utf16"

	"github.com/phasebased/phase/internal/guid"
)

func TestHeaderAndBack(t *testing.T) {
	h := Header{Signature: [8]byte([]byte(Signature)), Revision: 0x10000, Length: HeaderSize, Self: 1, Other: 99,
		FirstUsable: 34, LastUsable: 66, Disk: guid.GUID{1, 2, 3}, TableAt: 2, Entries: Entries, EntrySize: EntrySize, TableChecksum: 7}
	raw := h.Bytes()
	if len(raw) != HeaderSize || !bytes.HasPrefix(raw, []byte(Signature)) {
		t.Fatalf("%d bytes: %q", len(raw), raw)
	}
	want := crc32.ChecksumIEEE(raw) // the field is zero
	Seal(raw)
	if got := ParseHeader(raw); got.Checksum != want || Checksum(raw) != want {
		t.Errorf("checksum %#x and %#x, want %#x", got.Checksum, Checksum(raw), want)
	}
	h.Checksum = want
	if got := ParseHeader(raw); got != h {
		t.Errorf("got %+v, want %+v", got, h)
	}
	raw[60] ^= 1
	if Checksum(raw) == want {
		t.Error("a changed header has the same checksum")
	}
}

func TestEntryAndBack(t *testing.T) {
	e := Entry{Type: guid.GUID{9}, ID: guid.GUID{8}, First: 2048, Last: 4095, Attributes: 4}
	copy(e.Name[:], utf16.Encode([]rune("phase-ésp")))
	raw := e.Bytes()
	if len(raw) != EntrySize {
		t.Fatalf("%d bytes", len(raw))
	}
	if got := ParseEntry(raw); got != e || got.Label() != "phase-ésp" || !got.Used() {
		t.Errorf("got %+v, want %+v", got, e)
	}
	if (Entry{ID: guid.GUID{1}}).Used() {
		t.Error("an entry without a type is used")
	}
	full := Entry{}
	for i := range full.Name {
		full.Name[i] = 'x'
	}
	if got := full.Label(); len(got) != len(full.Name) {
		t.Errorf("a name without an end is %q", got)
	}
}
