package kexec

import (
	"fmt"
	"strings"
)

// segment is bytes at a place in physical memory; what is behind data is zero.
type segment struct {
	name string
	data []byte
	at   span
}

// plan is everything that kexec_load is told.
type plan struct {
	entry    uint64
	segments []segment
}

// add appends a segment, unless it is empty.
func (p *plan) add(name string, data []byte, at span) {
	if len(data) > 0 {
		p.segments = append(p.segments, segment{name, data, at})
	}
}

func (p plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "entry %#x", p.entry)
	for _, s := range p.segments {
		fmt.Fprintf(&b, "; %s %#x-%#x (%d bytes)", s.name, s.at.start, s.at.end-1, len(s.data))
	}
	return b.String()
}

const stepPlace = "find a place for the new kernel"

// room hands out memory. What it gave away it does not give again.
type room struct{ free spans }

// take gives the lowest memory for size bytes, rounded up to whole pages.
func (r *room) take(name string, size, align uint64) (span, error) {
	return r.takeWithin(name, size, align, span{0, 1<<64 - 1})
}

// takeWithin is take inside of a window.
func (r *room) takeWithin(name string, size, align uint64, window span) (span, error) {
	size = alignUp(max(size, 1), segmentAlign)
	at, ok := r.free.within(spans{window}).lowest(size, max(align, segmentAlign))
	if size == 0 || !ok {
		return span{}, kindPlace.error(stepPlace, nil, "no %d MiB in one piece for the %s", (size+1<<20-1)>>20, name)
	}
	r.free = r.free.without(spans{at})
	return at, nil
}

// segmentAlign suits the largest pages of both architectures (64 KiB on arm64):
// kexec_load takes whole pages of the running kernel, and the next kernel may have
// others.
const segmentAlign = 64 << 10

// maxCmdline is COMMAND_LINE_SIZE of both architectures, without the NUL.
const maxCmdline = 2047

// checkCmdline refuses what the next kernel would cut off.
func checkCmdline(cmdline string) error {
	const step = "check the command line"
	if len(cmdline) > maxCmdline {
		return kindCmdline.error(step, nil, "it has %d bytes, at most %d are possible", len(cmdline), maxCmdline)
	}
	if strings.IndexByte(cmdline, 0) >= 0 {
		return kindCmdline.error(step, nil, "it has a NUL inside")
	}
	return nil
}
