// Package gpt knows what the bytes of a GUID partition table mean (UEFI 2.10, section
// 5.3): the header, its checksum, and the entries. It decides nothing: who reads a
// table that others wrote checks what it says, each as strictly as it must.
package gpt

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"unicode/utf16"

	"github.com/phasebased/phase/internal/guid"
)

const (
	// Signature is what a header begins with.
	Signature = "EFI PART"
	// HeaderSize is what has a meaning of a header, in bytes.
	HeaderSize = 92
	// Entries and EntrySize are how many entries everybody's tables have, and of how
	// many bytes; others are allowed.
	Entries   = 128
	EntrySize = 128
	// TableSize is that of such a table, in bytes.
	TableSize = Entries * EntrySize

	sumAt = 16 // of the header's checksum
)

// A Header of either copy (table 5-5). Places are sectors.
type Header struct {
	Signature               [8]byte
	Revision, Length        uint32
	Checksum, Reserved      uint32
	Self, Other             uint64 // where this copy's header lies, and the other's
	FirstUsable, LastUsable uint64
	Disk                    guid.GUID
	TableAt                 uint64
	Entries, EntrySize      uint32
	TableChecksum           uint32
}

// An Entry is one of a table (table 5-6). First and Last are sectors.
type Entry struct {
	Type, ID    guid.GUID
	First, Last uint64
	Attributes  uint64
	Name        [36]uint16
}

// Used reports whether the entry is that of a partition.
func (e Entry) Used() bool { return e.Type != guid.GUID{} }

// Label is the partition's name.
func (e Entry) Label() string {
	units := e.Name[:]
	if end := slices.Index(units, 0); end >= 0 {
		units = units[:end]
	}
	return string(utf16.Decode(units))
}

// ParseHeader decodes a header, of at least HeaderSize bytes.
func ParseHeader(b []byte) (h Header) {
	decode(b, &h)
	return h
}

// ParseEntry decodes an entry, of at least EntrySize bytes.
func ParseEntry(b []byte) (e Entry) {
	decode(b, &e)
	return e
}

func decode(b []byte, v any) {
	if _, err := binary.Decode(b, binary.LittleEndian, v); err != nil {
		panic("gpt: " + err.Error()) // unreachable: the callers' sizes are constants
	}
}

// Bytes encodes a header, with the checksum that it has.
func (h Header) Bytes() []byte { return encode(h) }

// Bytes encodes an entry.
func (e Entry) Bytes() []byte { return encode(e) }

func encode(v any) []byte {
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
		panic("gpt: " + err.Error()) // unreachable: the sizes are fixed, and memory takes everything
	}
	return b.Bytes()
}

// Checksum is that of a header, whose own field counts as zero. It covers all bytes
// given: those that the header says it has.
func Checksum(header []byte) uint32 {
	h := slices.Clone(header)
	clear(h[sumAt : sumAt+4])
	return crc32.ChecksumIEEE(h)
}

// Seal writes the checksum into an encoded header.
func Seal(header []byte) {
	binary.LittleEndian.PutUint32(header[sumAt:], Checksum(header[:HeaderSize]))
}
