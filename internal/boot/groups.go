package boot

import (
	"cmp"

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

// admit returns the pointer's group, made if it is new, or nil if it is older
// than enough others. The state is locked.
func (h *hunt) admit(p *manifest.VerifiedPointer, found discover.Candidate) *group {
	id := identify(p.Pointer())
	if g := h.groups[id]; g != nil {
		g.renew(p, found.Pointer)
		return g
	}
	if len(h.groups) >= maxGroups && !h.evict(id.version) {
		return nil
	}
	g := newGroup(p, found)
	h.groups[id] = g
	h.first = cmp.Or(h.first, found.Origin)
	return g
}

// evict makes room for a newer release: a refused one goes first, then the
// oldest. The state is locked.
func (h *hunt) evict(version int64) bool {
	var oldest *group
	for _, g := range h.groups {
		if g.useless() {
			oldest = g
			break
		}
		if g != h.best && (oldest == nil || g.version < oldest.version) {
			oldest = g
		}
	}
	if oldest == nil || !oldest.useless() && oldest.version >= version {
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
