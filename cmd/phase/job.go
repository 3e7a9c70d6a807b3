package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
	"github.com/phasebased/phase/internal/keyfile"
	phaseterm "github.com/phasebased/phase/internal/term"
)

// statusNoModule is the exit status of job run when there is none of the
// module's to pass on, as of tools that run other programs (timeout, env).
const statusNoModule = 125

// statusError ends the program with a status of its own; it is reported unless
// it wraps nothing.
type statusError struct {
	status int
	err    error
}

func (e statusError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("status %d", e.status)
	}
	return e.err.Error()
}

func (e statusError) Unwrap() error {
	if e.err == nil {
		return silentError{errors.New("told by the status")}
	}
	return e.err
}

// jobFlags are those of all job commands.
type jobFlags struct{ socket, format string }

func newJob() *cobra.Command {
	f := new(jobFlags)
	cmd := group("job", "Run WebAssembly jobs on a node and check its receipts")
	cmd.Long = `Talks to the plasmd of this machine over its socket: that of the user who is logged
in (XDG_RUNTIME_DIR/plasm/plasmd.sock) if there is one, or /run/plasm/plasmd.sock.
verify asks nobody.`
	cmd.PersistentFlags().StringVar(&f.socket, "socket", "", "the node's `socket`")
	cmd.PersistentFlags().StringVarP(&f.format, "format", "f", "text", "text or json")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.AddCommand(newJobRun(f), newJobSubmit(f), newJobGet(f), newJobLogs(f), newJobCancel(f), newJobVerify(f), newJobFraud(), newJobReplay(f), newJobNodes(f))
	return cmd
}

// client connects to the node that the flags name.
func (f *jobFlags) client() (*jobapi.Client, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	if f.socket != "" {
		return jobapi.NewClient(f.socket), nil
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		own := filepath.Join(dir, "plasm", "plasmd.sock")
		if _, err := os.Lstat(own); err == nil {
			return jobapi.NewClient(own), nil
		}
	}
	return jobapi.NewClient("/run/plasm/plasmd.sock"), nil
}

func (f *jobFlags) check() error {
	if f.format != "text" && f.format != "json" {
		return usageError{fmt.Errorf("--format %s: choose text or json", f.format)}
	}
	return nil
}

