//go:build unix

package vm

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// windows are the displays that show a machine's screen in a window, in order of
// preference.
func windows() []string { return []string{"cocoa", "gtk", "sdl"} }

// Displays asks an emulator which kinds of window it can open: any of cocoa, gtk
// and sdl. Distributions put some of them into packages of their own.
func Displays(ctx context.Context, qemu string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, "-display", "help")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("ask %s for its displays: %w", qemu, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("ask %s for its displays: %w", qemu, err)
	}
	text, err := io.ReadAll(io.LimitReader(stdout, 64<<10))
	_ = stdout.Close() // a program that writes more than that is not waited for
	if waitErr := cmd.Wait(); err == nil {
		err = waitErr
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s for its displays: %w", qemu, err)
	}
	return parseDisplays(string(text)), nil
}

// parseDisplays reads a heading and a name per line.
func parseDisplays(text string) []string {
	lines := strings.Fields(text)
	return slices.DeleteFunc(windows(), func(name string) bool { return !slices.Contains(lines, name) })
}
