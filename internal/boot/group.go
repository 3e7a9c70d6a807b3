package boot

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/manifest"
)

// identity is what makes two verified pointers name the same release.
type identity struct {
	version int64
	hash    blob.Digest // of the manifest file
	size    int64
}

func identify(p manifest.Pointer) identity {
	return identity{p.ManifestVersion, p.ManifestHash, p.ManifestSize}
}

// group is one release: a verified pointer, every place that may have what it
// names, whoever told of them, and in the end the verified manifest.
type group struct {
	identity

	// Guarded by the hunt's mutex.
	found   discover.Candidate // who told first, with the best pointer so far
	pointer *manifest.VerifiedPointer
	places  []*place
	turns   map[string]int // how many places of each origin were asked

	running  bool               // its pursuit
	cancel   context.CancelFunc // ends it
	attempts []fetch.Attempt
	unlogged error // why a manifest that is here has no log proof that holds
	reported bool  // that no place gave it

	manifest, proof []byte             // the bytes that the pointer names, and those beside them
	verified        *manifest.Verified // nil until the manifest is here, and while it is refused
	refused         error              // why the manifest that is here does not verify
	dropped         bool               // the hunt forgot it
}

// place is where the release's files may be had.
type place struct {
	base   string   // provider base URL; empty for a manifest somewhere else
	urls   []string // of the manifest
	proof  string   // URL of its log proof; empty: there is none here
	origin string   // who named it; empty for the publisher, in the pointer

	asked  time.Time // when its turn for the manifest came, or zero
	served bool      // it gave the manifest
	failed bool      // it did not, or not an artifact, or was overtaken
	spent  bool      // the artifacts were looked for here
}

func newGroup(p *manifest.VerifiedPointer, found discover.Candidate) *group {
	return &group{
		identity: identify(p.Pointer()), pointer: p, found: found, turns: map[string]int{},
		places: []*place{{}}, // the cache, which is asked with every place
	}
}

// renew takes over a better pointer to the same manifest, one that holds longer.
func (g *group) renew(p *manifest.VerifiedPointer, raw []byte) {
	if discover.Compare(p.Pointer(), raw, g.pointer.Pointer(), g.found.Pointer) > 0 {
		g.pointer, g.found.Pointer = p, raw
	}
}

// learn adds the places that a candidate names: first the source's own, which
// are near or were typed by hand, then those in the signed pointer.
func (g *group) learn(p manifest.Pointer, found discover.Candidate) {
	for _, base := range found.Bases {
		base = strings.TrimRight(base, "/")
		g.add(&place{base: base, urls: []string{base + manifestPath(p)}, origin: found.Origin})
	}
	for _, url := range p.URLs {
		base, ok := strings.CutSuffix(url, manifestPath(p))
		if !ok {
			base = ""
		}
		g.add(&place{base: base, urls: []string{url}})
	}
}

func (g *group) add(p *place) {
	if folder, ok := strings.CutSuffix(p.urls[0], "/manifest.json"); ok {
		p.proof = folder + "/manifest.tlog-proof"
	}
	if p.base != "" {
		if discover.CheckBase(p.base) != nil {
			return
		}
		p.urls = append(p.urls, fetch.BlobURLs(g.hash, []string{p.base})...)
	}
	for _, known := range g.places {
		if slices.Equal(known.urls, p.urls) {
			known.origin = cmp.Or(known.origin, p.origin)
			return
		}
	}
	g.places = append(g.places, p)
}

// useless reports whether nothing is to be expected of the group for now.
func (g *group) useless() bool { return g.refused != nil || g.reported }

// pending reports whether a place was not asked for the manifest yet.
func (g *group) pending() bool {
	return slices.ContainsFunc(g.places, func(p *place) bool { return p.asked.IsZero() })
}

// candidate is what would make this group again.
func (g *group) candidate() discover.Candidate {
	found := g.found
	found.Bases = nil
	for _, p := range g.places {
		if p.base != "" && p.origin != "" && len(found.Bases) < discover.MaxBases {
			found.Bases = append(found.Bases, p.base)
		}
	}
	return found
}