// show writes v as JSON, or what text writes.
func (f *jobFlags) show(w io.Writer, v any, text func(w io.Writer) error) error {
	if f.format != "json" {
		return text(w)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// someArgs wants between low and high arguments; high -1 is any number.
func someArgs(low, high int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low || high >= 0 && len(args) > high {
			return usageError{fmt.Errorf("name %s (see %s --help)", what, cmd.CommandPath())}
		}
		return nil
	}
}

// specFlags say what a job is.
type specFlags struct {
	env      []string
	stdin    bool
	inputs   []string
	files    inputFiles // of inputs, by make
	memory   string
	deadline time.Duration
	key, to  string
	valid    time.Duration
}

func (s *specFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows the module belongs to the module
	flags.StringArrayVar(&s.env, "env", nil, "`NAME=VALUE` for the module, repeatable")
	flags.BoolVarP(&s.stdin, "stdin", "i", false, "give standard input to the module, up to 512 KiB")
	flags.StringArrayVar(&s.inputs, "input", nil, "`NAME=FILE`: the module finds the file as "+job.InputFolder+"/NAME, repeatable")
	flags.StringVar(&s.memory, "memory", "", "most memory of the module, such as 64MiB")
	flags.DurationVar(&s.deadline, "deadline", 0, "longest time from the start in the sandbox (default 20s)")
	flags.StringVarP(&s.key, "key", "k", "", "sign with the private key in this PEM `file`")
	flags.StringVar(&s.to, "for", job.AnyNode, "node that may run a signed job: its `key`, or any")
	flags.DurationVar(&s.valid, "valid", time.Hour, "how long a signed job may be accepted")
}

// make reads the module and makes the job. It has a nonce, as a node runs a
// job once.
func (s *specFlags) make(cmd *cobra.Command, console *phaseterm.Console, args []string) (*job.Job, []byte, error) {
	if s.valid <= 0 || s.valid > job.MaxValidity {
		return nil, nil, usageError{fmt.Errorf("--valid %s: choose more than none and at most %s", s.valid, job.MaxValidity)}
	}
	module, err := durable.ReadSmall(args[0], job.MaxModuleBytes, durable.FollowLinks)
	if errors.Is(err, fs.ErrNotExist) {
		err = &job.Refusal{
			Reason: job.Unavailable, Detail: "there is no such module", Err: err,
			Directions: "Name a file; flags for the node come before it, arguments for the module behind it.",
		}
	}
	if err != nil {
		return nil, nil, err
	}
	spec := job.Spec{Version: job.SpecVersion, Module: blob.Of(module), Args: args[1:], Env: map[string]string{}, Nonce: rand.Text()}
	spec.Limits.DeadlineMS = s.deadline.Milliseconds()
	if s.memory != "" {
		if spec.Limits.MemoryBytes, err = phaseterm.ParseBytes(s.memory); err != nil {
			return nil, nil, usageError{fmt.Errorf("--memory: %w", err)}
		}
	}
	for _, kv := range s.env {
		name, value, ok := strings.Cut(kv, "=")
		if !ok {
			return nil, nil, usageError{fmt.Errorf("--env %q is not NAME=VALUE", kv)}
		}
		spec.Env[name] = value
	}
	if s.stdin {
		if spec.Stdin, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), job.MaxStdinBytes+1)); err != nil {
			return nil, nil, err
		}
	}
	if spec.Inputs, s.files, err = openInputs(cmd.Context(), console, s.inputs); err != nil {
		return nil, nil, err
	}
	j, err := job.New(spec)
	return j, module, err
}

// bring gives the node what the job needs, and returns the job as it is handed in.
func (s *specFlags) bring(ctx context.Context, c *jobapi.Client, console *phaseterm.Console, j *job.Job, module []byte) (kind string, document []byte, err error) {
	kind, document = jobapi.TypeSpec, j.Payload()
	if s.key != "" {
		kind = jobapi.TypeEnvelope
		key, err := keyfile.Read(s.key, nil)
		if err != nil {
			return "", nil, err
		}
		var audience ed25519.PublicKey
		if s.to != job.AnyNode {
			if audience, err = job.ParseKey(s.to); err != nil {
				return "", nil, usageError{fmt.Errorf("--for: %w", err)}
			}
		}
		if document, err = job.SignSubmission(j, audience, time.Now().Add(s.valid), key); err != nil {
			return "", nil, err
		}
	}
	list := uploads{{"", job.Input{Digest: j.Module(), Size: int64(len(module))}, bytes.NewReader(module)}}
	return kind, document, append(list, s.files.uploads()...).bring(ctx, c, console)
}

func newJobSubmit(f *jobFlags) *cobra.Command {
	var s specFlags
	var d dispatchFlags
	cmd := &cobra.Command{
		Use: "submit [flags] FILE.wasm [ARG…]", Short: "Hand a job in and print its id, or with --on what other nodes make of it", Args: someArgs(1, -1, "a module"),
		Long: `Hands the job in at the node of this machine and prints its id.

With --on the job goes to other nodes, by way of this machine's, signed with --key, whose
owner they have to know; the command waits for the answer and verifies it. A node that
fails is passed over for the next. With --replicas several nodes run the job; none knows
the others' results before it has committed itself to its own, and --quorum of them have
to agree; the quorum's statement (--receipt) names those who did not.

Exit status with --on: 0 there is a verified answer, however the module ended; 1 there is
none, and the message says what happened at each node; 2 wrong usage.`,
		Example: "  phase job submit --key me.pem --on network --replicas 3 --receipt proof.json \\\n    FILE.wasm",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			defer c.Close()
			away, err := d.away(cmd, &s)
			if err != nil {
				return err
			}
			if away {
				a, err := d.send(cmd, f, &s, c, args)
				if err != nil {
					return err
				}
				return d.show(cmd, f, a)
			}
			console := jobConsole()
			j, module, err := s.make(cmd, console, args)
			if err != nil {
				return err
			}
			kind, document, err := s.bring(cmd.Context(), c, console, j, module)
			if err != nil {
				return err
			}
			status, err := c.Submit(cmd.Context(), kind, document)
			if err != nil {
				return err
			}
			return f.show(cmd.OutOrStdout(), status, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, status.ID)
				return err
			})
		},
	}
	s.add(cmd)
	d.add(cmd)
	return cmd
}

