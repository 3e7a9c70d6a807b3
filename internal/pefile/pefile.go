// Package pefile reads and extends EFI programs: PE32+ files, as the firmware
// starts them and as Secure Boot signs them.
//
// What is read is foreign: everything has one form only, every offset is checked
// before it is followed, and a file in which bytes hide between what a signature
// covers is refused. Whoever parses a file here and signs it has therefore signed
// all of it. Sources: Microsoft's "PE Format" and "Windows Authenticode Portable
// Executable Signature Format", and UEFI 2.10, section 32.2.
//
// Nothing here knows keys; package secureboot does.
package pefile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// Machine types.
const (
	MachineX8664 = 0x8664
	MachineARM64 = 0xaa64
)

const (
	maxSize     = 1 << 30 // bytes of a file
	maxSections = 96      // the specification's limit for loaders

	coffHeader    = 20
	sectionHeader = 40
	optionalFixed = 112 // the optional header of PE32+ without its directories
	directories   = 16
	security      = 4 // index of the certificate table's directory

	certHeader  = 8
	certVersion = 0x0200 // WIN_CERT_REVISION_2_0
	certPKCS7   = 0x0002 // WIN_CERT_TYPE_PKCS_SIGNED_DATA
	certAlign   = 8
	maxCerts    = 16
)

// ErrFormat says that a file is no EFI program, or one of a form that this
// package does not read. Errors wrap it and say what is wrong.
var ErrFormat = errors.New("not an EFI program that can be signed")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// A Section is a part of the file that the firmware loads.
type Section struct {
	Name            string
	VirtualSize     uint32 // bytes in memory
	VirtualAddress  uint32
	Size            uint32 // bytes in the file
	Offset          uint32 // in the file
	Characteristics uint32
}

// A File is a parsed EFI program.
type File struct {
	Machine          uint16
	SectionAlignment uint32
	Sections         []Section // in the order of the table

	data       []byte
	optional   int    // offset of the optional header
	table      int    // offset of the section table
	fileAlign  uint32 // of sections in the file
	headers    uint32 // SizeOfHeaders
	image      uint32 // SizeOfImage
	certOffset int    // where the certificates begin: they end the file; its length if there are none
}

// Parse reads an EFI program. The file keeps data, which must not change while it
// is used. Errors wrap ErrFormat.
func Parse(data []byte) (*File, error) {
	f := &File{data: data}
	for _, step := range []func() error{f.readHeaders, f.readSections, f.readSecurity, f.checkCoverage} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return f, nil
}

var le = binary.LittleEndian

func (f *File) readHeaders() error {
	d := f.data
	if len(d) > maxSize || len(d) < 0x40 || d[0] != 'M' || d[1] != 'Z' {
		return refuse("no MZ header, or more than %d bytes", maxSize)
	}
	at := int64(le.Uint32(d[0x3c:]))
	if at < 0x40 || at+4+coffHeader+optionalFixed > int64(len(d)) || string(d[at:at+4]) != "PE\x00\x00" {
		return refuse("no PE header")
	}
	coff := d[at+4:]
	f.Machine = le.Uint16(coff)
	if f.Machine != MachineX8664 && f.Machine != MachineARM64 {
		return refuse("machine type %#04x", f.Machine)
	}
	f.optional = int(at) + 4 + coffHeader
	opt, size := d[f.optional:], int(le.Uint16(coff[16:]))
	n := int64(le.Uint32(opt[108:]))
	if le.Uint16(opt) != 0x20b || n <= security || n > directories || int64(size) != optionalFixed+8*n {
		return refuse("its optional header is not one of PE32+")
	}
	if sub := le.Uint16(opt[68:]); sub < 10 || sub > 13 {
		return refuse("its subsystem is %d, not EFI", sub)
	}
	f.SectionAlignment, f.fileAlign = le.Uint32(opt[32:]), le.Uint32(opt[36:])
	f.image, f.headers = le.Uint32(opt[56:]), le.Uint32(opt[60:])
	f.table = f.optional + size
	sections := int(le.Uint16(coff[2:]))
	switch {
	case bits.OnesCount32(f.SectionAlignment) != 1 || bits.OnesCount32(f.fileAlign) != 1:
		return refuse("alignments %#x and %#x", f.SectionAlignment, f.fileAlign)
	case sections == 0 || sections > maxSections:
		return refuse("%d sections", sections)
	case int64(f.headers) > int64(len(d)) || f.table+sections*sectionHeader > int(f.headers):
		return refuse("its headers do not fit")
	}
	f.Sections = make([]Section, sections)
	return nil
}

