package image

import (
	"encoding/binary"
	"fmt"
	"path"
	"strings"
	"unicode/utf16"
)

// nameChildren gives every child of a directory its 8.3 name. Names that differ
// only in case cannot stand side by side on FAT and are refused.
func nameChildren(n *fatNode) error {
	used := make(map[[11]byte]bool)
	folded := make(map[string]bool)
	for _, c := range n.children {
		name := path.Base(c.entry.Path)
		if err := checkFATName(c.entry.Path, name); err != nil {
			return err
		}
		if key := strings.ToUpper(name); folded[key] {
			return &PathError{Path: c.entry.Path, Reason: "differs only in case from its neighbour"}
		} else {
			folded[key] = true
		}
		if fitsShort(name) {
			c.short = shortOf(name, "")
			used[c.short] = true
		}
	}
	for _, c := range n.children {
		name := path.Base(c.entry.Path)
		for i := 1; !fitsShort(name); i++ {
			c.short = shortOf(name, fmt.Sprintf("~%d", i))
			if !used[c.short] {
				used[c.short] = true
				break
			}
		}
	}
	return nil
}

func checkFATName(full, name string) error {
	switch {
	case strings.ContainsAny(name, "\"*/:<>?\\|"):
		return &PathError{Path: full, Reason: "character that FAT forbids"}
	case strings.HasSuffix(name, ".") || strings.HasSuffix(name, " ") || strings.HasPrefix(name, " "):
		return &PathError{Path: full, Reason: "FAT names neither end in a dot nor begin or end with a space"}
	case len(utf16.Encode([]rune(name))) > maxName:
		return &PathError{Path: full, Reason: "name too long for FAT"}
	}
	return nil
}

// isShort reports whether s has only characters that need no long name.
func isShort(s, extra string) bool {
	for _, r := range s {
		if !(r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || strings.ContainsRune(extra, r)) {
			return false
		}
	}
	return s != ""
}

// fitsShort reports whether the 8.3 entry alone holds the whole name.
func fitsShort(name string) bool {
	base, ext, dot := strings.Cut(name, ".")
	return len(base) <= 8 && isShort(base, "") && (!dot || len(ext) <= 3 && isShort(ext, ""))
}

// shortOf builds the 8.3 name: upper case, odd characters replaced, and the tail
// ("~1") placed after a base cut to make room (FAT specification, section 7.4).
func shortOf(name, tail string) [11]byte {
	base, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		base, ext = name[:i], name[i+1:]
	}
	base, ext = shortChars(base), shortChars(ext)
	base = base[:min(len(base), 8-len(tail))] + tail
	short := padName(base)
	copy(short[8:], ext[:min(len(ext), 3)])
	return short
}

func shortChars(s string) string {
	var b strings.Builder
	for _, r := range strings.ToUpper(s) {
		switch {
		case r == '.' || r == ' ':
		case isShort(string(r), ""):
			b.WriteRune(r)
		default:
			b.WriteByte('_')
		}
	}
	return b.String()
}

func padName(s string) [11]byte {
	name := [11]byte([]byte("           "))
	copy(name[:], s)
	return name
}

// appendLongName appends the long-name entries that precede a short entry, last
// part first, or nothing if the short name says it all.
func appendLongName(d []byte, name string, short [11]byte) []byte {
	if fitsShort(name) {
		return d
	}
	units := utf16.Encode([]rune(name))
	parts := (len(units) + 12) / 13
	if len(units)%13 != 0 {
		units = append(units, 0)
	}
	for len(units)%13 != 0 {
		units = append(units, 0xffff)
	}
	for i := parts; i >= 1; i-- {
		order := byte(i)
		if i == parts {
			order |= 0x40
		}
		d = appendLongPart(d, order, units[(i-1)*13:i*13], shortChecksum(short))
	}
	return d
}

func appendLongPart(d []byte, order byte, units []uint16, sum byte) []byte {
	var e [dirEntryLen]byte
	e[0], e[11], e[13] = order, 0x0f, sum
	for i, u := range units {
		at := 1 + 2*i
		switch {
		case i >= 11:
			at = 28 + 2*(i-11)
		case i >= 5:
			at = 14 + 2*(i-5)
		}
		binary.LittleEndian.PutUint16(e[at:], u)
	}
	return append(d, e[:]...)
}

func shortChecksum(short [11]byte) byte {
	var sum byte
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}
