package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/node"
)

// localFlags are what a person may say about a job of their own.
type localFlags struct {
	config string
	env    []string
	stdin  bool
	inputs []string
}

func (f *localFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows the module belongs to the module
	flags.StringVarP(&f.config, "config", "c", "", "configuration file with the node's limits")
	flags.StringArrayVar(&f.inputs, "input", nil, "give the module a copy of the file as "+job.InputFolder+"/NAME, as `NAME=FILE`, repeatable")
	flags.StringArrayVar(&f.env, "env", nil, "`NAME=VALUE` for the module, repeatable")
	flags.BoolVarP(&f.stdin, "stdin", "i", false, "give standard input to the module, up to 512 KiB")
}

// localJob is a person's job with its module and the limits of their node.
type localJob struct {
	job    *job.Job
	module []byte
	inputs *localInputs
	cfg    config
}

func (f *localFlags) prepare(cmd *cobra.Command, args []string) (*localJob, error) {
	cfg, _, err := loadConfig(f.config)
	if err != nil {
		return nil, err
	}
	module, err := readModule(args[0])
	if err != nil {
		return nil, err
	}
	limits := cfg.nodeLimits()
	spec := job.Spec{
		Version: job.SpecVersion, Module: blob.Of(module), Args: args[1:], Env: map[string]string{},
		Limits: limits.Clamp(job.Limits{DeadlineMS: limits.DeadlineMS, MemoryBytes: limits.MemoryBytes}),
	}
	for _, kv := range f.env {
		name, value, ok := strings.Cut(kv, "=")
		if !ok {
			return nil, usageError{fmt.Errorf("--env %q is not NAME=VALUE", kv)}
		}
		spec.Env[name] = value
	}
	if f.stdin {
		if spec.Stdin, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), job.MaxStdinBytes+1)); err != nil {
			return nil, err
		}
	}
	given, err := readInputs(f.inputs, limits.InputBytes)
	if err != nil {
		return nil, err
	}
	spec.Inputs = given.inputs
	j, err := job.New(spec)
	if err != nil {
		given.close()
		return nil, err
	}
	return &localJob{j, module, given, cfg}, nil
}

func newRun() *cobra.Command {
	var f localFlags
	cmd := &cobra.Command{
		Use:   "run [flags] FILE.wasm [ARG…]",
		Short: "Run a module in the sandbox; exits with the module's status",
		Long: "Run a WASI preview 1 module in the node's sandbox, without a receipt.\n" +
			"Its output is passed on when it ends; the exit status is the module's.\n" +
			"A module that does not end by itself gives status 1 and a message.\n" +
			"Flags stand before the module; what follows it is the module's.\n\n" +
			"Exit status: the module's; 1 where it has none, 2 wrong usage.",
		Example: "  plasmd run examples/hello/hello.wasm \"Hello, World\"\n  plasmd run --env LANG=C --stdin module.wasm --flag-of-the-module < input",
		Args:    usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			local, err := f.prepare(cmd, args)
			if err != nil {
				return err
			}
			defer local.inputs.close()
			res, err := runLocal(cmd.Context(), local)
			if err != nil {
				return err
			}
			return passOn(cmd, res)
		},
	}
	f.add(cmd)
	return cmd
}

func runLocal(ctx context.Context, local *localJob) (job.Result, error) {
	empty, err := emptyFolder()
	if err != nil {
		return job.Result{}, err
	}
	defer os.Remove(empty)
	box, err := sandbox(empty)
	if err != nil {
		return job.Result{}, err
	}
	return box.RunWith(ctx, "", local.job, local.module, local.inputs.files)
}

