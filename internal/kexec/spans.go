package kexec

import (
	"cmp"
	"slices"
)

// span is physical memory from start up to, but without, end.
type span struct{ start, end uint64 }

func (s span) empty() bool  { return s.start >= s.end }
func (s span) size() uint64 { return s.end - s.start }

// spans are sorted, not empty, and do not touch each other.
type spans []span

// newSpans sorts and joins.
func newSpans(list []span) spans {
	list = slices.DeleteFunc(slices.Clone(list), span.empty)
	slices.SortFunc(list, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	var out spans
	for _, s := range list {
		if n := len(out); n > 0 && s.start <= out[n-1].end {
			out[n-1].end = max(out[n-1].end, s.end)
			continue
		}
		out = append(out, s)
	}
	return out
}

// without returns what is left when the holes are cut out.
func (ss spans) without(holes spans) spans {
	var out spans
	for _, s := range ss {
		for _, h := range holes {
			if h.end <= s.start || h.start >= s.end {
				continue
			}
			if h.start > s.start {
				out = append(out, span{s.start, h.start})
			}
			if s.start = h.end; s.empty() {
				break
			}
		}
		if !s.empty() {
			out = append(out, s)
		}
	}
	return out
}

// within returns what both have.
func (ss spans) within(others spans) spans {
	var out spans
	for _, s := range ss {
		for _, o := range others {
			if both := (span{max(s.start, o.start), min(s.end, o.end)}); !both.empty() {
				out = append(out, both)
			}
		}
	}
	return newSpans(out)
}

// lowest returns the first place for size bytes on a multiple of align, a power
// of two.
func (ss spans) lowest(size, align uint64) (span, bool) {
	for _, s := range ss {
		at := alignUp(s.start, align)
		if at >= s.start && at < s.end && s.end-at >= size {
			return span{at, at + size}, true
		}
	}
	return span{}, false
}

// alignUp is 0 if there is no such number.
func alignUp(n, align uint64) uint64   { return (n + align - 1) &^ (align - 1) }
func alignDown(n, align uint64) uint64 { return n &^ (align - 1) }
