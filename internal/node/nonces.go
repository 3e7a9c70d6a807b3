package node

import (
	"container/heap"
	"time"
)

// maxNonces bounds the nonces that are remembered, at some 300 bytes each.
const maxNonces = 100_000

type nonceKey struct{ who, nonce string }

// nonces are those that were used, so that no submission counts twice. There is no end to
// those of a submitter who sends many small jobs: where there are as many as can be
// remembered, who has used their part of them waits until some have expired, and nobody
// else does.
type nonces struct {
	most  int
	known map[nonceKey]bool
	by    map[string]int // how many, by submitter
	next  expiring
}

func newNonces(most int) *nonces {
	return &nonces{most: most, known: map[nonceKey]bool{}, by: map[string]int{}}
}

func (n *nonces) used(e *nonceEntry) bool { return n.known[nonceKey{e.Who, e.Nonce}] }

// room forgets what has expired, when there is much, and reports whether another one of
// who, one of so many submitters, can be remembered.
func (n *nonces) room(who string, submitters int, now time.Time) bool {
	for len(n.next) > n.most/2 && !now.Before(n.next[0].Expires) {
		e := heap.Pop(&n.next).(*nonceEntry)
		delete(n.known, nonceKey{e.Who, e.Nonce})
		lower(n.by, e.Who)
	}
	return len(n.next) < n.most || n.by[who] < n.most/max(1, submitters)
}

// add remembers e, which may be there already.
func (n *nonces) add(e *nonceEntry) {
	if n.used(e) {
		return
	}
	n.known[nonceKey{e.Who, e.Nonce}] = true
	n.by[e.Who]++
	heap.Push(&n.next, e)
}

// expiring is a heap.Interface: the next to expire first.
type expiring []*nonceEntry

func (x expiring) Len() int           { return len(x) }
func (x expiring) Less(i, j int) bool { return x[i].Expires.Before(x[j].Expires) }
func (x expiring) Swap(i, j int)      { x[i], x[j] = x[j], x[i] }
func (x *expiring) Push(e any)        { *x = append(*x, e.(*nonceEntry)) }

// Pop implements heap.Interface.
func (x *expiring) Pop() any {
	last := len(*x) - 1
	e := (*x)[last]
	(*x)[last], *x = nil, (*x)[:last]
	return e
}