// emptyFolder makes a root for a guest, as openState does. Everybody may read it: were
// its mode what keeps a guest from opening it, nobody could tell that Landlock does.
func emptyFolder() (string, error) {
	dir, err := os.MkdirTemp("", "plasmd-empty-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o555)
}

// endError is a job that ended otherwise than by itself.
type endError struct{ res job.Result }

func (e *endError) Error() string {
	return fmt.Sprintf("the job ended as %s: %s", e.res.State, e.res.Detail)
}

// Code is NODE-010 for the job's own failures, NODE-011 for the node's.
func (e *endError) Code() string {
	if e.res.State == job.InfraError {
		return "NODE-011"
	}
	return "NODE-010"
}

// passOn hands a module's output and status to the person who ran it.
func passOn(cmd *cobra.Command, res job.Result) error {
	if _, err := cmd.OutOrStdout().Write(res.Stdout); err != nil {
		return err
	}
	if _, err := cmd.ErrOrStderr().Write(res.Stderr); err != nil {
		return err
	}
	switch {
	case res.State != job.Exited:
		return &endError{res}
	case res.ExitCode != 0:
		return exitStatus(res.ExitCode)
	}
	return nil
}

// executed is what execute-job prints.
type executed struct {
	JobID          string          `json:"job_id"`
	State          job.State       `json:"state"`
	ExitCode       int             `json:"exit_code"`
	Detail         string          `json:"detail,omitempty"`
	Stdout         string          `json:"stdout"`
	StdoutEncoding string          `json:"stdout_encoding,omitempty"` // "base64" if stdout is not UTF-8
	Stderr         string          `json:"stderr"`
	StderrEncoding string          `json:"stderr_encoding,omitempty"`
	NodeKey        string          `json:"node_key"`
	Receipt        json.RawMessage `json:"receipt"`
}

func newExecuteJob() *cobra.Command {
	var f localFlags
	var dir string
	var ephemeral bool
	cmd := &cobra.Command{
		Use:   "execute-job [flags] FILE.wasm [ARG…]",
		Short: "Run a module as a job; prints result and signed receipt as JSON",
		Long: `Runs a module in the sandbox as a job of this node, without a daemon, and prints one JSON
object: job_id, exit_code, stdout, stderr and the receipt that the node's key has signed.
Flags stand before the module; what follows it is the module's.

Exit status: 0 there is a receipt, however the module ended; 1 there is none, 2 wrong usage.`,
		Example: "  plasmd execute-job examples/hello/hello.wasm \"Hello, World\"\n  plasmd execute-job --ephemeral module.wasm",
		Args:    usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			local, err := f.prepare(cmd, args)
			if err != nil {
				return err
			}
			defer local.inputs.close()
			if ephemeral {
				if dir, err = os.MkdirTemp("", "plasmd-state-"); err != nil {
					return err
				}
				defer os.RemoveAll(dir)
			}
			st, err := openState(dir, ephemeral)
			if err != nil {
				return err
			}
			answer, err := executeLocal(cmd.Context(), st, local)
			if err != nil {
				return err
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			return enc.Encode(answer)
		},
	}
	f.add(cmd)
	stateFlag(cmd, &dir, "folder of the node's identity and receipts")
	cmd.Flags().BoolVar(&ephemeral, "ephemeral", false, "use a fresh identity and keep nothing")
	return cmd
}

func executeLocal(ctx context.Context, st *state, local *localJob) (*executed, error) {
	key, err := st.key()
	if err != nil {
		return nil, err
	}
	box, err := sandbox(st.empty())
	if err != nil {
		return nil, err
	}
	n, err := node.New(node.Config{
		Key: key, Runner: box, Limits: local.cfg.nodeLimits(), MaxConcurrent: 1,
		Module: func(context.Context, blob.Digest) ([]byte, error) { return local.module, nil },
		Input:  local.inputs.open,
	})
	if err != nil {
		return nil, err
	}
	report, err := n.Execute(ctx, local.job)
	if err != nil {
		return nil, err
	}
	if _, err := st.saveReceipt(report); err != nil {
		return nil, err
	}
	return describe(report, n), nil
}

func describe(r node.Report, n *node.Node) *executed {
	a := &executed{
		JobID: r.JobID.String(), State: r.Result.State, ExitCode: r.Result.ExitCode, Detail: r.Result.Detail,
		NodeKey: "ed25519:" + hex.EncodeToString(n.Public()), Receipt: r.Receipt,
	}
	a.Stdout, a.StdoutEncoding = printable(r.Result.Stdout)
	a.Stderr, a.StderrEncoding = printable(r.Result.Stderr)
	return a
}

// printable gives bytes a place in JSON without changing them.
func printable(b []byte) (text, encoding string) {
	if utf8.Valid(b) {
		return string(b), ""
	}
	return base64.StdEncoding.EncodeToString(b), "base64"
}
