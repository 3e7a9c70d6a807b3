package main

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/strictjson"
	phaseterm "github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/quorum"
	"github.com/phasebased/phase/receipt"
)

// expected is what is known without the file.
type expected struct {
	receipt.Expectation
	nodes     []quorum.Node
	submitter ed25519.PublicKey
	votes     int
}

// judgeAny judges a file by what it says that it is.
func (f *jobFlags) judgeAny(w io.Writer, raw []byte, want expected) error {
	switch kindOf(raw) {
	case quorum.PredicateType:
		return f.judgeQuorum(w, raw, want)
	case quorum.FraudType:
		return f.judgeFraud(w, raw, want)
	}
	switch len(want.nodes) {
	case 0:
	case 1:
		want.NodeKey = want.nodes[0].Key
	default:
		return usageError{errors.New("a receipt is of one node: name one --node-key")}
	}
	return f.judge(w, raw, want.Expectation)
}

// kindOf is what a file claims to be; nothing is believed because of it.
func kindOf(raw []byte) string {
	var file struct {
		Type    string            `json:"type"`
		Payload strictjson.Base64 `json:"payload"`
	}
	lim := strictjson.Limits{Bytes: quorum.MaxStatementBytes, Depth: 32}
	if strictjson.Unmarshal(raw, &file, lim) != nil {
		return ""
	}
	var head struct {
		PredicateType string `json:"predicateType"`
	}
	if strictjson.Unmarshal(file.Payload, &head, lim) == nil && head.PredicateType != "" {
		return head.PredicateType
	}
	return file.Type
}

// judgedNode is what became of a node in a quorum.
type judgedNode struct {
	Node string      `json:"node"`
	Fate quorum.Fate `json:"fate"`
	Why  string      `json:"why,omitempty"`
}

// judgedQuorum is a verdict about a quorum, or about fraud, as --format json writes it.
type judgedQuorum struct {
	judged
	Submitter string       `json:"submitter,omitempty"`
	Votes     int          `json:"votes,omitempty"`
	Known     int          `json:"known,omitempty"` // votes of nodes that were named
	Nodes     []judgedNode `json:"nodes,omitempty"`
	Fraud     quorum.Kind  `json:"fraud,omitempty"`
}

func (f *jobFlags) judgeQuorum(w io.Writer, raw []byte, want expected) error {
	verdict, v, err := quorum.Judge(raw, quorum.Expectation{
		Nodes: want.nodes, Votes: want.votes, JobID: want.JobID, Submitter: want.submitter, Stdout: want.Stdout, Stderr: want.Stderr,
	})
	out := judgedQuorum{judged: judged{Verdict: verdict}}
	if err != nil {
		out.explain(err)
	}
	if v != nil {
		out.JobID, out.Submitter, out.Votes, out.Known = v.Plan.JobID.String(), job.FormatKey(v.Plan.Submitter), v.Outcome.Votes, v.Known
		for _, s := range v.Outcome.Nodes {
			out.Nodes = append(out.Nodes, judgedNode{job.FormatKey(s.Node), s.Fate, s.Why})
		}
		if v.Outcome.Decided() {
			out.EndState, out.ExitCode = string(v.Result.EndState), v.Result.ExitCode
		}
	}
	return f.verdict(w, out)
}

func (f *jobFlags) judgeFraud(w io.Writer, raw []byte, want expected) error {
	fraud, err := quorum.VerifyFraud(raw)
	if err == nil && !want.JobID.IsZero() && fraud.JobID != want.JobID {
		err = quorum.ErrExpected
	}
	out := judgedQuorum{judged: judged{Verdict: receipt.Accept}}
	if err != nil {
		out.Verdict = receipt.Reject
		out.explain(err)
		return f.verdict(w, out)
	}
	out.JobID, out.NodeKey, out.Fraud = fraud.JobID.String(), job.FormatKey(fraud.Key), fraud.Kind
	return f.verdict(w, out)
}

// verdict shows a verdict and ends with its status.
func (f *jobFlags) verdict(w io.Writer, out judgedQuorum) error {
	if err := f.show(w, out, out.write); err != nil {
		return err
	}
	switch out.Verdict {
	case receipt.Accept:
		return nil
	case receipt.Unverifiable:
		return statusError{status: statusUnverifiable}
	}
	return statusError{status: 1}
}

func (j judgedQuorum) write(w io.Writer) error {
	var text bytes.Buffer
	fmt.Fprintln(&text, j.Verdict)
	if j.Error != "" {
		fmt.Fprintf(&text, "%s [%s]\n%s\n", phaseterm.Clean(j.Error), j.Code, j.Hint)
	}
	for _, line := range []struct{ name, value string }{
		{"job", j.JobID}, {"fraud", string(j.Fraud)}, {"signer", j.NodeKey}, {"end", strings.TrimSpace(fmt.Sprintf("%s %d", j.EndState, j.ExitCode))},
		{"submitter", j.Submitter}, {"votes", fmt.Sprintf("%d, %d of them of nodes that you named", j.Votes, j.Known)},
	} {
		if line.value == "" || line.name == "end" && j.EndState == "" || line.name == "votes" && j.Submitter == "" {
			continue
		}
		fmt.Fprintf(&text, "%-9s  %s\n", line.name, line.value)
	}
	for _, n := range j.Nodes {
		fmt.Fprintf(&text, "%s\n", strings.TrimSpace(fmt.Sprintf("%-9s  %s %s", n.Fate, n.Node, phaseterm.Clean(n.Why))))
	}
	_, err := w.Write(text.Bytes())
	return err
}

// readProof reads a receipt, a statement or a proof of fraud.
func readProof(in io.Reader, path string) ([]byte, error) {
	const most = quorum.MaxStatementBytes + 1
	if path == "-" {
		return io.ReadAll(io.LimitReader(in, most))
	}
	raw, err := durable.ReadSmall(path, most, durable.FollowLinks)
	if errors.Is(err, durable.ErrTooLarge) { // to be judged, as any other
		return make([]byte, receipt.MaxBytes+1), nil
	}
	return raw, err
}
