package handover

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// disarmWatchdogs stops the watchdogs that run: 'V' before the close is the
// sign for it (Documentation/watchdog/watchdog-api.rst). Opening one starts it,
// so that one which does not run is left alone.
func disarmWatchdogs() error {
	var errs []error
	for n := range 4 {
		state, err := os.ReadFile(fmt.Sprintf("/sys/class/watchdog/watchdog%d/state", n))
		if err != nil || strings.TrimSpace(string(state)) != "active" {
			continue
		}
		errs = append(errs, disarm(fmt.Sprintf("/dev/watchdog%d", n)))
	}
	return errors.Join(errs...)
}

func disarm(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("V")
	return errors.Join(err, f.Close())
}
