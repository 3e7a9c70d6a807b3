package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
)

const (
	pinDir = "pins"

	maxPins     = 64 // pins of one store
	maxPinned   = 64 // blobs of one pin
	maxPinName  = 64 // bytes
	pinHeader   = "phase pins 1\n"
	pinEnd      = "end "
	digestLine  = len(blob.Prefix) + 64 + 1
	maxPinBytes = len(pinHeader) + maxPinned*digestLine + len(pinEnd) + digestLine
)

// A PinError says that nobody knows what a pin protects, so that nothing is
// removed to make room.
type PinError struct {
	Path string
	Err  error
}

func (e *PinError) Error() string {
	return fmt.Sprintf("cannot tell what %s protects, so nothing is removed: %v", e.Path, e.Err)
}

func (e *PinError) Unwrap() error { return e.Err }

// Hint says what to do next.
func (e *PinError) Hint() string {
	return "Remove " + e.Path + " if nothing needs to be protected by it, or let its owner write it again."
}

// Pin protects blobs under a name, in place of what the name protected before:
// no process removes them to make room. They need not be there yet. At most 64
// blobs can have one name of lower-case letters, digits and hyphens, and there
// are at most 64 names. When Pin returns nil the pin survives a power cut; an
// interrupted one leaves the pin as it was.
func (s *Store) Pin(name string, digests []blob.Digest) error {
	if err := checkPinName(name); err != nil {
		return err
	}
	text, err := formatPin(digests)
	if err != nil {
		return fmt.Errorf("pin %s: %w", name, err)
	}
	err = s.locked(func() error {
		names, err := s.pinNames()
		if err != nil {
			return err
		}
		if len(names) >= maxPins && !slices.Contains(names, name) {
			return fmt.Errorf("there are %d pins already", len(names))
		}
		return durable.WriteBelow(s.dir, pinDir+"/"+name, text, 0o644)
	})
	if err != nil {
		return fmt.Errorf("pin %s: %w", name, err)
	}
	return nil
}

// Protects reports whether a single pin, of any name, protects all of these blobs.
func (s *Store) Protects(digests []blob.Digest) bool {
	pins, _ := s.Pins() // one that cannot be read protects nothing that can be told
	for _, pinned := range pins {
		if !slices.ContainsFunc(digests, func(d blob.Digest) bool { return !slices.Contains(pinned, d) }) {
			return true
		}
	}
	return false
}

// Unpin ends the protection under a name, also if nobody can tell what it
// protects. A name that protects nothing is no error.
func (s *Store) Unpin(name string) error {
	if err := checkPinName(name); err != nil {
		return err
	}
	err := s.locked(func() error {
		err := s.checkDir(pinDir)
		if err == nil {
			err = s.root.Remove(filepath.Join(pinDir, name))
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return s.syncDir(pinDir)
	})
	if err != nil {
		return fmt.Errorf("unpin %s: %w", name, err)
	}
	return nil
}

// Pins returns what each name protects. With a *PinError for each pin that
// cannot be read it returns the others.
func (s *Store) Pins() (map[string][]blob.Digest, error) {
	names, err := s.pinNames()
	if err != nil {
		return nil, err
	}
	pins := map[string][]blob.Digest{}
	var errs []error
	for _, name := range names {
		digests, err := s.readPin(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			errs = append(errs, &PinError{Path: filepath.Join(s.dir, pinDir, name), Err: err})
			continue
		}
		pins[name] = digests
	}
	return pins, errors.Join(errs...)
}

// pinned says which pins protect a blob, or fails if it cannot tell all of them.
func (s *Store) pinned() (map[blob.Digest][]string, error) {
	pins, err := s.Pins()
	return byDigest(pins), err
}

func byDigest(pins map[string][]blob.Digest) map[blob.Digest][]string {
	out := map[blob.Digest][]string{}
	for name, digests := range pins {
		for _, d := range digests {
			out[d] = append(out[d], name)
		}
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out
}

// pinNames lists the pins folder. What an interrupted Pin left there is no pin.
func (s *Store) pinNames() ([]string, error) {
	names, err := s.list(pinDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	names = slices.DeleteFunc(names, func(n string) bool { return strings.HasPrefix(n, durable.TempPrefix) })
	if err == nil && len(names) > maxPins {
		err = fmt.Errorf("%d pins, at most %d are read", len(names), maxPins)
	}
	if err != nil {
		return nil, &PinError{Path: filepath.Join(s.dir, pinDir), Err: err}
	}
	return names, nil
}

// dropPinTemps removes what interrupted Pins left. The caller has the store's
// lock.
func (s *Store) dropPinTemps() {
	names, _ := s.list(pinDir)
	for _, n := range names {
		if strings.HasPrefix(n, durable.TempPrefix) {
			_ = s.root.Remove(filepath.Join(pinDir, n))
		}
	}
}

func (s *Store) readPin(name string) ([]blob.Digest, error) {
	if err := checkPinName(name); err != nil {
		return nil, err
	}
	text, err := durable.ReadSmall(filepath.Join(s.dir, pinDir, name), maxPinBytes, durable.RefuseLinks)
	if err != nil {
		return nil, err
	}
	return parsePin(text)
}

func checkPinName(name string) error {
	good := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' }
	if name == "" || len(name) > maxPinName || name[0] == '-' || strings.ContainsFunc(name, func(r rune) bool { return !good(r) }) {
		return fmt.Errorf("%.80q is no name for a pin", name)
	}
	return nil
}

var errPin = errors.New("not a list of pinned blobs")

// formatPin writes a pin: a header, sorted digests one a line, and a digest of
// all that, so that a list of which the medium lost a part protects no less.
func formatPin(digests []blob.Digest) ([]byte, error) {
	digests = slices.Clone(digests)
	slices.SortFunc(digests, compareDigests)
	digests = slices.Compact(digests)
	if len(digests) == 0 || len(digests) > maxPinned || digests[0].IsZero() {
		return nil, fmt.Errorf("%w: want 1 to %d digests", errPin, maxPinned)
	}
	text := []byte(pinHeader)
	for _, d := range digests {
		text = append(text, d.String()+"\n"...)
	}
	return append(text, pinEnd+blob.Of(text).String()+"\n"...), nil
}

// parsePin reads exactly what formatPin writes.
func parsePin(text []byte) ([]blob.Digest, error) {
	if len(text) > maxPinBytes {
		return nil, fmt.Errorf("%w: %d bytes", errPin, len(text))
	}
	rest, ok := strings.CutPrefix(string(text), pinHeader)
	lines := strings.SplitAfter(rest, "\n")
	if n := len(lines); !ok || n < 3 || lines[n-1] != "" {
		return nil, fmt.Errorf("%w: no header or no end", errPin)
	}
	lines = lines[:len(lines)-2]
	digests := make([]blob.Digest, 0, len(lines))
	for _, line := range lines {
		d, err := blob.Parse(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errPin, err)
		}
		digests = append(digests, d)
	}
	again, err := formatPin(digests)
	if err != nil {
		return nil, err
	}
	if string(again) != string(text) {
		return nil, fmt.Errorf("%w: it was changed or cut", errPin)
	}
	return digests, nil
}

func compareDigests(a, b blob.Digest) int { return strings.Compare(a.Hex(), b.Hex()) }
