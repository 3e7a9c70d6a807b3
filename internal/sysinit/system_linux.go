package sysinit

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// SetHostname names the machine. The name is not checked here.
func SetHostname(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	return nil
}

// SetClock sets the date of the running system, not that of the hardware clock.
func SetClock(t time.Time) error {
	ts, err := unix.TimeToTimespec(t)
	if err == nil {
		err = unix.ClockSettime(unix.CLOCK_REALTIME, &ts)
	}
	if err != nil {
		return fmt.Errorf("set clock: %w", err)
	}
	return nil
}

// MemAvailable is the kernel's estimate of how many bytes can still be taken
// without swapping (proc(5), MemAvailable).
func MemAvailable() (int64, error) { return memField("MemAvailable") }

// MemTotal is the memory that the kernel can use, in bytes.
func MemTotal() (int64, error) { return memField("MemTotal") }

func memField(name string) (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("memory: %w", err)
	}
	defer f.Close()
	return parseMeminfo(f, name)
}

// Sync writes everything to the disks, or gives up waiting after limit: a dead
// disk must not keep a machine from going on.
func Sync(limit time.Duration) error {
	done := make(chan struct{})
	go func() {
		unix.Sync()
		close(done)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return fmt.Errorf("disks not written after %v", limit)
	}
}

// PowerOff syncs for at most limit and turns the machine off. It returns only
// on failure.
func PowerOff(limit time.Duration) error { return end(limit, unix.LINUX_REBOOT_CMD_POWER_OFF) }

// Reboot syncs for at most limit and starts the machine anew. It returns only
// on failure.
func Reboot(limit time.Duration) error { return end(limit, unix.LINUX_REBOOT_CMD_RESTART) }

func end(limit time.Duration, cmd int) error {
	syncErr := Sync(limit)
	if err := unix.Reboot(cmd); err != nil {
		return errors.Join(fmt.Errorf("end this run: %w", err), syncErr)
	}
	return syncErr
}

// DisarmWatchdogs stops the watchdogs that can be stopped: writing 'V' before
// closing is the sign for it (Documentation/watchdog/watchdog-api.rst). A
// machine without one is no error. Opening arms a watchdog, so that a device
// that cannot be stopped is only touched if it runs already.
func DisarmWatchdogs() error {
	var errs []error
	for n := range 4 {
		dir := fmt.Sprintf("class/watchdog/watchdog%d", n)
		if readLine(os.DirFS("/sys"), dir+"/state") != "active" {
			continue
		}
		if err := disarm(fmt.Sprintf("/dev/watchdog%d", n)); err != nil {
			errs = append(errs, fmt.Errorf("watchdog %d: %w", n, err))
		}
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
