package timeline

import (
	"time"

	"golang.org/x/sys/unix"
)

// SinceBoot is the time since this kernel started (CLOCK_BOOTTIME, so that a
// suspended machine's sleep counts). It does not depend on the date.
func SinceBoot() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
