package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// A ToolError reports that an outside tool is missing or failed.
type ToolError struct {
	Tool    string // program name
	Package string // Debian package that holds it
	Output  string // the last lines it printed, if it ran
	Err     error
}

func (e *ToolError) Error() string {
	if errors.Is(e.Err, exec.ErrNotFound) {
		return fmt.Sprintf("image: %s is not installed", e.Tool)
	}
	return fmt.Sprintf("image: %s: %v: %s", e.Tool, e.Err, e.Output)
}

func (e *ToolError) Unwrap() error { return e.Err }

// Hint says how to install a missing tool.
func (e *ToolError) Hint() string {
	if errors.Is(e.Err, exec.ErrNotFound) {
		return "Install it: sudo apt-get install " + e.Package
	}
	return ""
}

// runTool runs a program in a fixed environment: these tools read settings,
// dates and language from theirs, and an image must not depend on who built it.
func runTool(ctx context.Context, pkg string, stdin io.Reader, env []string, name string, args ...string) error {
	prog, err := exec.LookPath(name)
	if err != nil {
		// mke2fs lives in sbin, which an ordinary user's PATH often lacks.
		if prog, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			return &ToolError{Tool: name, Package: pkg, Err: exec.ErrNotFound}
		}
	}
	cmd := exec.CommandContext(ctx, prog, args...)
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TZ=UTC"}, env...)
	cmd.Stdin = stdin
	var out tailBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return &ToolError{Tool: name, Package: pkg, Output: out.String(), Err: err}
	}
	return nil
}

// tailBuffer keeps the last bytes of a tool's chatter.
type tailBuffer struct{ buf []byte }

const tailLen = 2048

func (t *tailBuffer) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailLen; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tailBuffer) String() string {
	return strings.TrimSpace(string(bytes.ToValidUTF8(t.buf, nil)))
}
