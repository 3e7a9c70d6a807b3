package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
	"github.com/phasebased/phase/receipt"
)

func newJobRun(f *jobFlags) *cobra.Command {
	var s specFlags
	var d dispatchFlags
	cmd := &cobra.Command{
		Use: "run [flags] FILE.wasm [ARG…]", Short: "Run a module on the node; exits with the module's status", Args: someArgs(1, -1, "a module"),
		Long: `Uploads the module, submits the job, waits for its end and passes its output on, after
comparing it with the receipt, which is verified with the key that the node gives.
An interrupt cancels the job. With --on other nodes run it: see job submit --help.

Exit status: the module's; 125 where there is none to pass on: the node cannot be
reached or refuses, the job was cancelled, trapped or killed by a limit. 2 is wrong
usage; a module's status above 255 ends as 255.`,
		Example: "  phase job run examples/hello/hello.wasm \"Hello, World\"\n  phase job run --deadline 1m --memory 64MiB --receipt receipt.json FILE.wasm\n" +
			"  phase job run --key me.pem --on network --replicas 3 --receipt proof.json \\\n    FILE.wasm",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			defer c.Close()
			away, err := d.away(cmd, &s)
			switch {
			case err != nil:
			case away:
				err = runAway(cmd, f, &s, &d, c, args)
			default:
				err = runJob(cmd, f, &s, c, d.receipt, args)
			}
			if err == nil || errors.As(err, new(statusError)) || errors.As(err, new(usageError)) {
				return err
			}
			return statusError{statusNoModule, err}
		},
	}
	s.add(cmd)
	d.add(cmd)
	return cmd
}

// runAway has other nodes run the job and passes its output on.
func runAway(cmd *cobra.Command, f *jobFlags, s *specFlags, d *dispatchFlags, c *jobapi.Client, args []string) error {
	a, err := d.send(cmd, f, s, c, args)
	if err != nil {
		return err
	}
	if f.format == "json" {
		err = d.show(cmd, f, a)
	} else if _, err = cmd.OutOrStdout().Write(a.Stdout); err == nil {
		_, err = cmd.ErrOrStderr().Write(a.Stderr)
	}
	if err != nil {
		return err
	}
	r := a.Statement.Result
	return moduleStatus(&job.End{State: job.State(r.EndState), ExitCode: r.ExitCode, Detail: r.Trap})
}

// ran is a job's end as job run --format json writes it.
type ran struct {
	Status  job.Status `json:"status"`
	Stdout  []byte     `json:"stdout"`  // base64
	Stderr  []byte     `json:"stderr"`  // base64
	Receipt rawJSON    `json:"receipt"` // verified with the node's key; null without one
}

// rawJSON is a document as it is.
type rawJSON []byte

// MarshalJSON gives the document, or null.
func (r rawJSON) MarshalJSON() ([]byte, error) {
	if len(r) == 0 {
		return []byte("null"), nil
	}
	return r, nil
}

// runJob runs the job on this machine's node, and keeps its receipt in a file if one is
// named.
func runJob(cmd *cobra.Command, f *jobFlags, s *specFlags, c *jobapi.Client, file string, args []string) error {
	console := jobConsole()
	j, module, err := s.make(cmd, console, args)
	if err != nil {
		return err
	}
	kind, document, err := s.bring(cmd.Context(), c, console, j, module)
	if err != nil {
		return err
	}
	stages := stages{console: console}
	done, err := c.Run(cmd.Context(), kind, document, stages.tell)
	stages.end(done.Status.End)
	if err != nil {
		return cancelled(cmd.Context(), c, j.ID(), err)
	}
	end := done.Status.End
	if end.Failure != nil {
		return &jobapi.RefusedError{Failure: *end.Failure}
	}
	if err := checkRun(cmd.Context(), c, j.ID(), done); err != nil {
		return err
	}
	if file != "" {
		if err := durable.WriteFile(file, done.Receipt, 0o644); err != nil {
			return err
		}
	}
	if err := passOutput(cmd, f, done); err != nil {
		return err
	}
	return moduleStatus(end)
}

// cancelled ends a job that nobody waits for any longer.
func cancelled(ctx context.Context, c *jobapi.Client, id blob.Digest, err error) error {
	if ctx.Err() == nil {
		return err
	}
	late, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	if _, failed := c.Cancel(late, id); failed != nil && !unknown(failed) {
		return errors.Join(errors.New("interrupted"), failed)
	}
	return errors.New("interrupted: the job is cancelled")
}

// unknown: the node has no such job; it had not taken it yet.
func unknown(err error) bool {
	var refused *jobapi.RefusedError
	return errors.As(err, &refused) && refused.Failure.Reason == jobapi.NotFound
}

// checkRun checks that the receipt is of this very job with these very outputs.
func checkRun(ctx context.Context, c *jobapi.Client, id blob.Digest, done jobapi.Ran) error {
	own, err := ownNode(ctx, c)
	if err != nil {
		return err
	}
	_, _, err = receipt.Judge(done.Receipt, receipt.Expectation{
		NodeKey: own.peer.Key, JobID: id, Now: time.Now(),
		Stdout: done.Status.End.Stdout.Digest, Stderr: done.Status.End.Stderr.Digest,
	})
	return err
}

// passOutput passes on what the job wrote.
func passOutput(cmd *cobra.Command, f *jobFlags, done jobapi.Ran) error {
	if f.format == "json" {
		return f.show(cmd.OutOrStdout(), ran{done.Status, done.Stdout, done.Stderr, done.Receipt}, nil)
	}
	if _, err := cmd.OutOrStdout().Write(done.Stdout); err != nil {
		return err
	}
	_, err := cmd.ErrOrStderr().Write(done.Stderr)
	return err
}

// endedError is a job that ended otherwise than by itself.
type endedError struct{ end *job.End }

func (e *endedError) Error() string {
	return fmt.Sprintf("the job ended as %s: %s", e.end.State, e.end.Detail)
}

// moduleStatus turns a job's end into this program's.
func moduleStatus(end *job.End) error {
	switch {
	case end.State != job.Exited:
		return statusError{statusNoModule, &endedError{end}}
	case end.ExitCode == 0:
		return nil
	}
	return statusError{status: int(min(end.ExitCode, 255))}
}
