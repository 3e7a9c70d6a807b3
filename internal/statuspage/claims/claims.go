// Package claims puts what a receipt or a quorum statement says into words, the same ones on the page and
// in the verifier.
package claims

import (
	"fmt"
	"strings"
	"time"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/quorum"
	"github.com/phasebased/phase/receipt"
)

// Of gives names and values.
func Of(s receipt.Statement) [][2]string {
	r, o := s.Result, s.Observation
	list := [][2]string{
		{"Job", r.JobID.String()},
		{"Module", r.Module.String()},
		{"Ended", ending(r)},
		{"Standard output", output(r.Stdout)},
		{"Standard error", output(r.Stderr)},
		{"Fuel", fmt.Sprintf("%d of %d, by cost table %d, %s", r.Fuel.Used, r.Limits.Fuel, r.Fuel.CostTable, r.Determinism)},
		{"Started", o.Timings.StartedAt.UTC().Format(time.RFC3339) + ", by the node's clock"},
		{"Signed by", job.FormatKey(o.NodeKey)},
	}
	if o.Submitter != nil {
		list = append(list, [2]string{"Submitted by", job.FormatKey(o.Submitter)})
	}
	if b := o.Booted; b != nil {
		list = append(list, [2]string{"Node booted", fmt.Sprintf("%s, release %d for %s, %s", b.Channel, b.ManifestVersion, b.Arch, b.ManifestDigest)})
	}
	return list
}

func ending(r receipt.Result) string {
	switch r.EndState {
	case receipt.Exited:
		return fmt.Sprintf("exited with status %d", r.ExitCode)
	case receipt.Trapped:
		return "trapped: " + r.Trap
	}
	return strings.ReplaceAll(string(r.EndState), "_", " ")
}

func output(o receipt.Output) string {
	text := fmt.Sprintf("%d bytes, %s", o.Size, o.Digest)
	if o.Truncated {
		text += ", cut off"
	}
	return text
}

// OfQuorum gives names and values.
func OfQuorum(v *quorum.Verified) [][2]string {
	list := [][2]string{
		{"Job", v.Plan.JobID.String()},
		{"Submitted by", job.FormatKey(v.Plan.Submitter)},
		{"Rule", fmt.Sprintf("%d of %d have to agree", v.Plan.Quorum, v.Plan.Replicas)},
		{"Votes", fmt.Sprintf("%d of %d for one result, %d of them of expected nodes", v.Outcome.Votes, v.Outcome.Cast, v.Known)},
	}
	if v.Outcome.Decided() {
		list = append(list, [2]string{"Ended", ending(v.Result)},
			[2]string{"Standard output", output(v.Result.Stdout)}, [2]string{"Standard error", output(v.Result.Stderr)})
	}
	for _, n := range v.Outcome.Nodes {
		text := strings.ReplaceAll(string(n.Fate), "_", " ") + ": " + job.FormatKey(n.Node)
		if n.Why != "" {
			text += " (" + n.Why + ")"
		}
		list = append(list, [2]string{"Node", text})
	}
	return list
}
