package trust

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
)

// slots keeps one small value in two files. Each file, a slot, carries a
// sequence number and a checksum; the valid slot with the highest number is in
// force, and a new value always goes into the other one first. So whatever
// happens to the slot being written, the value in force before stays readable.
// Once the new value is on the device, twins write it over the old one as well,
// so that either slot may rot later. Slots without a twin keep the value before,
// for values that are of use then.
//
// Not the greatest value wins but the newest: a root may lower a floor. The
// checksum finds accidents; whoever can write to the medium can write a slot.
//
// A slot is two lines: the kind, the sequence number and the value; and the
// SHA-256 of the first line. The kind names the format's version and whose
// value it is, so that a file under another name is noticed.
type slots[T comparable] struct {
	twin   bool                    // both slots shall hold the value in force
	path   string                  // of both files, without their endings
	kind   string                  // the first words of a slot
	format func(T) string          // the value in one line, without its end
	parse  func(string) (T, error) // its reverse; what format would write otherwise is refused anyway
}

// record is a valid slot.
type record[T comparable] struct {
	value    T
	sequence int64
	slot     int // index of its file
}

const (
	// maxSlotBytes is well above what any slot holds.
	maxSlotBytes = 1024
	// maxSequence is far more than any medium can be written.
	maxSequence = 1 << 53
)

// endings of the names of the two files.
var endings = [2]string{".a", ".b"}

// read returns the valid slots, the one in force first, and what is wrong with a
// bad one. No slot and no error means that nothing was ever stored; files
// without a valid slot among them are ErrUnreadable.
func (s slots[T]) read() (valid []record[T], bad, err error) {
	var causes []error
	for i, ending := range endings {
		data, err := readSmall(s.path+ending, maxSlotBytes)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		r := record[T]{slot: i}
		if err == nil {
			r.value, r.sequence, err = s.decode(data)
		}
		if err != nil {
			causes = append(causes, fmt.Errorf("%s: %w", s.path+ending, err))
			continue
		}
		valid = append(valid, r)
	}
	bad = errors.Join(causes...)
	if len(valid) == 0 && bad != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnreadable, bad)
	}
	slices.SortStableFunc(valid, func(a, b record[T]) int { return cmp.Compare(b.sequence, a.sequence) })
	return valid, bad, nil
}

// load returns the value in force; the zero value if nothing was ever stored.
func (s slots[T]) load() (value T, err error) {
	valid, _, err := s.read()
	if len(valid) > 0 {
		value = valid[0].value
	}
	return value, err
}

// update replaces the value in force by what change makes of it. It writes
// nothing if that is the same, except that a twin which lacks it is mended.
// Where nothing can be read, change gets the zero value, and both slots are
// written: one that comes to life again must not be in force. The caller holds
// the lock of the directory.
func (s slots[T]) update(change func(stored T) (T, error)) error {
	valid, _, unreadable := s.read()
	var current record[T]
	current.slot = 1 // so that the first value goes into the first slot
	if len(valid) > 0 {
		current = valid[0]
	}
	next, err := change(current.value)
	if err != nil {
		return err
	}
	spare := 1 - current.slot
	if len(valid) > 0 && next == current.value {
		if !s.twin || len(valid) == 2 && valid[1].value == next {
			return nil
		}
		return onlyOnce(s.write(spare, current.sequence, next))
	}
	err = s.write(spare, current.sequence+1, next)
	if unreadable == nil && (err != nil || !s.twin) {
		return err
	}
	second := s.write(current.slot, current.sequence+1, next)
	switch {
	case second == nil:
		return nil
	case unreadable != nil:
		return err
	}
	return onlyOnce(second)
}

// onlyOnce is the failure of the second of two writes.
func onlyOnce(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("stored, but only once: %w", err)
}

func (s slots[T]) write(slot int, sequence int64, value T) error {
	data := s.encode(value, sequence)
	if _, _, err := s.decode(data); err != nil {
		return fmt.Errorf("cannot be stored: %w", err)
	}
	return durable.WriteFile(s.path+endings[slot], data, 0o644)
}

func (s slots[T]) encode(value T, sequence int64) []byte {
	line := fmt.Appendf(nil, "%s %d %s\n", s.kind, sequence, s.format(value))
	return fmt.Appendf(line, "%s\n", blob.Of(line))
}

// decode accepts exactly what encode returns.
func (s slots[T]) decode(data []byte) (value T, sequence int64, err error) {
	value, sequence, err = s.decodeLine(data)
	if err == nil && !bytes.Equal(data, s.encode(value, sequence)) {
		err = errors.New("the checksum is wrong")
	}
	if err != nil {
		var none T
		return none, 0, err
	}
	return value, sequence, nil
}

func (s slots[T]) decodeLine(data []byte) (value T, sequence int64, err error) {
	if len(data) == 0 {
		return value, 0, errors.New("the file is empty")
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	rest, ours := bytes.CutPrefix(line, []byte(s.kind+" "))
	if !ours {
		return value, 0, fmt.Errorf("the file is not %q but starts with %.40q", s.kind, line)
	}
	number, body, _ := bytes.Cut(rest, []byte(" "))
	sequence, err = strconv.ParseInt(string(number), 10, 64)
	if err != nil || sequence < 1 || sequence > maxSequence {
		return value, 0, fmt.Errorf("%.40q is not a sequence number", number)
	}
	value, err = s.parse(string(body))
	return value, sequence, err
}
