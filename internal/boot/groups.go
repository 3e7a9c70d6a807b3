package boot

import (
	"cmp"
	"fmt"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/manifest"
)

// choose makes the newest verified release the best one. The state is locked.
func (h *hunt) choose() {
	if h.best != nil && (h.best.verified == nil || h.best.dropped) {
		h.best = nil
	}
	for _, g := range h.groups {
		if g.verified != nil && (h.best == nil || g.version > h.best.version) {
			h.best = g
		}
	}
}

// tend starts the pursuits that are needed and ends those that are not. The
// state is locked.
func (h *hunt) tend() {
	for _, g := range h.groups {
		switch useful := h.useful(g); {
		case g.running && !useful:
			g.cancel()
		case !g.running && useful && h.ctx.Err() == nil && (!h.searched || g.pending()):
			h.begin(g)
		}
	}
}

// useful reports whether the group's manifest is still wanted: it is neither
// here nor older than what is verified. The state is locked.
func (h *hunt) useful(g *group) bool {
	return !h.ended() && !g.dropped && g.verified == nil && g.refused == nil && (h.best == nil || g.version > h.best.version)
}

// admit returns the pointer's group, made if it is new, or nil if there is no
// room for it. The state is locked.
func (h *hunt) admit(p *manifest.VerifiedPointer, found discover.Candidate) *group {
	id := identify(p.Pointer())
	if g := h.groups[id]; g != nil {
		g.renew(p, found.Pointer)
		return g
	}
	if len(h.groups) >= maxGroups && !h.evict(id.version, found.Source) {
		h.reject(found.Origin, fmt.Errorf("release %d from %s is passed over: %d others are looked at", id.version, found.Origin, maxGroups))
		return nil
	}
	g := newGroup(p, found)
	h.groups[id] = g
	h.first = cmp.Or(h.first, found.Origin)
	return g
}

// evict makes room for a release that a source told of: a useless one goes
// first, then the oldest of the source that takes most of the room. That one may
// be newer, if the other source has less: a thief of the publisher's online key
// can invent any number of newer releases, but not be every source. The state is
// locked.
func (h *hunt) evict(version int64, source string) bool {
	room, most := map[string]int{}, 0
	for _, g := range h.groups {
		if g.useless() {
			h.drop(g)
			return true
		}
		room[g.found.Source]++
		most = max(most, room[g.found.Source])
	}
	var oldest *group
	for _, g := range h.groups {
		if g != h.best && room[g.found.Source] == most && (oldest == nil || g.version < oldest.version) {
			oldest = g
		}
	}
	if oldest == nil || oldest.version >= version && room[source]+1 >= most {
		return false
	}
	h.drop(oldest)
	return true
}

// drop forgets a group. The state is locked.
func (h *hunt) drop(g *group) {
	g.dropped = true
	if g.running {
		g.cancel()
	}
	delete(h.groups, g.identity)
}
