package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
	phaseterm "github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/quorum"
	"github.com/phasebased/phase/receipt"
)

// statusUnverifiable is the exit status of job verify for UNVERIFIABLE.
const statusUnverifiable = 3

// judged is a verdict as --format json writes it.
type judged struct {
	Verdict  receipt.Verdict `json:"verdict"`
	JobID    string          `json:"job_id,omitempty"`
	EndState string          `json:"end_state,omitempty"`
	ExitCode int64           `json:"exit_code"`
	NodeKey  string          `json:"node_key,omitempty"`
	// Inputs are the files that the job could read, by name.
	Inputs map[string]receipt.Input `json:"inputs,omitempty"`
	Code   string                   `json:"code,omitempty"`
	Error  string                   `json:"error,omitempty"`
	Hint   string                   `json:"hint,omitempty"`
}

func newJobVerify(f *jobFlags) *cobra.Command {
	var id, stdout, stderr, submitter, known string
	var keys []string
	var votes int
	cmd := &cobra.Command{
		Use: "verify FILE", Short: "Check a receipt, a quorum's statement or a proof of fraud, against the keys that are expected", Args: someArgs(1, 1, "one file, or - for standard input"),
		Long: `Says ACCEPT if the expected node signed exactly this receipt, and if it is of the job
and the outputs that are named; REJECT if something speaks against it; UNVERIFIABLE if
nothing can be said: without the expected key, or for a kind of receipt that this
version does not know. A receipt cannot vouch for the key that it names itself.

The statement of a quorum is checked from scratch: ACCEPT if enough of the nodes that
--node-key names came to the result that it claims, each bound to its own before it could
know another's. UNVERIFIABLE if they did not agree, or too few of them are named. A proof
of fraud needs no expectation: ACCEPT says that the holder of the key that it names has
signed two things that contradict each other.

Exit status: 0 ACCEPT, 1 REJECT, 3 UNVERIFIABLE, 2 wrong usage.`,
		Example: "  phase job verify receipt.json --node-key ed25519:… --job ID --stdout out.bin",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			want := expected{Expectation: receipt.Expectation{Now: time.Now()}, votes: votes}
			for _, text := range keys {
				key, err := job.ParseKey(text)
				if err != nil {
					return usageError{fmt.Errorf("--node-key: %w", err)}
				}
				want.nodes = append(want.nodes, quorum.Node{Key: key})
			}
			list, err := readKnown(known)
			if err != nil {
				return err
			}
			want.nodes = list.voters(want.nodes)
			if submitter != "" {
				if want.submitter, err = job.ParseKey(submitter); err != nil {
					return usageError{fmt.Errorf("--submitter: %w", err)}
				}
			}
			if id != "" {
				if want.JobID, err = jobID(id); err != nil {
					return err
				}
			}
			if want.Stdout, err = fileDigest(stdout); err != nil {
				return err
			}
			if want.Stderr, err = fileDigest(stderr); err != nil {
				return err
			}
			raw, err := readProof(cmd.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			return f.judgeAny(cmd.OutOrStdout(), raw, want)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&keys, "node-key", "k", nil, "the expected node's public `key`, ed25519:<hex>; repeatable for a quorum")
	flags.StringVar(&known, "nodes", "", "a `file` of nodes that are expected, and who runs them: one operator has one vote")
	flags.IntVar(&votes, "votes", 0, "how many of the expected nodes have to agree (default what the statement's plan says)")
	flags.StringVar(&submitter, "submitter", "", "the expected submitter's public `key`, of a quorum")
	flags.StringVar(&id, "job", "", "`id` of the job that was submitted")
	flags.StringVar(&stdout, "stdout", "", "`file` with the output that was received")
	flags.StringVar(&stderr, "stderr", "", "`file` with the standard error that was received")
	return cmd
}

func (f *jobFlags) judge(w io.Writer, raw []byte, want receipt.Expectation) error {
	verdict, s, err := receipt.Judge(raw, want)
	out := judged{Verdict: verdict}
	if verdict == receipt.Accept {
		out.JobID, out.EndState, out.ExitCode = s.Result.JobID.String(), string(s.Result.EndState), s.Result.ExitCode
		out.NodeKey, out.Inputs = job.FormatKey(s.Observation.NodeKey), s.Result.Inputs
	} else {
		out.explain(err)
	}
	if err := f.show(w, out, out.write); err != nil {
		return err
	}
	switch verdict {
	case receipt.Accept:
		return nil
	case receipt.Unverifiable:
		return statusError{status: statusUnverifiable}
	}
	return statusError{status: 1}
}

func (j *judged) explain(err error) {
	j.Error = err.Error()
	var told interface {
		Code() string
		Hint() string
	}
	if errors.As(err, &told) {
		j.Code, j.Hint = told.Code(), told.Hint()
	}
}

func (j judged) write(w io.Writer) error {
	fmt.Fprintln(w, j.Verdict)
	if j.Verdict == receipt.Accept {
		_, err := fmt.Fprintf(w, "job   %s\nend   %s %d\nnode  %s\n", j.JobID, j.EndState, j.ExitCode, j.NodeKey)
		for _, name := range slices.Sorted(maps.Keys(j.Inputs)) {
			_, failed := fmt.Fprintf(w, "input %s  %s\n", j.Inputs[name].Digest, name)
			err = errors.Join(err, failed)
		}
		return err
	}
	_, err := fmt.Fprintf(w, "%s [%s]\n%s\n", phaseterm.Clean(j.Error), j.Code, j.Hint)
	return err
}

// fileDigest is the digest of a file, of any size; zero without a name.
func fileDigest(path string) (blob.Digest, error) {
	if path == "" {
		return blob.Digest{}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return blob.Digest{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxOutput+1))
	if err == nil && len(data) > maxOutput {
		err = fmt.Errorf("%s is larger than any job's output", path)
	}
	return blob.Of(data), err
}

// maxOutput is more than any node keeps of an output, in bytes.
const maxOutput = 256 << 20

func readReceipt(in io.Reader, path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(in, receipt.MaxBytes+1))
	}
	raw, err := durable.ReadSmall(path, receipt.MaxBytes+1, durable.FollowLinks)
	if errors.Is(err, durable.ErrTooLarge) { // to be judged, as any other
		return make([]byte, receipt.MaxBytes+1), nil
	}
	return raw, err
}

