package dispatch

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/phasebased/phase/internal/fuel"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/quorum"
)

// unsuitable says why a node would not run j, by what it says of itself; "" if it
// would.
func unsuitable(j Job, c jobpeer.Capacity, replicated bool) string {
	l := j.Job.Limits()
	for _, limit := range []struct {
		name       string
		want, most int64
	}{
		{"memory_bytes", l.MemoryBytes, c.MemoryBytes}, {"deadline_ms", l.DeadlineMS, c.DeadlineMS}, {"fuel", l.Fuel, c.Fuel},
		{"stdout_bytes", l.StdoutBytes, c.StdoutBytes}, {"stderr_bytes", l.StderrBytes, c.StderrBytes},
	} {
		if limit.want > limit.most {
			return fmt.Sprintf("the job asks for %s %d, it gives at most %d", limit.name, limit.want, limit.most)
		}
	}
	switch {
	case int64(len(j.Module)) > c.ModuleBytes:
		return fmt.Sprintf("the module has %d bytes, it takes at most %d", len(j.Module), c.ModuleBytes)
	case j.Job.InputBytes() > c.InputBytes:
		return fmt.Sprintf("the job has inputs of %d bytes, it takes at most %d", j.Job.InputBytes(), c.InputBytes)
	case !c.Accepts:
		return "it runs no jobs of this submitter"
	case c.CostTable != fuel.CostTable:
		return fmt.Sprintf("it counts fuel by table %d, and this program knows table %d only", c.CostTable, fuel.CostTable)
	case replicated && !c.Quorum:
		return "it takes no part in quorums"
	}
	return ""
}

// order puts those who are able into the order of choice: for a quorum the near first;
// for one answer those who are known, the idle first, then strangers by chance. What
// strangers say of themselves moves only those back who say that they have no place.
func (r *run) order() {
	r.mu.Lock()
	defer r.mu.Unlock()
	var nodes []quorum.Node
	for _, c := range r.able {
		n := quorum.Node{Key: c.peer.Key}
		if r.o.Replicas > 1 {
			n = r.voter(c)
		}
		nodes = append(nodes, n)
	}
	near := map[string]int{}
	for i, n := range quorum.Choose(r.job.Job.ID(), r.o.Beacon, nodes) {
		near[string(n.Key)] = i
	}
	place := func(c *candidate) int { return near[string(c.peer.Key)] }
	if r.o.Replicas > 1 {
		r.apart(near)
		slices.SortFunc(r.able, func(a, b *candidate) int { return cmp.Compare(place(a), place(b)) })
		return
	}
	slices.SortFunc(r.able, func(a, b *candidate) int {
		return cmp.Or(cmp.Compare(r.rank(a), r.rank(b)), cmp.Compare(place(a), place(b)))
	})
}

// strangers is the rank of a stranger with a free place: behind all who are known.
const strangers = 1 << 20

// rank is smaller for who is asked before.
func (r *run) rank(c *candidate) float64 {
	busy := load(c.capacity)
	switch {
	case r.o.Known(c.peer.Key):
		return min(busy, strangers-1)
	case busy < 1:
		return strangers
	}
	return strangers + 1
}

// voter is a candidate as one who votes.
func (r *run) voter(c *candidate) quorum.Node {
	return quorum.Node{Key: c.peer.Key, Operator: r.o.Operator(c.peer.Key)}
}

// apart drops those whose operator has a nearer node. The caller holds the lock.
func (r *run) apart(near map[string]int) {
	r.able = slices.DeleteFunc(r.able, func(c *candidate) bool {
		_, chosen := near[string(c.peer.Key)]
		if !chosen {
			r.attempts = append(r.attempts, Attempt{Node: c.name(), Outcome: Unsuitable,
				Text: fmt.Sprintf("its operator %s has a node that is nearer", excerpt(r.o.Operator(c.peer.Key)))})
		}
		return !chosen
	})
}

// load is how busy a node is: 0 for an idle one, 1 and more if a job has to wait.
func load(c jobpeer.Capacity) float64 {
	return float64(c.Running+c.Waiting) / float64(max(c.MaxRunning, 1))
}
