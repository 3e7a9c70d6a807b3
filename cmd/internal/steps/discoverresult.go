package steps

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/term"
)

// discoverResult is the JSON output.
type discoverResult struct {
	Key             string              `json:"key"`              // DHT key of the pointer
	ManifestURL     string              `json:"manifest_url"`     // "" if nothing was found
	ManifestVersion int64               `json:"manifest_version"` // 0 if nothing was found
	Verified        bool                `json:"verified"`         // the pointer's signature was checked with -k
	PeerID          string              `json:"peer_id"`          // DHT peer that gave the pointer, "" if none did
	ProviderCount   int                 `json:"provider_count"`   // different origins that named this manifest
	Sources         []discoverSource    `json:"sources"`          // every source that was asked
	Candidates      []discoverCandidate `json:"candidates"`       // every answer, in the order of arrival
	TookMS          float64             `json:"took_ms"`          // the search as a whole
	Portal          *discoverPortal     `json:"portal,omitempty"` // what --portal-check found; absent without
	Error           string              `json:"error,omitempty"`
	Code            string              `json:"code,omitempty"`
	Hint            string              `json:"hint,omitempty"`
}

// discoverSource is the account of one source.
type discoverSource struct {
	Name       string  `json:"name"`
	Candidates int     `json:"candidates"`        // answers handed on
	Dropped    int     `json:"dropped,omitempty"` // answers beyond the limits
	TookMS     float64 `json:"took_ms"`           // until it ended, or the search did
	Error      string  `json:"error,omitempty"`   // why it could not be asked
}

// discoverCandidate is one answer and what became of it.
type discoverCandidate struct {
	Source   string  `json:"source"`
	Origin   string  `json:"origin"`           // who gave it, as the source tells
	AtMS     float64 `json:"at_ms"`            // since the search started
	Version  int64   `json:"manifest_version"` // 0 if it cannot be read or was refused
	Verified bool    `json:"verified"`         // checked with -k, and good
	Reason   string  `json:"reason,omitempty"` // why it is not verified
}

func (p *pointers) result(answers []discover.Answer) discoverResult {
	r := discoverResult{Key: p.query.Key(), Sources: []discoverSource{}, Candidates: append([]discoverCandidate{}, p.all...)}
	for _, a := range answers {
		s := discoverSource{Name: a.Source, Candidates: a.Candidates, Dropped: a.Dropped, TookMS: milliseconds(a.Took)}
		if a.Err != nil {
			s.Error = term.Clean(a.Err.Error())
		}
		r.Sources = append(r.Sources, s)
	}
	if p.best.raw == nil {
		return r
	}
	r.ManifestURL = p.manifestURL()
	r.ManifestVersion = p.best.pointer.ManifestVersion
	r.Verified = p.root != nil
	origins := map[string]bool{}
	for _, c := range p.same {
		origins[c.Origin] = true
		if id, ok := strings.CutPrefix(c.Origin, "dht "); ok && r.PeerID == "" {
			r.PeerID = id
		}
	}
	r.ProviderCount = len(origins)
	return r
}

// manifestURL prefers a provider on the local network, then what the pointer
// says, then whoever gave the pointer.
func (p *pointers) manifestURL() string {
	var near, far []string
	for _, c := range p.same {
		for _, base := range c.Bases {
			u := strings.TrimRight(base, "/") + "/" + p.query.Channel + "/" + p.query.Arch + "/manifest.json"
			if strings.HasPrefix(c.Origin, "mdns ") {
				near = append(near, u)
			} else {
				far = append(far, u)
			}
		}
	}
	for _, u := range append(append(near, p.best.pointer.URLs...), far...) {
		if plainURL(u) {
			return u
		}
	}
	return ""
}

// plainURL refuses URLs with characters that mean something to a shell, since
// people evaluate the output and, without -k, strangers choose the URL.
func plainURL(u string) bool {
	return strings.IndexFunc(u, func(r rune) bool {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !alnum && !strings.ContainsRune("-._:/%@+,=[]", r)
	}) < 0
}

func (o discoverOptions) show(w io.Writer, r discoverResult) error {
	var err error
	switch {
	case o.format == "json":
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(r)
	case o.quiet:
		_, err = fmt.Fprintln(w, r.ManifestURL)
	default:
		_, err = fmt.Fprintf(w, "MANIFEST_URL=%s\n", r.ManifestURL)
	}
	return err
}

// fail shows the account of an unsuccessful search where machines read it, and
// returns the error for people.
func (o discoverOptions) fail(w io.Writer, r discoverResult, failure error) error {
	if o.format != "json" {
		return failure
	}
	r.Error = term.Clean(failure.Error())
	r.Code, r.Hint = explain(failure)
	if err := o.show(w, r); err != nil {
		return err
	}
	return failure
}
