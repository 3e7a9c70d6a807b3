package metrics

import (
	"slices"
	"strconv"
	"sync"
)

// A Histogram counts values by size. It is safe for concurrent use.
type Histogram struct {
	bounds []float64 // upper, inclusive, rising

	mu     sync.Mutex
	counts []uint64 // one for each bound, and one for what is larger
	sum    float64
}

// NewHistogram takes the upper bounds of its buckets, which rise. What is larger than
// all of them has a bucket as well.
func NewHistogram(bounds ...float64) *Histogram {
	return &Histogram{bounds: bounds, counts: make([]uint64, len(bounds)+1)}
}

// Observe counts v.
func (h *Histogram) Observe(v float64) {
	i, _ := slices.BinarySearch(h.bounds, v)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[i]++
	h.sum += v
}

// Histogram writes the samples of one histogram. The family was begun with kind
// "histogram", and may have several, with other labels.
func (p Page) Histogram(name string, h *Histogram, labels ...string) {
	h.mu.Lock()
	counts, sum := slices.Clone(h.counts), h.sum
	h.mu.Unlock()
	total := uint64(0)
	for i, n := range counts {
		total += n
		bound := "+Inf"
		if i < len(h.bounds) {
			bound = strconv.FormatFloat(h.bounds[i], 'g', -1, 64)
		}
		p.Sample(name+"_bucket", float64(total), append(slices.Clone(labels), "le", bound)...)
	}
	p.Sample(name+"_sum", sum, labels...)
	p.Sample(name+"_count", float64(total), labels...)
}