func (f *File) readSections() error {
	for i := range f.Sections {
		h := f.data[f.table+i*sectionHeader:]
		s := Section{
			Name:        strings.TrimRight(string(h[:8]), "\x00"),
			VirtualSize: le.Uint32(h[8:]), VirtualAddress: le.Uint32(h[12:]),
			Size: le.Uint32(h[16:]), Offset: le.Uint32(h[20:]), Characteristics: le.Uint32(h[36:]),
		}
		if s.Size != 0 && (s.Offset < f.headers || int64(s.Offset)+int64(s.Size) > int64(len(f.data))) {
			return refuse("section %q reaches beyond the file", s.Name)
		}
		if int64(s.VirtualAddress)+int64(s.VirtualSize) > 1<<32-1 {
			return refuse("section %q reaches beyond the address space", s.Name)
		}
		f.Sections[i] = s
	}
	return nil
}

// readSecurity finds the certificates, which may only end the file.
func (f *File) readSecurity() error {
	entry := f.securityEntry()
	offset, size := int64(le.Uint32(f.data[entry:])), int64(le.Uint32(f.data[entry+4:]))
	f.certOffset = len(f.data)
	if offset == 0 && size == 0 {
		return nil
	}
	if offset < int64(f.headers) || offset%certAlign != 0 || size < certHeader || offset+size != int64(len(f.data)) {
		return refuse("its certificates do not end the file")
	}
	f.certOffset = int(offset)
	_, err := f.Signatures()
	return err
}

// securityEntry is the offset of the certificate table's directory.
func (f *File) securityEntry() int { return f.optional + optionalFixed + 8*security }

// checkCoverage requires that headers, sections, a tail and the certificates make
// up the file without gaps or overlaps: signers hash exactly those.
func (f *File) checkCoverage() error {
	at := f.headers
	for _, s := range f.stored() {
		if s.Offset != at {
			return refuse("section %q begins at %#x in the file, where the one before ends at %#x", s.Name, s.Offset, at)
		}
		at += s.Size
	}
	if int64(at) > int64(f.certOffset) {
		return refuse("sections reach into the certificates")
	}
	return nil
}

// stored are the sections that have bytes in the file, in their order there.
func (f *File) stored() []Section {
	list := slices.DeleteFunc(slices.Clone(f.Sections), func(s Section) bool { return s.Size == 0 })
	slices.SortFunc(list, func(a, b Section) int { return int(int64(a.Offset) - int64(b.Offset)) })
	return list
}

// end is where the last section ends in the file.
func (f *File) end() int {
	end := int(f.headers)
	for _, s := range f.stored() {
		end += int(s.Size)
	}
	return end
}

// Content returns the bytes of the first section of a name as they lie in the
// file, without the padding behind them.
func (f *File) Content(name string) ([]byte, bool) {
	for _, s := range f.Sections {
		if s.Name == name && s.Size == 0 {
			return nil, true
		}
		if s.Name == name {
			return f.data[s.Offset:][:min(s.Size, s.VirtualSize)], true
		}
	}
	return nil, false
}

