package kexec

import (
	"math"
	"strconv"
	"strings"
)

const (
	// maxIomem bounds /proc/iomem: a large server's has some hundred kilobytes.
	maxIomem = 4 << 20
	// ramName is how the kernel calls memory that it uses as such. Memory behind a
	// driver ("System RAM (kmem)") has another name: the next kernel does not know it
	// before that driver runs.
	ramName = "System RAM"
)

const stepMap = "read the memory map"

// resource is one line of /proc/iomem.
type resource struct {
	depth int // 0 is outermost
	span  span
	name  string
}

// parseIomem reads /proc/iomem: lines such as "  40210000-41deffff : Kernel code",
// two blanks for each level.
func parseIomem(text string) ([]resource, error) {
	if len(text) > maxIomem {
		return nil, kindMap.error(stepMap, nil, "/proc/iomem has more than %d bytes", maxIomem)
	}
	var out []resource
	for line := range strings.Lines(text) {
		r, ok := parseResource(strings.TrimSuffix(line, "\n"))
		if !ok {
			return nil, kindMap.error(stepMap, nil, "/proc/iomem has the line %.80q", line)
		}
		out = append(out, r)
	}
	return out, nil
}

func parseResource(line string) (resource, bool) {
	body := strings.TrimLeft(line, " ")
	depth := len(line) - len(body)
	where, name, ok := strings.Cut(body, " : ")
	if !ok || depth%2 != 0 {
		return resource{}, false
	}
	first, last, ok := strings.Cut(where, "-")
	if !ok {
		return resource{}, false
	}
	start, err := strconv.ParseUint(first, 16, 64)
	if err != nil {
		return resource{}, false
	}
	end, err := strconv.ParseUint(last, 16, 64)
	if err != nil || end < start {
		return resource{}, false
	}
	if end < math.MaxUint64 {
		end++ // a window up to the very end loses its last byte, which is not memory
	}
	return resource{depth / 2, span{start, end}, name}, true
}

// freeMemory returns the memory that the next kernel may be put into: what the
// running one calls System RAM, without everything that it names inside, which is
// its own code and data, room for a crash kernel, and what firmware or devices
// keep. Pages that programs use are no matter: the kernel moves the new one into
// its place at the jump.
func freeMemory(iomem string) (spans, error) {
	resources, err := parseIomem(iomem)
	if err != nil {
		return nil, err
	}
	var ram, taken []span
	inside := math.MaxInt // depth of the System RAM line that we are below
	for _, r := range resources {
		if r.depth <= inside {
			inside = math.MaxInt
		}
		switch {
		case inside < r.depth:
			taken = append(taken, r.span)
		case r.name == ramName:
			ram, inside = append(ram, r.span), r.depth
		}
	}
	free := newSpans(ram).without(newSpans(taken))
	// Who is not root sees zeros only.
	if len(free) == 0 || free[len(free)-1].end <= 1 {
		return nil, kindMap.error(stepMap, nil, "/proc/iomem shows no usable memory")
	}
	return free, nil
}
