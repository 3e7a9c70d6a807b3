package trust

import (
	"fmt"
	"strconv"
	"time"
)

// Time returns the latest time that certainly has passed, or the zero time if
// none was ever saved. A time that was saved but cannot be read is an *Error
// around ErrUnreadable; go on without one. It bounds the clock from below, see
// Clock, which also ignores one that cannot be right.
func (s *State) Time() (time.Time, error) {
	if s == nil {
		return time.Time{}, nil
	}
	seconds, err := s.timeSlots().load()
	if err != nil || seconds == 0 {
		return time.Time{}, wrap(err, &Error{Op: "load", Object: "time"})
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// SaveTime remembers that t, cut to whole seconds, has passed. An earlier time
// than the one stored changes nothing and is no error. Save only what enough
// people vouch for: the time at which a manifest was made that was booted, not
// the machine's clock or a single server's.
func (s *State) SaveTime(t time.Time) error {
	if s == nil {
		return nil
	}
	err := checkTime(t.Unix())
	if err == nil {
		err = s.locked(func() error {
			return s.timeSlots().update(func(stored int64) (int64, error) { return max(stored, t.Unix()), nil })
		})
	}
	return wrap(err, &Error{Op: "save", Object: "time"})
}

// timeSlots hold seconds since 1970.
func (s *State) timeSlots() slots[int64] {
	return slots[int64]{
		twin: true, path: s.path("time"), kind: "phase-time-1",
		format: func(seconds int64) string { return strconv.FormatInt(seconds, 10) },
		parse: func(line string) (int64, error) {
			seconds, err := strconv.ParseInt(line, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%.40q is not a time", line)
			}
			return seconds, checkTime(seconds)
		},
	}
}

// maxSeconds is the last second that a four-digit year can name.
const maxSeconds = 253402300799

func checkTime(seconds int64) error {
	if seconds < 1 || seconds > maxSeconds {
		return fmt.Errorf("a time %d seconds from 1970 cannot be kept", seconds)
	}
	return nil
}