func newJobGet(f *jobFlags) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "get [ID]", Short: "Tell how far a job is; without an id, all of them", Args: someArgs(0, 1, "one job at most"),
		Long: `Tells how far a job is, and how it ended. With --receipt it writes the receipt of a job
that has ended to a file, after verifying it with the key that the node gives; to verify it
with a key of which you know better whose it is, give the file to phase job verify.`,
		Example: "  phase job get\n  phase job get --receipt receipt.json ID\n  phase job get ID --format json",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if len(args) == 0 && file != "" {
				return usageError{errors.New("--receipt: name the job whose receipt you want")}
			}
			if len(args) == 0 {
				list, err := c.List(cmd.Context())
				if err != nil {
					return err
				}
				return f.show(cmd.OutOrStdout(), list, func(w io.Writer) error { return showJobs(w, list) })
			}
			id, err := jobID(args[0])
			if err != nil {
				return err
			}
			status, err := c.Get(cmd.Context(), id)
			if err != nil {
				return err
			}
			if file != "" {
				if err := keepReceipt(cmd.Context(), c, status, file); err != nil {
					return err
				}
			}
			return f.show(cmd.OutOrStdout(), status, func(w io.Writer) error { return showJobs(w, []job.Status{status}) })
		},
	}
	cmd.Flags().StringVar(&file, "receipt", "", "write the job's receipt to this `file`")
	return cmd
}

// keepReceipt writes the receipt of a job that has ended to a file.
func keepReceipt(ctx context.Context, c *jobapi.Client, status job.Status, file string) error {
	switch {
	case status.End == nil:
		return job.ErrNotEnded
	case status.End.Failure != nil:
		return job.ErrNoReceipt
	}
	raw, err := c.Receipt(ctx, status.ID)
	if err == nil {
		err = checkRun(ctx, c, status.ID, jobapi.Ran{Status: status, Receipt: raw})
	}
	if err != nil {
		return err
	}
	return durable.WriteFile(file, raw, 0o644)
}

// jobID reads an id, with or without "sha256:".
func jobID(text string) (blob.Digest, error) {
	if !strings.Contains(text, ":") {
		text = "sha256:" + text
	}
	id, err := blob.Parse(text)
	if err != nil {
		return id, usageError{fmt.Errorf("%q is no job id: %w", text, err)}
	}
	return id, nil
}

func showJobs(w io.Writer, list []job.Status) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range list {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", s.ID.Hex(), s.AcceptedAt.Local().Format(time.DateTime), s.Stage, phaseterm.Clean(outcome(s)))
	}
	return table.Flush()
}

// outcome says in a few words how a job ended.
func outcome(s job.Status) string {
	switch {
	case s.End == nil:
		return ""
	case s.End.Failure != nil:
		return fmt.Sprintf("%s: %s [%s]", s.End.Failure.Reason, s.End.Failure.Text, s.End.Failure.Code)
	case s.End.State == job.Exited:
		return fmt.Sprintf("%s %d", s.End.State, s.End.ExitCode)
	}
	return fmt.Sprintf("%s: %s", s.End.State, s.End.Detail)
}

