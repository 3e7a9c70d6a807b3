// Package trust remembers what a machine must not forget between boots, and
// decides which time to believe.
//
// Floors stop an attacker from offering an old, validly signed release: the
// version of every release that was booted is kept, per channel and
// architecture, on the medium's cache partition. The medium itself may be cut
// off from power at any moment and may rot, so each floor is kept in two slots
// with checksums, and the slot that holds the better value is never the one
// being written. The checksum finds accidents; whoever can write to the medium
// can write a floor, too.
//
// The clock of a machine is a hint. See Clock.
package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/manifest"
)

// FloorError says that remembered floors cannot be read or raised.
type FloorError struct {
	Op   string // "load" or "save"
	Want manifest.Want
	Err  error
}

// Error implements error.
func (e *FloorError) Error() string {
	return fmt.Sprintf("%s version floor of %s/%s: %v", e.Op, e.Want.Channel, e.Want.Arch, e.Err)
}

// Unwrap returns the cause.
func (e *FloorError) Unwrap() error { return e.Err }

// Code implements the error numbering of the troubleshooting guide.
func (e *FloorError) Code() string {
	switch {
	case errors.Is(e.Err, ErrUnreadable):
		return "VFY-020"
	case errors.Is(e.Err, ErrLower), errors.Is(e.Err, ErrOtherDigest):
		return "VFY-021"
	}
	return "VFY-022"
}

// Hint says in one sentence what to do next.
func (e *FloorError) Hint() string {
	switch e.Code() {
	case "VFY-020":
		return "The cache on this medium is damaged: write the medium anew, or go on with the floor built into it."
	case "VFY-021":
		return "Another program accepted a newer release meanwhile: start again."
	}
	return "Check that the cache partition is mounted, writable and not full."
}

// Causes in a FloorError; match them with errors.Is.
var (
	// ErrUnreadable: something was stored, but no slot holds a valid value.
	// It is not the same as nothing stored, and must never be taken for 0.
	ErrUnreadable = errors.New("stored value is unreadable")
	// ErrLower: the stored floor is higher than the one to be saved.
	ErrLower = errors.New("a higher floor is stored")
	// ErrOtherDigest: the stored floor has the same version for other content.
	ErrOtherDigest = errors.New("a floor of the same version with another digest is stored")
)

// Floors keeps floors in a directory. It is safe for concurrent use, by several
// processes as well.
type Floors struct{ dir string }

// OpenFloors returns the floors kept in dir. It touches nothing: Load accepts
// that dir does not exist, and Save creates it.
func OpenFloors(dir string) *Floors { return &Floors{dir} }

// Load returns the floor of want, or the zero Floor if none was ever saved. If
// one was saved but cannot be read the error is a *FloorError around
// ErrUnreadable; fall back to the floor built into the medium, with a warning.
// One bad slot of two is not an error.
func (f *Floors) Load(want manifest.Want) (manifest.Floor, error) {
	if err := checkWant(want); err != nil {
		return manifest.Floor{}, &FloorError{"load", want, err}
	}
	floor, _, err := f.best(want)
	if err != nil {
		return manifest.Floor{}, &FloorError{"load", want, err}
	}
	return floor, nil
}

// Save raises the floor of want. It never lowers one (ErrLower) or exchanges
// its digest (ErrOtherDigest), and writes nothing if it is stored already. A
// stored floor without a digest takes that of floor. If both slots are
// unreadable it starts over with floor, as that is more than nothing. After a
// crash at any moment Load returns either the old floor or the new one.
func (f *Floors) Save(want manifest.Want, floor manifest.Floor) error {
	err := checkWant(want)
	if err == nil && floor.ManifestVersion < 1 {
		err = fmt.Errorf("version %d is not one", floor.ManifestVersion)
	}
	if err == nil {
		err = f.save(want, floor)
	}
	if err != nil {
		return &FloorError{"save", want, err}
	}
	return nil
}

func (f *Floors) save(want manifest.Want, floor manifest.Floor) error {
	if err := durable.MkdirAll(f.dir, 0o755); err != nil {
		return err
	}
	unlock, err := lock(f.dir)
	if err != nil {
		return err
	}
	defer unlock()
	stored, target, err := f.best(want)
	if err != nil && !errors.Is(err, ErrUnreadable) {
		return err
	}
	if err := raises(stored, floor); err != nil {
		return ignoreEqual(err)
	}
	return durable.WriteFile(f.path(want, target), encodeSlot(want, floor), 0o644)
}

// errEqual says that there is nothing to write.
var errEqual = errors.New("floor is stored already")

func ignoreEqual(err error) error {
	if err == errEqual {
		return nil
	}
	return err
}

