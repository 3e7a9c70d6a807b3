package debpkg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// maxOutput bounds what is kept of a tool's answer.
const maxOutput = 1 << 20

// A ToolError reports that apt or dpkg is missing or failed.
type ToolError struct {
	Tool   string
	Output string // last line it printed on stderr
	Err    error
}

func (e *ToolError) Error() string {
	if errors.Is(e.Err, exec.ErrNotFound) {
		return fmt.Sprintf("debpkg: %s is not installed", e.Tool)
	}
	return fmt.Sprintf("debpkg: %s: %v: %s", e.Tool, e.Err, e.Output)
}

func (e *ToolError) Unwrap() error { return e.Err }

// Hint says how to go on without the tool.
func (e *ToolError) Hint() string {
	if errors.Is(e.Err, exec.ErrNotFound) {
		return "Packages are taken from apt on a Debian or Ubuntu machine; elsewhere give a kernel file, its modules folder and a loader file."
	}
	return ""
}

// A MissingError reports a package that could not be obtained.
type MissingError struct {
	Package string // "name:arch"
	Foreign bool   // the architecture is not this machine's
	Err     error
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("debpkg: package %s cannot be obtained: %v", e.Package, e.Err)
}

func (e *MissingError) Unwrap() error { return e.Err }

// Hint says what makes the package obtainable.
func (e *MissingError) Hint() string {
	if e.Foreign {
		_, arch, _ := strings.Cut(e.Package, ":")
		return fmt.Sprintf("Apt's sources on this machine may not serve %s; add one that does (Ubuntu's is http://ports.ubuntu.com/ubuntu-ports).", arch)
	}
	return "Refresh apt's lists: sudo apt-get update"
}

// missing turns apt's failure into a MissingError, unless apt itself is missing.
func missing(name string, a apt, err error) error {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, context.Canceled) {
		return err
	}
	return &MissingError{Package: name + ":" + a.arch, Foreign: a.dir != "", Err: err}
}

// isNative tells whether an architecture is this machine's own; when dpkg cannot be
// asked, it is taken to be.
func isNative(ctx context.Context, arch string) bool {
	native, err := runIn(ctx, "", "dpkg", "--print-architecture")
	return err != nil || strings.TrimSpace(string(native)) == arch
}

// runIn runs a tool in a folder and returns the beginning of its output.
func runIn(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, &ToolError{Tool: name, Err: exec.ErrNotFound}
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C") // apt needs the proxy settings of its user
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &limited{&out}, &limited{&errs}
	if err := cmd.Run(); err != nil {
		return nil, &ToolError{Tool: name, Output: lastLine(errs.String()), Err: err}
	}
	return out.Bytes(), nil
}

type limited struct{ b *bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := maxOutput - l.b.Len(); room > 0 {
		l.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
