package steps

import (
	"fmt"
	"io"
	"time"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/manifest"
)

// offer is a candidate that was read.
type offer struct {
	discover.Candidate
	raw     []byte
	pointer manifest.Pointer
}

// pointers keeps the best of the candidates and who offered it.
type pointers struct {
	root    *manifest.Root // nil: signatures are not checked
	query   discover.Query
	now     func() time.Time
	remarks io.Writer // what a person should look at
	story   io.Writer // what happened, and when

	best offer
	same []discover.Candidate // all that offered the best one's manifest
	all  []discoverCandidate  // everything that was offered, in the order of arrival
}

// take reads one candidate and keeps it if it is the best so far.
func (p *pointers) take(c discover.Candidate) {
	pointer, err := p.read(c.Pointer)
	p.note(c, pointer, err)
	if err != nil {
		return
	}
	order := 1
	if p.best.raw != nil {
		order = discover.Compare(pointer, c.Pointer, p.best.pointer, p.best.raw)
	}
	if p.best.raw == nil || pointer.ManifestHash != p.best.pointer.ManifestHash {
		if order <= 0 {
			return
		}
		p.same = nil
	}
	p.same = append(p.same, c)
	if order > 0 {
		p.best = offer{Candidate: c, raw: c.Pointer, pointer: pointer}
	}
}

// note keeps for the account what was offered and what became of it, and says it.
func (p *pointers) note(c discover.Candidate, pointer manifest.Pointer, err error) {
	n := discoverCandidate{
		Source: term.Clean(c.Source), Origin: term.Clean(c.Origin), AtMS: milliseconds(c.At),
		Version: pointer.ManifestVersion, Verified: err == nil && p.root != nil,
	}
	switch {
	case err != nil:
		n.Reason = term.Clean(err.Error())
		fmt.Fprintf(p.remarks, "%s: ignored what %s gave: %s\n", brief(c.At), n.Origin, n.Reason)
	case p.root == nil:
		n.Reason = "no root was given to check it with"
		fmt.Fprintf(p.story, "%s: %s gave version %d, not verified\n", brief(c.At), n.Origin, n.Version)
	default:
		fmt.Fprintf(p.story, "%s: %s gave version %d, verified\n", brief(c.At), n.Origin, n.Version)
	}
	p.all = append(p.all, n)
}

// account says how each source ended.
func (p *pointers) account(answers []discover.Answer) {
	for _, a := range answers {
		noun := "candidates"
		if a.Candidates == 1 {
			noun = "candidate"
		}
		line := fmt.Sprintf("%s: %s ended with %d %s", brief(a.Took), a.Source, a.Candidates, noun)
		if a.Dropped > 0 {
			line += fmt.Sprintf(", %d beyond the limits", a.Dropped)
		}
		if a.Err != nil {
			line += ": " + a.Err.Error()
		}
		fmt.Fprintln(p.story, term.Clean(line))
	}
}

// brief is a duration as people read it.
func brief(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }

// milliseconds is a duration for JSON, with three digits behind the point: on a
// local network answers differ by less than a millisecond.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// read verifies a pointer, or only parses it if there is no root.
func (p *pointers) read(raw []byte) (manifest.Pointer, error) {
	want := manifest.Want{Channel: p.query.Channel, Arch: p.query.Arch}
	if p.root != nil {
		v, err := manifest.Verifier{Root: p.root, Want: want, ClockSource: "machine clock"}.Pointer(raw, p.now())
		if err != nil {
			return manifest.Pointer{}, err
		}
		return v.Pointer(), nil
	}
	pointer, err := manifest.InspectPointer(raw)
	if err != nil {
		return manifest.Pointer{}, err
	}
	if pointer.Channel != want.Channel || pointer.Arch != want.Arch {
		return manifest.Pointer{}, fmt.Errorf("it is about %s/%s", pointer.Channel, pointer.Arch)
	}
	return pointer, nil
}
