package trust

import (
	"bytes"
	"testing"
)

// checkSlot says that data is refused with the zero value, or is exactly what
// encode would write.
func checkSlot[T comparable](t *testing.T, s slots[T], data []byte) {
	value, sequence, err := s.decode(data)
	var none T
	if err != nil && (value != none || sequence != 0) {
		t.Fatalf("%v, %d with %v", value, sequence, err)
	}
	if err == nil && !bytes.Equal(s.encode(value, sequence), data) {
		t.Fatalf("%q reads as %v, %d", data, value, sequence)
	}
	if err == nil && len(data) > maxSlotBytes {
		t.Fatalf("a slot of %d bytes could not be read back", len(data))
	}
}

// checkValue says that the text of a value is refused, or has one form only once
// the checksum is right: fuzzing seldom finds a SHA-256.
func checkValue[T comparable](t *testing.T, s slots[T], text string) {
	value, err := s.parse(text)
	if err != nil {
		return
	}
	data := s.encode(value, 1)
	if again, _, err := s.decode(data); err != nil || again != value {
		t.Fatalf("%q reads as %v, stored %v, %v", text, value, again, err)
	}
}

func FuzzFloorSlot(f *testing.F) {
	s := OpenState(f.TempDir()).floorSlots(want)
	f.Add(s.encode(floor(5), 7))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkSlot(t, s, data)
		checkValue(t, s, string(data))
	})
}

func FuzzTimeSlot(f *testing.F) {
	s := OpenState(f.TempDir()).timeSlots()
	f.Add(s.encode(1772366400, 7))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkSlot(t, s, data)
		checkValue(t, s, string(data))
	})
}

func FuzzReleaseIndex(f *testing.F) {
	s := OpenState(f.TempDir()).indexSlots(want)
	f.Add(s.encode(index{confirmed: testEntry(5), tried: testEntry(6)}, 7))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkSlot(t, s, data)
		checkValue(t, s, string(data))
	})
}

func FuzzFloorFile(f *testing.F) {
	f.Add(floorSlots("", want).encode(floor(5), 7))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseFile(data)
		if err != nil {
			return
		}
		if got.floor.ManifestVersion < 1 {
			t.Fatalf("%q reads as %+v", data, got)
		}
		if got.want == anyWant {
			if !plainVersion.Match(data) {
				t.Fatalf("%q holds for every channel", data)
			}
			return
		}
		if !bytes.Equal(floorSlots("", got.want).encode(got.floor, got.sequence), data) {
			t.Fatalf("%q reads as %+v", data, got)
		}
	})
}
