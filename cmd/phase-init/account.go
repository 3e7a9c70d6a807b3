package main

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/term"
)

// mostNamed is how many sources of one artifact are named to a person.
const mostNamed = 4

// account says in words where an artifact came from, and warns of each source
// that gave wrong bytes.
func account(r fetch.Report) (lines []string) {
	if r.Error == "" {
		lines = append(lines, fmt.Sprintf("%s %s %s", r.Name, term.Bytes(r.Size), origin(r)))
	}
	for _, s := range r.Sources {
		if s.Verdict == "wrong bytes" {
			lines = append(lines, fmt.Sprintf("WARNING: %s gave wrong bytes of %s. None of them was used, and it was not asked again.", short(s.Source), r.Name))
		}
	}
	return lines
}

// origin is "from 192.0.2.7:8080", or what came from where if there is more to
// say.
func origin(r fetch.Report) string {
	used := slices.DeleteFunc(slices.Clone(r.Sources), func(s fetch.SourceReport) bool { return s.Bytes == 0 })
	slices.SortStableFunc(used, func(a, b fetch.SourceReport) int { return cmp.Compare(b.Bytes, a.Bytes) })
	switch {
	case len(used) == 0 && r.Kept < r.Size: // the rest was in the patch
		patch := r.Size - r.Kept
		return fmt.Sprintf("made out of an older one, with a patch of %s (%.1f %%)", term.Bytes(patch), 100*float64(patch)/float64(r.Size))
	case len(used) == 0:
		return "from the cache"
	case len(used) == 1 && r.Kept == 0:
		return "from " + short(used[0].Source)
	}
	var parts []string
	if r.Kept > 0 {
		parts = append(parts, term.Bytes(r.Kept)+" was here")
	}
	for _, s := range used[:min(len(used), mostNamed)] {
		parts = append(parts, term.Bytes(s.Bytes)+" from "+short(s.Source))
	}
	if n := len(used) - mostNamed; n > 0 {
		parts = append(parts, fmt.Sprintf("the rest from %d others", n))
	}
	if len(used) == 1 {
		return "in parts: " + strings.Join(parts, ", ")
	}
	return fmt.Sprintf("from %d sources: %s", len(used), strings.Join(parts, ", "))
}

// short names a source by its host, where it has one.
func short(source string) string {
	if u, err := url.Parse(source); err == nil && u.Host != "" {
		return u.Host
	}
	return source
}
