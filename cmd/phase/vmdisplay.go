package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/phasebased/phase/internal/vm"
)

// firstVNC is the TCP port of VNC's display 0.
const firstVNC = 5900

// noDisplayError says why a machine's screen cannot be shown.
type noDisplayError struct{ why, hint string }

func (e *noDisplayError) Error() string { return e.why }

// Hint says what to do about it.
func (e *noDisplayError) Hint() string { return e.hint }

// windows are QEMU's names of the displays of each machine; empty: nobody sees it.
func (r *vmRun) windows(ctx context.Context) ([]string, error) {
	windows := make([]string, r.machines)
	switch r.display {
	case "none":
		return windows, nil
	case "vnc":
		return windows, freeVNC(windows)
	}
	qemu, err := vm.FindQEMU(r.arch)
	if err != nil {
		return nil, err
	}
	offered, err := vm.Displays(ctx, qemu)
	if err != nil {
		return nil, err
	}
	session := runtime.GOOS == "darwin" || os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""
	window, err := chooseWindow(r.display, offered, session)
	for n := range windows {
		windows[n] = window
	}
	return windows, err
}

// chooseWindow is the window to open, of those that QEMU offers.
func chooseWindow(wanted string, offered []string, session bool) (string, error) {
	const instead = "--display vnc shows the screen to a VNC viewer; without --display the serial port is on this terminal."
	switch {
	case len(offered) == 0:
		return "", &noDisplayError{"this QEMU can open no window", "On Debian, install qemu-system-gui. Or: " + instead}
	case wanted != "auto" && !slices.Contains(offered, wanted):
		return "", &noDisplayError{
			fmt.Sprintf("this QEMU has no display %s", wanted),
			fmt.Sprintf("It has %s. On Debian, qemu-system-gui brings gtk and sdl. Or: %s", strings.Join(offered, ", "), instead),
		}
	case !session:
		return "", &noDisplayError{"there is no graphical session here (neither DISPLAY nor WAYLAND_DISPLAY is set)", instead}
	case wanted == "auto":
		return offered[0], nil
	}
	return wanted, nil
}

// freeVNC fills in displays of VNC on the loopback interface whose ports nobody
// listens on now.
func freeVNC(windows []string) error {
	n := 0
	for display := range 100 {
		if n == len(windows) {
			return nil
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(firstVNC+display)))
		if err != nil {
			continue
		}
		_ = l.Close()
		windows[n] = "vnc=127.0.0.1:" + strconv.Itoa(display)
		n++
	}
	if n < len(windows) {
		return errors.New("no free port for VNC")
	}
	return nil
}

// vncAddress is where a viewer finds a display that freeVNC chose; empty: it is
// no such display.
func vncAddress(window string) string {
	display, ok := strings.CutPrefix(window, "vnc=127.0.0.1:")
	n, err := strconv.Atoi(display)
	if !ok || err != nil {
		return ""
	}
	return "127.0.0.1:" + strconv.Itoa(firstVNC+n)
}
