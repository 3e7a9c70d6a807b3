// Package steps holds the commands that take one step of the corridor each:
// find a pointer, verify a manifest, fetch its artifacts. They exist as
// programs of their own, and inside the boot medium's one binary under the same
// names; both call the functions here.
//
// Results go to stdout and everything else to stderr. Exit codes: 0 success,
// 1 refusal or failure, 2 wrong usage. The steps trust only the key or root
// that the person names.
package steps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/cmd/internal/manual"
	"github.com/phasebased/phase/cmd/internal/typo"
	"github.com/phasebased/phase/internal/failure"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/version"
)

// Exit codes of all steps.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Env is what a step takes from its process.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Now            func() time.Time
}

// usageError is a mistake in how a command was called.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// errReported ends a command whose failure was already shown.
var errReported = errors.New("already reported")

// finish gives a step what all of them have.
func finish(cmd *cobra.Command) *cobra.Command {
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.Flags().Bool("version", false, "print the version, and what the program was built from")
	cmd.Version = version.Version
	cmd.SetVersionTemplate(provenance(cmd.Name()))
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{typo.Flag(cmd, err)} })
	manual.Complete(cmd)
	manual.Fit(cmd)
	return cmd
}

// execute runs cmd with args and turns its error into an exit code. A usage
// error is shown with a pointer to the help, any other error by report.
func execute(cmd *cobra.Command, args []string, env Env) int {
	cmd.SetIn(env.Stdin)
	cmd.SetOut(env.Stdout)
	cmd.SetErr(env.Stderr)
	cmd.SetArgs(append([]string{}, args...)) // cobra takes nil for the process's own
	err := cmd.Execute()
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(env.Stderr, "%s: %v\nTry '%s --help'.\n", cmd.Name(), usage, cmd.Name())
		return exitUsage
	case !errors.Is(err, errReported):
		report(env.Stderr, "ERROR", err)
	}
	return exitFailed
}

// Commands are all steps, for whoever describes them. They are not to be run.
func Commands() []*cobra.Command {
	return []*cobra.Command{newDiscover(Env{}, DiscoverNets{}), newFetch(Env{}), newVerify(Env{})}
}

// provenance is what --version prints.
func provenance(program string) string {
	var text strings.Builder
	_ = version.This(program).Write(&text) // to memory
	return text.String()
}

// proxyUsage describes the flag --proxy of the commands that download.
const proxyUsage = "HTTP proxy `URL`, as http://host:port or http://user:password@host:port, which others on this machine can see"

// interruptible returns a context that the first interrupt ends. The second ends
// the process, as always.
func interruptible() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// noArgs refuses arguments that are not flags.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", args[0])}
	}
	return nil
}

// report shows err to a person: severity ("FATAL" or "ERROR") and message on
// one line, then its code and what to do next, if it knows.
func report(w io.Writer, severity string, err error) {
	fmt.Fprintf(w, "%s: %s\n", severity, term.Clean(err.Error()))
	code, hint := explain(err)
	switch {
	case code != "" && hint != "":
		fmt.Fprintf(w, "%s: %s\n", code, hint)
	case code != "" || hint != "":
		fmt.Fprintln(w, code+hint)
	}
}

// explain returns the code and the hint that err carries, or empty strings.
func explain(err error) (code, hint string) {
	return failure.Code(err), failure.Hint(err)
}

// readFile reads the file path, or stdin (unless nil) for "-", but at most one byte
// above limit: enough for the parser to refuse it.
func readFile(path string, stdin io.Reader, limit int64) ([]byte, error) {
	if path == "-" && stdin != nil {
		return io.ReadAll(io.LimitReader(stdin, limit+1))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a directory", path)
	}
	return io.ReadAll(io.LimitReader(f, limit+1))
}
