package trust

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/manifest"
)

// Floor returns the floor of want as it was saved, or the zero Floor if none
// ever was; what it is worth under a root is up to the root (EffectiveFloor). If
// one was saved but cannot be read the error is an *Error around ErrUnreadable:
// fall back to the floor built into the medium, with a warning. The floor is kept
// twice; one copy that went bad is not an error, and the next save mends it.
func (s *State) Floor(want manifest.Want) (manifest.Floor, error) {
	if s == nil {
		return manifest.Floor{}, nil
	}
	if err := checkWant(want); err != nil {
		return manifest.Floor{}, floorError("load", want, err)
	}
	floor, err := s.floorSlots(want).load()
	return floor, floorError("load", want, err)
}

// SaveFloor raises the floor of want to floor; root is the newest at hand.
// It never saves less than the stored floor is worth under root (ErrLower), nor
// exchanges its digest (ErrOtherDigest): only a root that resets floors can
// lower one. It writes nothing if there is nothing new. If both slots are
// unreadable it starts over with floor, as that is more than nothing. After a
// crash at any moment Floor returns either the old floor or the new one.
func (s *State) SaveFloor(want manifest.Want, floor manifest.Floor, root *manifest.Root) error {
	if s == nil {
		return nil
	}
	err := checkWant(want)
	if err == nil {
		err = s.locked(func() error {
			return s.floorSlots(want).update(func(stored manifest.Floor) (manifest.Floor, error) {
				return raise(want.Channel, stored, floor, root)
			})
		})
	}
	return floorError("save", want, err)
}

func (s *State) floorSlots(want manifest.Want) slots[manifest.Floor] {
	return floorSlots(s.path(prefix(want)+"floor"), want)
}

// raise returns the floor to store once next was accepted.
func raise(channel string, stored, next manifest.Floor, root *manifest.Root) (manifest.Floor, error) {
	stored = root.EffectiveFloor(channel, stored)
	next.SecurityFloor = max(next.SecurityFloor, stored.SecurityFloor)
	switch {
	case next.ManifestVersion < 1:
		return stored, fmt.Errorf("version %d is not one", next.ManifestVersion)
	case next.ManifestVersion < stored.ManifestVersion:
		return stored, fmt.Errorf("%w: %d, not %d", ErrLower, stored.ManifestVersion, next.ManifestVersion)
	case next.ManifestVersion > stored.ManifestVersion:
		return next, nil
	case next.Digest.IsZero():
		next.Digest = stored.Digest
	case !stored.Digest.IsZero() && next.Digest != stored.Digest:
		return stored, fmt.Errorf("%w: version %d is %s, not %s", ErrOtherDigest, stored.ManifestVersion, stored.Digest, next.Digest)
	}
	next.RootVersion = max(next.RootVersion, stored.RootVersion)
	return next, nil
}

// floorKind starts every stored floor and names the version of its format.
const floorKind = "phase-floor-2"

func floorSlots(path string, want manifest.Want) slots[manifest.Floor] {
	return slots[manifest.Floor]{
		twin: true, path: path, kind: floorKind + " " + want.Channel + " " + want.Arch,
		format: formatFloor, parse: parseFloor,
	}
}

func formatFloor(f manifest.Floor) string {
	return fmt.Sprintf("%d %s %d %d", f.ManifestVersion, formatDigest(f.Digest), f.SecurityFloor, f.RootVersion)
}

func parseFloor(line string) (f manifest.Floor, err error) {
	fields := strings.Split(line, " ")
	if len(fields) != 4 {
		return f, fmt.Errorf("%.80q is not a version floor", line)
	}
	for i, number := range map[int]*int64{0: &f.ManifestVersion, 2: &f.SecurityFloor, 3: &f.RootVersion} {
		if *number, err = strconv.ParseInt(fields[i], 10, 64); err != nil || *number < 0 {
			return f, fmt.Errorf("%.40q is not a version", fields[i])
		}
	}
	if f.ManifestVersion < 1 {
		return f, errors.New("version 0 is not one")
	}
	f.Digest, err = parseDigest(fields[1])
	return f, err
}

// formatDigest writes "-" for no digest.
func formatDigest(d blob.Digest) string {
	if d.IsZero() {
		return "-"
	}
	return d.String()
}

func parseDigest(s string) (blob.Digest, error) {
	if s == "-" {
		return blob.Digest{}, nil
	}
	return blob.Parse(s)
}
