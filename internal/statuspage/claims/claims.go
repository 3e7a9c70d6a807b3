// Package claims puts what a receipt says into words, the same ones on the page and
// in the verifier.
package claims

import (
	"fmt"
	"time"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/receipt"
)

// Of gives names and values.
func Of(s receipt.Statement) [][2]string {
	r, o := s.Result, s.Observation
	end := string(r.EndState)
	switch r.EndState {
	case receipt.Exited:
		end = fmt.Sprintf("exited with status %d", r.ExitCode)
	case receipt.Trapped:
		end = "trapped: " + r.Trap
	}
	list := [][2]string{
		{"Job", r.JobID.String()},
		{"Module", r.Module.String()},
		{"Ended", end},
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

func output(o receipt.Output) string {
	text := fmt.Sprintf("%d bytes, %s", o.Size, o.Digest)
	if o.Truncated {
		text += ", cut off"
	}
	return text
}