// Digest is the file's Authenticode hash: SHA-256 over all but the checksum, the
// place of the certificates and the certificates. A file whose length is no
// multiple of 8 is hashed as it will be once it is signed: with zeros behind.
func (f *File) Digest() [sha256.Size]byte {
	h := sha256.New()
	checksum, entry := f.optional+64, f.securityEntry()
	for _, part := range [][]byte{
		f.data[:checksum], f.data[checksum+4 : entry], f.data[entry+8 : f.certOffset], f.padding(),
	} {
		h.Write(part)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func (f *File) padding() []byte { return make([]byte, -f.certOffset&(certAlign-1)) }

// Signatures returns the PKCS #7 structures in DER that are attached to the file.
func (f *File) Signatures() ([][]byte, error) {
	var list [][]byte
	for rest := f.data[f.certOffset:]; len(rest) > 0; {
		if len(rest) < certHeader || len(list) == maxCerts {
			return nil, refuse("its certificates are cut short, or more than %d", maxCerts)
		}
		size := int64(le.Uint32(rest))
		padded := (size + certAlign - 1) &^ (certAlign - 1)
		if size <= certHeader || padded > int64(len(rest)) {
			return nil, refuse("a certificate reaches beyond the file")
		}
		if le.Uint16(rest[4:]) != certVersion || le.Uint16(rest[6:]) != certPKCS7 {
			return nil, refuse("a signature of an unknown kind")
		}
		list = append(list, rest[certHeader:size])
		rest = rest[padded:]
	}
	return list, nil
}

// Signed returns the file with exactly these PKCS #7 signatures.
func (f *File) Signed(signatures ...[]byte) ([]byte, error) {
	if len(signatures) > maxCerts {
		return nil, refuse("more than %d signatures", maxCerts)
	}
	out := slices.Concat(f.data[:f.certOffset], f.padding())
	start := len(out)
	for _, sig := range signatures {
		out = le.AppendUint32(out, uint32(certHeader+len(sig)))
		out = le.AppendUint16(out, certVersion)
		out = le.AppendUint16(out, certPKCS7)
		out = append(out, sig...)
		out = append(out, make([]byte, -len(out)&(certAlign-1))...)
	}
	if len(out) > maxSize {
		return nil, refuse("more than %d bytes", maxSize)
	}
	entry := f.securityEntry()
	le.PutUint32(out[entry:], uint32(start))
	le.PutUint32(out[entry+4:], uint32(len(out)-start))
	if len(signatures) == 0 {
		le.PutUint32(out[entry:], 0)
	}
	le.PutUint32(out[f.optional+64:], 0) // the checksum, which EFI does not use and a signature does not cover
	return out, nil
}

// An Addition is a section to append.
type Addition struct {
	Name    string // at most 8 bytes
	Content []byte
}

// characteristics of what is appended: initialised data, readable.
const dataSection = 0x40000040

// Append returns the file with further sections of data behind those it has, each
// at the next multiple of the header's SectionAlignment: firmware that finds one
// elsewhere starts nothing and says nothing. The file must be unsigned; a table of
// symbols behind its sections is left out, as debuggers alone read it.
func (f *File) Append(additions ...Addition) ([]byte, error) {
	if err := f.checkRoom(additions); err != nil {
		return nil, err
	}
	address := uint64(0)
	for _, s := range f.Sections {
		address = max(address, uint64(s.VirtualAddress)+uint64(max(s.VirtualSize, s.Size)))
	}
	out := bytes.Clone(f.data[:f.end()])
	coff := f.optional - coffHeader
	copy(out[coff+8:coff+16], make([]byte, 8)) // no symbols
	added := uint32(0)
	for i, a := range additions {
		address = roundUp(address, f.SectionAlignment)
		out = append(out, make([]byte, roundUp(uint64(len(out)), f.fileAlign)-uint64(len(out)))...)
		h := out[f.table+(len(f.Sections)+i)*sectionHeader:][:sectionHeader]
		size := roundUp(uint64(len(a.Content)), f.fileAlign)
		copy(h, a.Name)
		for j, v := range []uint64{uint64(len(a.Content)), address, size, uint64(len(out))} {
			le.PutUint32(h[8+4*j:], uint32(v))
		}
		le.PutUint32(h[36:], dataSection)
		out = append(out, a.Content...)
		out = append(out, make([]byte, size-uint64(len(a.Content)))...)
		address += size
		added += uint32(size)
		if address > maxSize || len(out) > maxSize {
			return nil, refuse("with its sections it has more than %d bytes", maxSize)
		}
	}
	le.PutUint16(out[coff+2:], uint16(len(f.Sections)+len(additions)))
	initialised := f.optional + 8
	le.PutUint32(out[initialised:], le.Uint32(out[initialised:])+added)
	le.PutUint32(out[f.optional+56:], uint32(roundUp(address, f.SectionAlignment)))
	le.PutUint32(out[f.optional+64:], 0)
	_, err := Parse(out)
	return out, err
}

// checkRoom requires that the header's spare bytes hold the new entries.
func (f *File) checkRoom(additions []Addition) error {
	end := f.table + len(f.Sections)*sectionHeader
	more := len(additions) * sectionHeader
	switch {
	case f.certOffset != len(f.data):
		return refuse("sections cannot be added to a signed file")
	case f.end() != len(f.data) && int(le.Uint32(f.data[f.optional-coffHeader+8:])) != f.end():
		return refuse("something lies behind its sections")
	case len(f.Sections)+len(additions) > maxSections || end+more > int(f.headers):
		return refuse("its header has no room for %d more sections", len(additions))
	case len(bytes.Trim(f.data[end:end+more], "\x00")) > 0:
		return refuse("something lies behind its section table")
	}
	for _, s := range f.Sections {
		if strings.HasPrefix(s.Name, "/") {
			return refuse("the name of section %q lies in its table of symbols", s.Name)
		}
	}
	for _, a := range additions {
		if a.Name == "" || len(a.Name) > 8 || len(a.Content) == 0 || len(a.Content) > maxSize {
			return refuse("section %q cannot have %d bytes", a.Name, len(a.Content))
		}
		if _, ok := f.Content(a.Name); ok {
			return refuse("it has a section %s already", a.Name)
		}
	}
	return nil
}

func roundUp(n uint64, align uint32) uint64 { return (n + uint64(align) - 1) &^ (uint64(align) - 1) }
