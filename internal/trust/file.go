package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/manifest"
)

// plainVersion is what a person writes into a floor file.
var plainVersion = regexp.MustCompile(`^[1-9][0-9]{0,15}\n?$`)

var anyWant = manifest.Want{Channel: manifest.Any, Arch: manifest.Any}

// LoadFile reads a floor that is kept in one file of a person's choice, and for
// which channel and architecture it is. Besides the form that SaveFile writes
// it accepts a bare version number, which holds for every channel and
// architecture (manifest.Any) and has no checksum. A file that does not exist
// gives the zero Floor; one that cannot be read as either form is an *Error
// around ErrUnreadable, never 0.
func LoadFile(path string) (manifest.Want, manifest.Floor, error) {
	stored, err := loadFile(path)
	if err != nil {
		err = fmt.Errorf("%w: %s: %w", ErrUnreadable, path, err)
		return anyWant, manifest.Floor{}, floorError("load", anyWant, err)
	}
	return stored.want, stored.floor, nil
}

// floorFile is the content of a floor file.
type floorFile struct {
	want     manifest.Want
	floor    manifest.Floor
	sequence int64 // as in a slot
}

func loadFile(path string) (floorFile, error) {
	data, err := readSmall(path, maxSlotBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return floorFile{want: anyWant}, nil
	}
	if err != nil {
		return floorFile{}, err
	}
	return parseFile(data)
}

func parseFile(data []byte) (f floorFile, err error) {
	if plainVersion.Match(data) {
		f.want = anyWant
		f.floor.ManifestVersion, err = strconv.ParseInt(string(bytes.TrimSpace(data)), 10, 64)
		return f, err
	}
	fields := bytes.Fields(data)
	switch {
	case len(fields) < 3:
		return f, errors.New("the file is not a version floor")
	case string(fields[0]) == "phase-floor-1":
		return f, fmt.Errorf("the file has an older form, with version %.16q: write that number into it, and nothing else", fields[min(3, len(fields)-1)])
	}
	want := manifest.Want{Channel: string(fields[1]), Arch: string(fields[2])}
	if err := checkWant(want); err != nil {
		return f, err
	}
	floor, sequence, err := floorSlots("", want).decode(data)
	return floorFile{want, floor, sequence}, err
}

// SaveFile raises the floor in the file path by the rules of State.SaveFloor,
// except that an unreadable file is left alone and is an error.
func SaveFile(path string, want manifest.Want, floor manifest.Floor, root *manifest.Root) error {
	err := checkWant(want)
	if err == nil {
		err = saveFile(path, want, floor, root)
	}
	return floorError("save", want, err)
}

func saveFile(path string, want manifest.Want, floor manifest.Floor, root *manifest.Root) error {
	unlock, err := lock(filepath.Dir(path), 0)
	if err != nil {
		return err
	}
	defer unlock()
	stored, err := loadFile(path)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s: %w", ErrUnreadable, path, err)
	case stored.want != anyWant && stored.want != want:
		return fmt.Errorf("%s holds the floor of %s", path, name(stored.want))
	}
	next, err := raise(want.Channel, stored.floor, floor, root)
	if err != nil || (stored.want == want && next == stored.floor) {
		return err
	}
	return durable.WriteFile(path, floorSlots("", want).encode(next, stored.sequence+1), 0o644)
}
