// Command plasmd is the node daemon: it runs WebAssembly jobs in a sandbox and
// signs receipts for them, serves what machines boot from, and says on the
// network what it has.
//
// Results go to standard output, logs to standard error. Exit status 0 means
// done, 1 failed, 2 wrong usage; plasmd run exits with the module's status.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/cmd/internal/manual"
	"github.com/phasebased/phase/cmd/internal/typo"
	"github.com/phasebased/phase/internal/failure"
	"github.com/phasebased/phase/internal/version"
	"github.com/phasebased/phase/internal/wasm"
)

// runnerCommand is how plasmd calls itself to jail one guest. It is not for
// people and not in the help.
const runnerCommand = "job-runner"

func main() {
	if len(os.Args) == 2 && os.Args[1] == runnerCommand {
		os.Exit(serveRunner())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// serveRunner turns this process into the cage of one guest.
func serveRunner() int {
	if err := wasm.ServeRunner(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// streams are what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run executes one command line and gives its exit status.
func run(ctx context.Context, args []string, s streams) int {
	root := newRoot(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var status exitStatus
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &usage):
		fmt.Fprintf(s.err, "plasmd: %v\nTry 'plasmd --help'.\n", err)
		return 2
	}
	complain(s.err, "plasmd: ", err)
	return 1
}

func newRoot(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "plasmd",
		Short: "Run WebAssembly jobs, sign receipts, serve what machines boot from",
		Long: `The node: it runs WebAssembly modules, each in a jailed process of its own, signs what
came of them, and serves what other machines boot from.

Results go to standard output, logs to standard error.

Exit status: 0 done, 1 failed or refused, 2 wrong usage; run exits with the module's.`,
		Args:          usageArgs(typo.Command),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.Version = version.Version
	root.Flags().Bool("version", false, "print the version; plasmd version says more")
	root.SetVersionTemplate("plasmd {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{typo.Flag(cmd, err)} })
	root.AddCommand(newInit(), newStart(), newRun(), newExecuteJob(), newServe(), newProvider(), newVersion(), newDoctor(), manual.Command(sourcesTime))
	manual.Complete(root)
	manual.Fit(root)
	return root
}

func newVersion() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version, and what the program was built from",
		Long: `Prints the version, the date and the commit of the sources, and the compiler. With
--format json also every module of other projects that is in the program, each with the
checksum that go.sum has.`,
		Example: "  plasmd version\n  plasmd version --format json",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			this := version.This("plasmd")
			switch format {
			case "text":
				return this.Write(cmd.OutOrStdout())
			case "json":
				out := json.NewEncoder(cmd.OutOrStdout())
				out.SetIndent("", "  ")
				return out.Encode(this)
			}
			return usageError{fmt.Errorf("--format %q is neither text nor json", format)}
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "text", "text or json")
	return cmd
}

// sourcesTime is the date of the sources of this program.
func sourcesTime() time.Time {
	seconds, _ := strconv.ParseInt(version.Epoch, 10, 64)
	return time.Unix(seconds, 0)
}

// exitStatus ends the command with a status and without a message.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is a wrong command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usageArgs makes the errors of an argument check usage errors.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// complain writes what went wrong, its code for docs/codes.md, and
// what to do next.
func complain(w io.Writer, prefix string, err error) {
	fmt.Fprintf(w, "%s%v", prefix, err)
	if code := failure.Code(err); code != "" {
		fmt.Fprintf(w, " [%s]", code)
	}
	fmt.Fprintln(w)
	if hint := failure.Hint(err); hint != "" {
		fmt.Fprintln(w, hint)
	}
}
