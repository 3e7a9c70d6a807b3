package oneshot

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// What is written below the root of the EFI system partition.
const (
	folder     = "phase/oneshot"
	kernelFile = folder + "/kernel"
	initrdFile = folder + "/initrd"
	// EntryID is the entry's name to the boot loader.
	EntryID   = "phase-oneshot.conf"
	entryFile = "loader/entries/" + EntryID
)

// maxEntry bounds an entry file in bytes.
const maxEntry = 8 << 10

// maxOptions is the longest command line: the loader puts the initrd's name
// before it, and kernels take 2,047 bytes.
const maxOptions = 2047 - len(`initrd=\phase\oneshot\initrd `)

// entry is a boot loader entry of type 1, as far as one is used here.
type entry struct {
	Title, Linux, Initrd, Options string
}

// ErrEntry is wrapped by the errors of parseEntry and entry.marshal.
var ErrEntry = errors.New("malformed boot entry")

func newEntry(options string) entry {
	return entry{"Phase Boot: the verified system, once", "/" + kernelFile, "/" + initrdFile, options}
}

// marshal writes the entry, or refuses what would be read otherwise.
func (e entry) marshal() ([]byte, error) {
	if len(e.Options) > maxOptions {
		return nil, fmt.Errorf("%w: the command line has %d bytes, at most %d are possible", ErrEntry, len(e.Options), maxOptions)
	}
	text := fmt.Sprintf("title   %s\nlinux   %s\ninitrd  %s\n", e.Title, e.Linux, e.Initrd)
	if e.Options != "" {
		text += "options " + e.Options + "\n"
	}
	read, err := parseEntry([]byte(text))
	if err != nil {
		return nil, err
	}
	if read != e {
		return nil, fmt.Errorf("%w: blanks around a value get lost", ErrEntry)
	}
	return []byte(text), nil
}

// parseEntry reads an entry of this package's making: no comments, no keys but its
// own, each once.
func parseEntry(data []byte) (e entry, err error) {
	if len(data) > maxEntry || !utf8.Valid(data) {
		return e, fmt.Errorf("%w: not a text of at most %d bytes", ErrEntry, maxEntry)
	}
	fields := map[string]*string{"title": &e.Title, "linux": &e.Linux, "initrd": &e.Initrd, "options": &e.Options}
	rest := string(data)
	for rest != "" {
		line, more, ended := strings.Cut(rest, "\n")
		rest = more
		key, value, _ := strings.Cut(line, " ")
		field, known := fields[key]
		value = strings.Trim(value, " \t")
		if !ended || !known || *field != "" || value == "" || strings.ContainsFunc(line, control) {
			return entry{}, fmt.Errorf("%w: line %.40q", ErrEntry, line)
		}
		*field = value
	}
	if e.Title == "" || e.Linux == "" || e.Initrd == "" {
		return entry{}, fmt.Errorf("%w: it names no title, kernel or initrd", ErrEntry)
	}
	return e, nil
}

func control(r rune) bool { return r < ' ' || r == 0x7f }
