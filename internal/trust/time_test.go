package trust

import (
	"errors"
	"os"
	"testing"
	"time"
)

func TestTimeGoesForwardOnly(t *testing.T) {
	s := OpenState(t.TempDir())
	check := func(expected time.Time) {
		t.Helper()
		if got, err := s.Time(); err != nil || !got.Equal(expected) {
			t.Fatalf("%v, %v; want %v", got, err, expected)
		}
	}
	check(time.Time{})
	for _, step := range []struct{ save, want time.Time }{
		{moment, moment},
		{moment.Add(-time.Second), moment},
		{time.Unix(1, 0), moment},
		{moment.Add(999 * time.Millisecond), moment},
		{moment.Add(1001 * time.Millisecond), moment.Add(time.Second)},
		{time.Unix(1<<31+5, 0), time.Unix(1<<31+5, 0)}, // after 2038
		{time.Unix(1<<32+5, 0), time.Unix(1<<32+5, 0)}, // after 2106
	} {
		if err := s.SaveTime(step.save); err != nil {
			t.Fatal(err)
		}
		check(step.want)
	}
}

func TestTimeThatCannotBeKept(t *testing.T) {
	s := OpenState(t.TempDir())
	for _, bad := range []time.Time{{}, time.Unix(0, 0), time.Unix(-1, 0), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(1<<62, 0)} {
		var typed *Error
		if err := s.SaveTime(bad); !errors.As(err, &typed) || typed.Code() != "VFY-023" {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if len(files(t, s.dir)) != 0 {
		t.Error("something was written")
	}
}

func TestBadTimeIsNoTime(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "text": "yesterday", "number": "1772366400", "of a floor": string(floorSlots("", want).encode(floor(5), 1)),
		"cut": string(OpenState("").timeSlots().encode(1772366400, 1)[:30]),
	} {
		s := OpenState(t.TempDir())
		if err := os.WriteFile(s.timeSlots().path+endings[0], []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		var typed *Error
		if got, err := s.Time(); !errors.As(err, &typed) || !errors.Is(err, ErrUnreadable) || !got.IsZero() || typed.Hint() == "" {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if err := s.SaveTime(moment); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Time(); err != nil || !got.Equal(moment) {
			t.Errorf("%s: mended to %v, %v", name, got, err)
		}
	}
}
