package quorum

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"slices"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/strictjson"
)

// Set is the submitter's word that these are all the commitments of a wave. A
// node opens its own to one set only, and says to which.
type Set struct {
	Plan        Plan
	Wave        int         // from 1
	Previous    blob.Digest // the set of the wave before; zero in the first
	Commitments []Commitment

	digest blob.Digest // of the payload
	plan   blob.Digest
}

// Digest names the set.
func (s *Set) Digest() blob.Digest { return s.digest }

// PlanDigest is that of the set's plan.
func (s *Set) PlanDigest() blob.Digest { return s.plan }

// Of is the commitment of a node.
func (s *Set) Of(node ed25519.PublicKey) (Commitment, bool) {
	i := slices.IndexFunc(s.Commitments, func(c Commitment) bool { return c.Node.Equal(node) })
	if i < 0 {
		return Commitment{}, false
	}
	return s.Commitments[i], true
}

type wireSet struct {
	Version     int64            `json:"version"`
	Plan        wirePlan         `json:"plan"`
	Wave        int64            `json:"wave"`
	Previous    *blob.Digest     `json:"previous,omitempty"`
	Commitments []strictjson.Raw `json:"commitments"` // envelopes, in the order of their nodes' keys
}

// SignSet makes the set of a wave. previous is the set before, nil in the first
// wave; key is the plan's submitter's. It refuses what OpenSet would refuse.
func SignSet(p Plan, previous *Set, commitments [][]byte, key ed25519.PrivateKey) ([]byte, error) {
	w := wireSet{Version: Version, Plan: p.wire(), Wave: 1, Commitments: []strictjson.Raw{}}
	if previous != nil {
		w.Wave, w.Previous = int64(previous.Wave)+1, &previous.digest
	}
	var read []Commitment
	for _, raw := range commitments {
		c, err := claimed(raw)
		if err != nil {
			return nil, fmt.Errorf("sign set: %w", err)
		}
		read = append(read, c)
	}
	slices.SortFunc(read, func(a, b Commitment) int { return bytes.Compare(a.Node, b.Node) })
	for _, c := range read {
		w.Commitments = append(w.Commitments, c.raw)
	}
	raw, err := seal(SetType, w, key, MaxSetBytes)
	if err != nil {
		return nil, fmt.Errorf("sign set: %w", err)
	}
	if _, err := OpenSet(raw, key.Public().(ed25519.PublicKey)); err != nil {
		return nil, fmt.Errorf("sign set: %w", err)
	}
	return raw, nil
}

// claimed reads a commitment under the key that it names.
func claimed(raw []byte) (Commitment, error) {
	var w wireCommitment
	if err := peek(raw, &w, MaxCommitmentBytes); err != nil {
		return Commitment{}, fmt.Errorf("commitment: %w", err)
	}
	return OpenCommitment(raw, ed25519.PublicKey(w.Node))
}

// OpenSet reads a set that submitter has signed: it holds commitments of nodes
// of its plan, for its round, no two of one node or operator.
func OpenSet(raw []byte, submitter ed25519.PublicKey) (*Set, error) {
	s, err := openSet(raw, submitter)
	if err != nil {
		return nil, fmt.Errorf("set: %w", err)
	}
	return s, nil
}

func openSet(raw []byte, submitter ed25519.PublicKey) (*Set, error) {
	var w wireSet
	digest, err := unseal(raw, SetType, &w, submitter, MaxSetBytes)
	switch {
	case err != nil:
		return nil, err
	case w.Version != Version:
		return nil, fail(ErrMalformed, "version %d is unknown", w.Version)
	case w.Wave < 1 || w.Wave > MaxNodes || (w.Wave == 1) != (w.Previous == nil):
		return nil, fail(ErrMalformed, "wave %d", w.Wave)
	case len(w.Commitments) < 1 || len(w.Commitments) > MaxNodes:
		return nil, fail(ErrSet, "%d commitments", len(w.Commitments))
	}
	s := &Set{Plan: w.Plan.plan(), Wave: int(w.Wave), digest: digest}
	if w.Previous != nil {
		s.Previous = *w.Previous
	}
	if s.plan, err = s.Plan.Digest(); err != nil {
		return nil, err
	}
	if !slices.EqualFunc(s.Plan.Nodes, sortedNodes(s.Plan.Nodes), func(a, b Node) bool { return a.Key.Equal(b.Key) }) {
		return nil, fail(ErrMalformed, "the plan's nodes are not in the order of their keys")
	}
	if !submitter.Equal(s.Plan.Submitter) {
		return nil, fail(ErrSignature, "the plan names the submitter %s", formatKey(s.Plan.Submitter))
	}
	return s, s.fill(w.Commitments)
}

// fill adds the commitments, each checked.
func (s *Set) fill(envelopes []strictjson.Raw) error {
	if len(envelopes) > s.Plan.Replicas {
		return fail(ErrSet, "%d commitments in a wave of %d replicas", len(envelopes), s.Plan.Replicas)
	}
	voters := map[string]bool{}
	for _, raw := range envelopes {
		c, err := claimed(raw)
		if err != nil {
			return err
		}
		node, known := s.Plan.node(c.Node)
		switch {
		case c.JobID != s.Plan.JobID || c.Plan != s.plan:
			return fail(ErrRound, "commitment of %s", formatKey(c.Node))
		case !known:
			return fail(ErrSet, "%s is no node of the plan", formatKey(c.Node))
		case voters[node.voter()]:
			return fail(ErrSet, "two commitments of %s or its operator", formatKey(c.Node))
		}
		if n := len(s.Commitments); n > 0 && bytes.Compare(s.Commitments[n-1].Node, c.Node) > 0 {
			return fail(ErrMalformed, "the commitments are not in the order of their nodes' keys")
		}
		voters[node.voter()] = true
		s.Commitments = append(s.Commitments, c)
	}
	return nil
}