func newJobCancel(f *jobFlags) *cobra.Command {
	return &cobra.Command{
		Use: "cancel ID", Short: "End a job that has not ended", Args: someArgs(1, 1, "one job"),
		Example: "  phase job cancel ID",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			defer c.Close()
			id, err := jobID(args[0])
			if err != nil {
				return err
			}
			if _, err := c.Cancel(cmd.Context(), id); err != nil {
				return err
			}
			status, err := c.Watch(cmd.Context(), id, func(job.Status) {})
			if err != nil {
				return err
			}
			return f.show(cmd.OutOrStdout(), status, func(w io.Writer) error { return showJobs(w, []job.Status{status}) })
		},
	}
}

func newJobLogs(f *jobFlags) *cobra.Command {
	var follow, stderr bool
	cmd := &cobra.Command{
		Use: "logs ID", Short: "Write what a job has written", Args: someArgs(1, 1, "one job"),
		Long: "Writes the job's standard output, compared with its digest, or with --stderr the other one.\n" +
			"A node keeps outputs until a job's end, and gives them then.",
		Example: "  phase job logs ID > out\n  phase job logs ID --stderr --follow",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			defer c.Close()
			id, err := jobID(args[0])
			if err != nil {
				return err
			}
			get := c.Get
			if follow {
				get = func(ctx context.Context, id blob.Digest) (job.Status, error) {
					stages := stages{console: jobConsole()}
					status, err := c.Watch(ctx, id, stages.tell)
					stages.end(status.End)
					return status, err
				}
			}
			status, err := get(cmd.Context(), id)
			if err != nil {
				return err
			}
			stream, out := "stdout", job.Output{}
			if status.End != nil {
				out = status.End.Stdout
				if stderr {
					stream, out = "stderr", status.End.Stderr
				}
			}
			return c.Output(cmd.Context(), id, stream, out, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&follow, "follow", false, "wait for the job's end")
	cmd.Flags().BoolVar(&stderr, "stderr", false, "the job's standard error")
	return cmd
}

func newJobNodes(f *jobFlags) *cobra.Command {
	var n networkFlags
	cmd := &cobra.Command{
		Use: "nodes", Short: "List the nodes that can be asked", Args: noArgs,
		Long: `Lists this machine's node, or with --network the nodes that the network knows to run
jobs, each with what it says about itself: its load, engine, walls, the table by which it
counts fuel, and whether it runs jobs of the submitter that --key or --submitter names.`,
		Example: "  phase job nodes\n  phase job nodes --network --key me.pem",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if n.network {
				return n.list(cmd, f, c)
			}
			nodes, err := c.Nodes(cmd.Context())
			if err != nil {
				return err
			}
			return f.show(cmd.OutOrStdout(), nodes, func(w io.Writer) error {
				table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(table, "NODE\tRUNNING\tWAITING\tMEMORY\tDEADLINE")
				for _, n := range nodes {
					fmt.Fprintf(table, "%s\t%d/%d\t%d/%d\t%s\t%s\n", phaseterm.Clean(n.Key), n.Running, n.MaxRunning,
						n.Waiting, n.MaxWaiting, phaseterm.Bytes(n.MemoryBytes), time.Duration(n.DeadlineMS)*time.Millisecond)
				}
				return table.Flush()
			})
		},
	}
	n.add(cmd)
	return cmd
}

// jobConsole is a terminal on standard error. Elsewhere nothing is shown: what the
// module writes there is for somebody else to read.
func jobConsole() *phaseterm.Console {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return phaseterm.New(phaseterm.Config{Out: io.Discard, Now: func() time.Duration { return 0 }})
	}
	return newConsole(os.Stderr)
}

// stages shows how far a job is.
type stages struct {
	console *phaseterm.Console
	open    *phaseterm.Step
}

func (s *stages) tell(now job.Status) {
	if now.Stage == job.Ended {
		return // end knows more
	}
	if s.open != nil {
		s.open.Done("")
	}
	s.open = s.console.Step(string(now.Stage))
}

// end ends the last line: the job came to its end by itself, or not; nil: it is not
// known to have ended.
func (s *stages) end(end *job.End) {
	switch {
	case s.open == nil:
	case end == nil || end.Failure != nil || end.State != job.Exited:
		s.open.Fail("")
	default:
		s.open.Done("")
	}
}
