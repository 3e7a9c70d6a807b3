package timeline

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"time"
	"unicode/utf16"
)

// The variables in which a boot loader says when it started and when it left,
// in microseconds since power-on: https://systemd.io/BOOT_LOADER_INTERFACE/.
const (
	loaderGUID = "-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	loaderInit = "LoaderTimeInitUSec" + loaderGUID
	loaderExec = "LoaderTimeExecUSec" + loaderGUID
)

// maxVariable bounds the read of one firmware variable. 20 digits need 46 bytes.
const maxVariable = 128

// FirmwareTimes reads what systemd-boot measured, from a directory in the form
// of efivarfs: firmware ran from 0 to Init, the loader from Init to Exec. An
// error that wraps fs.ErrNotExist means that another loader was used.
func FirmwareTimes(efivars fs.FS) (init, exec time.Duration, err error) {
	if init, err = readUSec(efivars, loaderInit); err != nil {
		return 0, 0, err
	}
	if exec, err = readUSec(efivars, loaderExec); err != nil {
		return 0, 0, err
	}
	if exec < init {
		return 0, 0, fmt.Errorf("%w: loader left at %v, before it started at %v", ErrMalformed, exec, init)
	}
	return init, exec, nil
}

// FirmwareStages gives the times of FirmwareTimes as two stages.
func FirmwareStages(init, exec time.Duration) []Stage {
	return []Stage{
		{Name: "firmware", Kernel: KernelFirmware, Start: 0, End: init},
		{Name: "loader", Kernel: KernelFirmware, Start: init, End: exec},
	}
}

func readUSec(efivars fs.FS, name string) (time.Duration, error) {
	f, err := efivars.Open(name)
	if err != nil {
		return 0, fmt.Errorf("firmware variable: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxVariable+1))
	if err != nil {
		return 0, fmt.Errorf("firmware variable %s: %w", name, err)
	}
	usec, err := parseUSec(raw)
	if err != nil {
		return 0, fmt.Errorf("firmware variable %s: %w: %w", name, ErrMalformed, err)
	}
	return usec, nil
}

// parseUSec decodes four bytes of attributes and a decimal number in UTF-16LE,
// with or without a closing NUL.
func parseUSec(raw []byte) (time.Duration, error) {
	if len(raw) > maxVariable || len(raw) < 6 || len(raw)%2 != 0 {
		return 0, fmt.Errorf("%d bytes", len(raw))
	}
	var units []uint16
	for b := raw[4:]; len(b) > 0; b = b[2:] {
		units = append(units, uint16(b[0])|uint16(b[1])<<8)
	}
	if units[len(units)-1] == 0 {
		units = units[:len(units)-1]
	}
	n, err := strconv.ParseUint(string(utf16.Decode(units)), 10, 63)
	if err != nil {
		return 0, err
	}
	if n > uint64((24*time.Hour)/time.Microsecond) {
		return 0, errors.New("more than a day")
	}
	return time.Duration(n) * time.Microsecond, nil
}
