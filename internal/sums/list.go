package sums

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/phasebased/phase/blob"
)

// An Entry is a file and its digest.
type Entry struct {
	Name   string // with slashes, below the folder of the list
	SHA256 blob.Digest
}

// A List is what SHA256SUMS says, sorted by name.
type List []Entry

// part is a folder or file name that means the same on every system, is no
// option of any tool, and is never hidden.
var part = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+~-]{0,254}$`)

// reserved are names that Windows takes for devices, with any extension.
var reserved = regexp.MustCompile(`(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?$`)

// CheckName refuses a name that a list cannot have: one that leads out of the
// folder, that a tool could mistake, or that some systems do not have.
func CheckName(name string) error {
	parts := strings.Split(name, "/")
	if len(name) > maxName || len(parts) > maxDepth {
		return ErrList.Of(Name, "the name %.60q… is too long", name)
	}
	for _, p := range parts {
		if !part.MatchString(p) || reserved.MatchString(p) || strings.HasSuffix(p, ".") {
			return ErrList.Of(Name, "the name %.80q is not allowed", name)
		}
	}
	return nil
}

// check refuses a list that is empty or too long, or whose names are not sorted,
// occur twice or are the same where case does not count.
func (l List) check() error {
	if len(l) == 0 || len(l) > MaxFiles {
		return ErrList.Of(Name, "%d files, 1 to %d are allowed", len(l), MaxFiles)
	}
	folded := map[string]bool{}
	for i, e := range l {
		if err := CheckName(e.Name); err != nil {
			return err
		}
		if i > 0 && e.Name <= l[i-1].Name || folded[strings.ToLower(e.Name)] {
			return ErrList.Of(Name, "%q is out of order or there twice", e.Name)
		}
		folded[strings.ToLower(e.Name)] = true
	}
	return nil
}

// Bytes is the file, after the same checks as Parse makes.
func (l List) Bytes() ([]byte, error) {
	sorted := slices.Clone(l)
	slices.SortFunc(sorted, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	if err := sorted.check(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, e := range sorted {
		fmt.Fprintf(&b, "%s  %s\n", e.SHA256.Hex(), e.Name)
	}
	if b.Len() > MaxBytes {
		return nil, ErrList.Of(Name, "it is too long")
	}
	return b.Bytes(), nil
}

// Parse reads what Bytes writes and nothing else: any list that it accepts is
// the one that Bytes gives back. It verifies nothing, see Open.
func Parse(data []byte) (List, error) {
	refuse := func(format string, args ...any) (List, error) {
		return nil, ErrList.Of(Name, format, args...)
	}
	if len(data) > MaxBytes {
		return refuse("it is larger than %d bytes", MaxBytes)
	}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		return refuse("its last line is cut short")
	}
	var list List
	for line := range bytes.Lines(data) {
		digest, name, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), "  ")
		d, err := blob.Parse(blob.Prefix + digest)
		if !ok || err != nil {
			return refuse("line %d is not a digest, two spaces and a name", len(list)+1)
		}
		if len(list) == MaxFiles {
			return refuse("more than %d files", MaxFiles)
		}
		list = append(list, Entry{name, d})
	}
	return list, list.check()
}

// Find returns the digest of a name.
func (l List) Find(name string) (blob.Digest, bool) {
	i := slices.IndexFunc(l, func(e Entry) bool { return e.Name == name })
	if i < 0 {
		return blob.Digest{}, false
	}
	return l[i].SHA256, true
}

// Named returns the names that a digest has.
func (l List) Named(d blob.Digest) (names []string) {
	for _, e := range l {
		if e.SHA256 == d {
			names = append(names, e.Name)
		}
	}
	return names
}