func newJobReplay(f *jobFlags) *cobra.Command {
	var spec, key string
	cmd := &cobra.Command{
		Use: "replay ID|RECEIPT", Short: "Run a job again on this machine's node and compare the results", Args: someArgs(1, 1, "one job or receipt"),
		Long: `Runs the same job again and compares the two results: of a job that the node knows, by
its ID, or of a receipt from anywhere, with --spec FILE for the specification and
--node-key for the node that is expected to have signed it.

Exit status: 0 the results are equal, 1 they differ or one of them cannot be had,
2 wrong usage, 3 the other receipt cannot be verified.`,
		Example: "  phase job replay ID\n  phase job replay receipt.json --spec job.json --node-key ed25519:…",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			defer c.Close()
			return f.replay(cmd, c, args[0], spec, key)
		},
	}
	cmd.Flags().StringVar(&spec, "spec", "", "`file` with the job's specification (default: the node's)")
	cmd.Flags().StringVarP(&key, "node-key", "k", "", "public `key` of the node that signed the receipt (default: this machine's)")
	return cmd
}

// compared is what replay found, as --format json writes it.
type compared struct {
	Verdict string         `json:"verdict"` // EQUAL or DIFFERENT
	JobID   string         `json:"job_id"`
	First   receipt.Result `json:"first"`
	Again   receipt.Result `json:"again"`
}

func (f *jobFlags) replay(cmd *cobra.Command, c *jobapi.Client, what, specFile, keyText string) error {
	ctx := cmd.Context()
	nodes, err := c.Nodes(ctx)
	if err != nil || len(nodes) == 0 {
		return errors.Join(err, errors.New("the node does not say its key"))
	}
	if keyText == "" {
		keyText = nodes[0].Key
	}
	first, spec, err := f.firstRun(cmd, c, what, specFile, keyText)
	if err != nil {
		return err
	}
	own, err := job.ParseKey(nodes[0].Key)
	if err != nil {
		return err
	}
	raw, err := c.Replay(ctx, spec)
	if err != nil {
		return err
	}
	_, again, err := receipt.Judge(raw, receipt.Expectation{NodeKey: own, JobID: first.Result.JobID})
	if err != nil {
		return err
	}
	out := compared{"EQUAL", first.Result.JobID.String(), first.Result, again.Result}
	same, err := sameResult(first.Result, again.Result)
	if err != nil {
		return err
	}
	if !same {
		out.Verdict = "DIFFERENT"
	}
	if err := f.show(cmd.OutOrStdout(), out, out.write); err != nil || same {
		return err
	}
	return statusError{status: 1}
}

// firstRun is the receipt to compare with, verified, and the specification.
func (f *jobFlags) firstRun(cmd *cobra.Command, c *jobapi.Client, what, specFile, keyText string) (s receipt.Statement, spec []byte, err error) {
	key, err := job.ParseKey(keyText)
	if err != nil {
		return s, nil, usageError{fmt.Errorf("--node-key: %w", err)}
	}
	var raw []byte
	if _, missing := os.Stat(what); missing == nil {
		raw, err = readReceipt(nil, what)
	} else {
		id, bad := jobID(what)
		if bad != nil {
			return s, nil, usageError{fmt.Errorf("%s is neither a file nor a job's id", what)}
		}
		raw, err = c.Receipt(cmd.Context(), id)
	}
	if err != nil {
		return s, nil, err
	}
	verdict, s, err := receipt.Judge(raw, receipt.Expectation{NodeKey: key})
	switch {
	case verdict == receipt.Unverifiable:
		return s, nil, statusError{statusUnverifiable, err}
	case err != nil:
		return s, nil, err
	}
	if specFile != "" {
		spec, err = durable.ReadSmall(specFile, job.MaxSpecBytes, durable.FollowLinks)
	} else {
		spec, err = c.Spec(cmd.Context(), s.Result.JobID)
	}
	if err != nil {
		return s, nil, err
	}
	j, err := job.Parse(spec)
	if err == nil && j.ID() != s.Result.JobID {
		err = fmt.Errorf("the specification is of job %s, the receipt of %s", j.ID(), s.Result.JobID)
	}
	return s, spec, err
}

// sameResult compares what all honest nodes agree on.
func sameResult(a, b receipt.Result) (bool, error) {
	x, err := a.Digest()
	if err != nil {
		return false, err
	}
	y, err := b.Digest()
	return x == y, err
}

func (c compared) write(w io.Writer) error {
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s\njob    %s\n", c.Verdict, c.JobID)
	for _, run := range []struct {
		name string
		r    receipt.Result
	}{{"first", c.First}, {"again", c.Again}} {
		fmt.Fprintf(&text, "%s  %s\n", run.name, strings.TrimSpace(fmt.Sprintf("%s %d %s, stdout %s, stderr %s",
			run.r.EndState, run.r.ExitCode, phaseterm.Clean(run.r.Trap), run.r.Stdout.Digest, run.r.Stderr.Digest)))
	}
	_, err := w.Write(text.Bytes())
	return err
}