// raises returns nil if next may replace stored.
func raises(stored, next manifest.Floor) error {
	switch {
	case next.ManifestVersion < stored.ManifestVersion:
		return fmt.Errorf("%w: %d, not %d", ErrLower, stored.ManifestVersion, next.ManifestVersion)
	case next.ManifestVersion > stored.ManifestVersion:
		return nil
	case next.Digest == stored.Digest || next.Digest.IsZero():
		return errEqual
	case !stored.Digest.IsZero():
		return fmt.Errorf("%w: version %d is %s, not %s", ErrOtherDigest, stored.ManifestVersion, stored.Digest, next.Digest)
	}
	return nil // only the digest is new
}

// slots are the file name endings of the two copies.
var slots = [2]string{"a", "b"}

func (f *Floors) path(want manifest.Want, slot int) string {
	return filepath.Join(f.dir, want.Channel+"-"+want.Arch+".floor."+slots[slot])
}

// best returns the higher of the two slots and the index of the other one, the
// slot that may be overwritten.
func (f *Floors) best(want manifest.Want) (best manifest.Floor, spare int, err error) {
	var causes []error
	valid := 0
	for i := range slots {
		floor, err := readSlot(f.path(want, i), want)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			causes = append(causes, err)
			continue
		}
		valid++
		if better(floor, best) {
			best, spare = floor, 1-i
		}
	}
	if valid == 0 && len(causes) > 0 {
		return manifest.Floor{}, 0, fmt.Errorf("%w: %w", ErrUnreadable, errors.Join(causes...))
	}
	return best, spare, nil
}

// better orders floors: by version, and a known digest beats an unknown one.
func better(a, b manifest.Floor) bool {
	if a.ManifestVersion != b.ManifestVersion {
		return a.ManifestVersion > b.ManifestVersion
	}
	return b.Digest.IsZero()
}

// maxSlotBytes is well above what encodeSlot can write.
const maxSlotBytes = 512

// readSlot reads one slot.
func readSlot(path string, want manifest.Want) (manifest.Floor, error) {
	data, err := readSmall(path)
	if err != nil {
		return manifest.Floor{}, err
	}
	floor, err := decodeSlot(want, data)
	if err != nil {
		return manifest.Floor{}, fmt.Errorf("%s: %w", path, err)
	}
	return floor, nil
}

// readSmall reads a slot's bytes. It follows no symbolic link, waits for no pipe
// and reads no more than tells that there are too many.
func readSmall(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link", path)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file but %s", path, info.Mode().Type())
	}
	return io.ReadAll(io.LimitReader(file, maxSlotBytes+1))
}

// slotMagic starts every slot and names the version of its format.
const slotMagic = "phase-floor-1"

// encodeSlot writes one line with the value and one with its checksum. The line
// names whose floor it is, so that a renamed file is noticed. "-" stands for an
// unknown digest.
func encodeSlot(want manifest.Want, floor manifest.Floor) []byte {
	digest := "-"
	if !floor.Digest.IsZero() {
		digest = floor.Digest.String()
	}
	line := fmt.Appendf(nil, "%s %s %s %d %s\n", slotMagic, want.Channel, want.Arch, floor.ManifestVersion, digest)
	return fmt.Appendf(line, "%s\n", blob.Of(line))
}

// decodeSlot accepts exactly what encodeSlot writes for want.
func decodeSlot(want manifest.Want, data []byte) (manifest.Floor, error) {
	switch {
	case len(data) == 0:
		return manifest.Floor{}, errors.New("file is empty")
	case len(data) > maxSlotBytes:
		return manifest.Floor{}, fmt.Errorf("file is larger than %d bytes", maxSlotBytes)
	}
	fields := bytes.Fields(data)
	if len(fields) != 6 || string(fields[0]) != slotMagic {
		return manifest.Floor{}, errors.New("file is not a version floor")
	}
	var floor manifest.Floor
	var err error
	if floor.ManifestVersion, err = strconv.ParseInt(string(fields[3]), 10, 64); err != nil || floor.ManifestVersion < 1 {
		return manifest.Floor{}, fmt.Errorf("version %.40q is not one", fields[3])
	}
	if string(fields[4]) != "-" {
		if floor.Digest, err = blob.Parse(string(fields[4])); err != nil {
			return manifest.Floor{}, err
		}
	}
	if !bytes.Equal(data, encodeSlot(want, floor)) {
		return manifest.Floor{}, fmt.Errorf("checksum is wrong, or the file is not the floor of %s/%s", want.Channel, want.Arch)
	}
	return floor, nil
}

// checkWant keeps names that reach the file system to the known ones.
func checkWant(want manifest.Want) error {
	if err := manifest.CheckChannel(want.Channel); err != nil {
		return err
	}
	if arch, err := manifest.ParseArch(want.Arch); err != nil || arch != want.Arch {
		return fmt.Errorf("unknown architecture %.40q", want.Arch)
	}
	return nil
}

// lock takes an exclusive lock on a directory. It ends with the process, or
// with unlock, and leaves no file behind.
func lock(dir string) (unlock func(), err error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { file.Close() }, nil
}
