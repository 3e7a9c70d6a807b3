package quorum

import (
	"crypto/ed25519"
)

// Reveal is what a node answers to the set: its receipt and the opening of its
// commitment.
type Reveal struct {
	Node    ed25519.PublicKey
	Receipt []byte // file of package receipt
	Opening []byte // ReadOpening
}

// Silence is a node that was asked and has not committed itself in time.
type Silence struct {
	Node ed25519.PublicKey
	Why  string // for a person; the submitter's word
}

// Wave is what came of one set.
type Wave struct {
	Set     []byte // SignSet
	Silent  []Silence
	Reveals []Reveal
}
