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

// WarmReboot is Reboot, asking the firmware to skip its tests of memory where the
// kernel can ask for that.
func WarmReboot(limit time.Duration) error {
	_ = os.WriteFile("/sys/kernel/reboot/mode", []byte("warm"), 0) // since Linux 5.11; a cold one does as well
	return Reboot(limit)
}

func end(limit time.Duration, cmd int) error {
	syncErr := Sync(limit)
	if err := unix.Reboot(cmd); err != nil {
		return errors.Join(fmt.Errorf("end this run: %w", err), syncErr)
	}
	return syncErr
}
