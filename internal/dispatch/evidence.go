package dispatch

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"slices"
	"sync"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/quorum"
)

// Fraud is a proof that a node has signed what contradicts itself. It needs nothing
// beside it (quorum.VerifyFraud).
type Fraud struct {
	Node  string      `json:"node"` // its key
	Kind  quorum.Kind `json:"kind"`
	Proof []byte      `json:"-"`
}

// maxSigned bounds what is kept of one node, of each kind.
const maxSigned = 8

// evidence is what nodes have signed in a run, each document once. Whether it is of
// any use shows at the end.
type evidence struct {
	mu sync.Mutex
	by map[string]*signed // by key
}

type signed struct{ receipts, commitments, openings [][]byte }

// keep adds what key's holder has sent; what is empty is left out.
func (e *evidence) keep(key ed25519.PublicKey, more signed) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.by == nil {
		e.by = map[string]*signed{}
	}
	s := e.by[string(key)]
	if s == nil {
		s = &signed{}
		e.by[string(key)] = s
	}
	s.receipts = add(s.receipts, more.receipts)
	s.commitments = add(s.commitments, more.commitments)
	s.openings = add(s.openings, more.openings)
}

func add(to, more [][]byte) [][]byte {
	for _, raw := range more {
		known := slices.ContainsFunc(to, func(old []byte) bool { return bytes.Equal(old, raw) })
		if len(raw) > 0 && !known && len(to) < maxSigned {
			to = append(to, raw)
		}
	}
	return to
}

// frauds are the proofs that follow from what is kept, one of each kind for a node.
func (e *evidence) frauds() (list []Fraud) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for key, s := range e.by {
		public := ed25519.PublicKey(key)
		if proof := contradiction(quorum.TwoResults, public, s.receipts, s.receipts); proof != nil {
			list = append(list, Fraud{job.FormatKey(public), quorum.TwoResults, proof})
		}
		if proof := contradiction(quorum.WrongOpening, public, s.commitments, s.openings); proof != nil {
			list = append(list, Fraud{job.FormatKey(public), quorum.WrongOpening, proof})
		}
	}
	slices.SortFunc(list, func(a, b Fraud) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Kind, b.Kind)) })
	return list
}

// contradiction is the proof of the first pair that is one, nil if none is.
func contradiction(kind quorum.Kind, key ed25519.PublicKey, some, others [][]byte) []byte {
	for _, a := range some {
		for _, b := range others {
			if proof, err := quorum.ProveFraud(kind, key, a, b); err == nil {
				return proof
			}
		}
	}
	return nil
}
