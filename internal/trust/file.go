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

// LoadFile reads a floor that is kept in one file of a person's choice, and for
// which channel and architecture it is. Besides the form that SaveFile writes
// it accepts a bare version number, which holds for every channel and
// architecture (manifest.Any) and has no checksum. A file that does not exist
// gives the zero Floor; one that cannot be read as either form is a
// *FloorError around ErrUnreadable, never 0.
func LoadFile(path string) (manifest.Want, manifest.Floor, error) {
	anyOf := manifest.Want{Channel: manifest.Any, Arch: manifest.Any}
	data, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) {
		return anyOf, manifest.Floor{}, nil
	}
	if err == nil && plainVersion.Match(data) {
		var version int64
		if version, err = strconv.ParseInt(string(bytes.TrimSpace(data)), 10, 64); err == nil {
			return anyOf, manifest.Floor{ManifestVersion: version}, nil
		}
	}
	want := anyOf
	if fields := bytes.Fields(data); err == nil && len(fields) > 2 {
		want = manifest.Want{Channel: string(fields[1]), Arch: string(fields[2])}
		err = checkWant(want)
	}
	var floor manifest.Floor
	if err == nil {
		floor, err = decodeSlot(want, data)
	}
	if err != nil {
		return anyOf, manifest.Floor{}, &FloorError{"load", anyOf, fmt.Errorf("%w: %s: %w", ErrUnreadable, path, err)}
	}
	return want, floor, nil
}

// SaveFile raises the floor in the file path with the rules of Floors.Save,
// except that an unreadable file is left alone and is an error.
func SaveFile(path string, want manifest.Want, floor manifest.Floor) error {
	err := checkWant(want)
	if err == nil && floor.ManifestVersion < 1 {
		err = fmt.Errorf("version %d is not one", floor.ManifestVersion)
	}
	if err == nil {
		err = saveFile(path, want, floor)
	}
	if err != nil {
		return &FloorError{"save", want, err}
	}
	return nil
}

func saveFile(path string, want manifest.Want, floor manifest.Floor) error {
	unlock, err := lock(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unlock()
	stored, current, err := LoadFile(path)
	if err != nil {
		return err
	}
	if stored.Channel != manifest.Any && stored != want {
		return fmt.Errorf("%s holds the floor of %s/%s", path, stored.Channel, stored.Arch)
	}
	if err := raises(current, floor); err != nil {
		return ignoreEqual(err)
	}
	return durable.WriteFile(path, encodeSlot(want, floor), 0o644)
}
