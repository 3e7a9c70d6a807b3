package steps

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/manifest"
)

// fetchResult is the JSON output, and what is said on the way to it.
type fetchResult struct {
	Status          string            `json:"status"`                     // "fetched" or "failed"
	ManifestVersion int64             `json:"manifest_version,omitempty"` // 0: the manifest was refused
	Channel         string            `json:"channel,omitempty"`
	Arch            string            `json:"arch,omitempty"`
	Artifacts       []fetchedArtifact `json:"artifacts"`
	Seconds         float64           `json:"seconds"`
	Error           string            `json:"error,omitempty"`
	Code            string            `json:"code,omitempty"`
	Hint            string            `json:"hint,omitempty"`

	plan           *fetchPlan
	stdout, stderr io.Writer
	began          time.Time
	failed         error // to write the result
}

// fetchedArtifact is what became of one artifact.
type fetchedArtifact struct {
	Name    string               `json:"name"`
	Hash    string               `json:"hash"`
	Size    int64                `json:"size"` // bytes
	Path    string               `json:"path"`
	Status  string               `json:"status"`          // "fetched", "present" (already there) or "failed"
	Kept    int64                `json:"kept"`            // bytes that did not have to be transferred
	Delta   *fetchedDelta        `json:"delta,omitempty"` // the patch that it was made with
	Seconds float64              `json:"seconds"`
	Sources []fetch.SourceReport `json:"sources"`
	Remark  string               `json:"remark,omitempty"`
}

// fetchedDelta is a patch.
type fetchedDelta struct {
	From string `json:"from"` // hash of the older artifact
	Size int64  `json:"size"` // bytes of the patch
}

func newFetchResult(env Env, plan *fetchPlan) *fetchResult {
	return &fetchResult{Artifacts: []fetchedArtifact{}, plan: plan, stdout: env.Stdout, stderr: env.Stderr, began: time.Now()}
}

func (r *fetchResult) of(m manifest.Manifest) {
	r.ManifestVersion, r.Channel, r.Arch = m.ManifestVersion, m.Channel, m.Arch
}

// add takes the account of one artifact and says it.
func (r *fetchResult) add(a fetchedArtifact) {
	if a.Sources == nil {
		a.Sources = []fetch.SourceReport{}
	}
	for i := range a.Sources {
		a.Sources[i].Source, a.Sources[i].Verdict = term.Clean(a.Sources[i].Source), term.Clean(a.Sources[i].Verdict)
	}
	r.Artifacts = append(r.Artifacts, a)
	if a.Status == "failed" || r.plan.quiet {
		return
	}
	if r.plan.progress != "json" && r.plan.progress != "none" {
		fmt.Fprintln(r.stderr, a.story())
	}
	if r.plan.format == "text" {
		_, err := fmt.Fprintf(r.stdout, "%s  %s\n", strings.TrimPrefix(a.Hash, "sha256:"), a.Path)
		r.failed = errors.Join(r.failed, err)
	}
}

// story is a line for people: what came, from how many, and what did not have to.
func (a fetchedArtifact) story() string {
	if a.Status == "present" {
		return fmt.Sprintf("%s: already there, %s verified, nothing transferred", a.Name, term.Bytes(a.Size))
	}
	story := fmt.Sprintf("%s: %s", a.Name, term.Bytes(a.Size))
	switch gave := a.gave(); {
	case a.Delta != nil:
		story += fmt.Sprintf(", made from an older release with a patch of %s", term.Bytes(a.Delta.Size))
	case a.Kept == a.Size && a.Size > 0:
		story += ", all of which was here"
	case a.Kept > 0:
		story += fmt.Sprintf(", of which %s were here,", term.Bytes(a.Kept))
		fallthrough
	default:
		story += " from " + gave
	}
	if a.Seconds >= 0.1 {
		story += fmt.Sprintf(" in %.1f s", a.Seconds)
		if came := a.Size - a.Kept; a.Delta == nil && came > 0 {
			story += fmt.Sprintf(", %s/s", term.Bytes(int64(float64(came)/a.Seconds)))
		}
	}
	if a.Remark != "" {
		story += " (" + a.Remark + ")"
	}
	return story
}

// gave names who gave bytes.
func (a fetchedArtifact) gave() string {
	var names []string
	for _, s := range a.Sources {
		if s.Bytes > 0 {
			names = append(names, s.Source)
		}
	}
	switch len(names) {
	case 0:
		return "nobody"
	case 1:
		return names[0]
	}
	return fmt.Sprintf("%d sources", len(names))
}

// end shows the result, and err if there is one. It returns what ends the command.
func (r *fetchResult) end(err error, severity string) error {
	r.Status, r.Seconds = "fetched", time.Since(r.began).Seconds()
	if err != nil {
		r.Status, r.Error = "failed", term.Clean(err.Error())
		r.Code, r.Hint = explain(commandHint{err})
		err = reportFetch(r.stderr, severity, err)
	}
	if r.plan.format == "json" && !r.plan.quiet {
		encoder := json.NewEncoder(r.stdout)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		r.failed = errors.Join(r.failed, encoder.Encode(r))
	}
	if err != nil {
		return err
	}
	return r.failed
}

// reportFetch shows what was tried, then the headline. Wrong bytes are FATAL:
// somebody offers them under the publisher's name.
func reportFetch(w io.Writer, severity string, err error) error {
	var failed *fetch.Error
	if errors.As(err, &failed) {
		for _, a := range failed.Attempts {
			if a.Err != nil {
				fmt.Fprintf(w, "round %d, %s: %s\n", a.Round, term.Clean(a.URL), term.Clean(fmt.Sprint(a.Err)))
			}
		}
		if failed.Mismatch {
			severity = "FATAL"
		}
	}
	report(w, severity, commandHint{err})
	return errReported
}

// commandHint is an error whose hint names a flag of this command where it would
// name an argument of the kernel.
type commandHint struct{ error }

func (e commandHint) Unwrap() error { return e.error }
func (e commandHint) Hint() string {
	_, hint := explain(e.error)
	return strings.ReplaceAll(hint, "phase.provider=", "--source")
}