// pick is the next place to ask for the manifest, or nil. The origin with the
// fewest turns is next, so that one who names hundreds of places holds up only
// himself.
func (g *group) pick() *place {
	var next *place
	for _, p := range g.places {
		if p.asked.IsZero() && (next == nil || g.turns[p.origin] < g.turns[next.origin]) {
			next = p
		}
	}
	if next != nil {
		next.asked = time.Now()
		g.turns[next.origin]++
	}
	return next
}

// deliver notes that a place gave the manifest. Those that had their head start
// and did not are slow.
func (g *group) deliver(p *place) {
	p.served = true
	for _, other := range g.places {
		if !other.served && !other.asked.IsZero() && time.Since(other.asked) >= headStart {
			other.failed = true
		}
	}
}

// fail notes that a place did not give the manifest, or no proof for it.
func (g *group) fail(p *place, err error) {
	p.failed = true
	var failure *fetch.Error
	if !errors.As(err, &failure) {
		g.unlogged = err
		return
	}
	g.attempts = append(g.attempts, failure.Attempts...)
	if failure.Cause != nil && len(p.urls) > 0 { // it was given up while asking
		g.attempts = append(g.attempts, fetch.Attempt{URL: p.urls[0], Round: 1, Err: failure.Cause})
	}
}

// judge remembers who gave the artifact d, finders' providers among them, and who
// could not.
func (g *group) judge(d blob.Digest, r fetch.Report) {
	const somewhere = "http://somewhere"
	path := strings.TrimPrefix(fetch.BlobURLs(d, []string{somewhere})[0], somewhere)
	for _, s := range r.Sources {
		base, isProvider := strings.CutSuffix(s.Source, path)
		known := slices.ContainsFunc(g.places, func(p *place) bool { return p.base == base })
		if isProvider && !known && s.Bytes > 0 {
			g.add(&place{base: base, urls: []string{base + manifestPath(g.pointer.Pointer())}, origin: base})
		}
		for _, p := range g.places {
			if p.base == "" || !strings.HasPrefix(s.Source, p.base+"/") {
				continue
			}
			switch {
			case s.Verdict != "good" && s.Verdict != "unused":
				p.failed = true
			case s.Bytes > 0:
				p.served, p.failed = true, false
			}
		}
	}
}

// maxPerRank bounds how many bases of each rank are used at once: a flood of
// hints must not hide the publisher's own.
const maxPerRank = 8

// bases are the provider base URLs to get artifacts from, best first: those of
// sources before those of the pointer, and last those that failed already.
func (g *group) bases() []string {
	places := slices.Clone(g.places)
	slices.SortStableFunc(places, func(a, b *place) int { return a.rank() - b.rank() })
	var used [4]int
	var bases []string
	for _, p := range places {
		if rank := p.rank(); p.base != "" && used[rank] < maxPerRank {
			used[rank]++
			bases = append(bases, p.base)
		}
	}
	return bases
}

func (p *place) rank() int {
	switch {
	case p.failed:
		return 3
	case p.origin == "":
		return 2
	case p.served:
		return 0
	}
	return 1
}

// spend marks bases as tried for the artifacts without success.
func (g *group) spend(bases []string) {
	for _, p := range g.places {
		if slices.Contains(bases, p.base) {
			p.failed, p.spent = true, true
		}
	}
}

// unspent reports whether there is a base that was not tried for the artifacts.
func (g *group) unspent() bool {
	return slices.ContainsFunc(g.places, func(p *place) bool { return p.base != "" && !p.spent })
}

// failure is why no place gave the manifest, or none a proof that it is logged.
func (g *group) failure() error {
	if g.unlogged != nil {
		return g.unlogged
	}
	e := &fetch.Error{Artifact: "manifest", Want: g.hash, Rounds: min(1, len(g.attempts)), Attempts: g.attempts}
	others := 0
	for _, a := range g.attempts {
		var mismatch *blob.MismatchError
		var status *fetch.StatusError
		switch {
		case errors.As(a.Err, &mismatch):
			e.Mismatch = true
		case errors.As(a.Err, &status) && status.Code == http.StatusNotFound:
		default:
			others++
		}
	}
	e.Mismatch = e.Mismatch && others == 0
	return e
}
