package quorum

import (
	"crypto/ed25519"
	"fmt"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/strictjson"
)

// Opening is a node's word on which receipt its commitment hid, and to which
// set it has said so: a submitter who shows two sets gets openings that do not
// fit together.
type Opening struct {
	Node       ed25519.PublicKey
	Plan       blob.Digest
	Set        blob.Digest
	Commitment blob.Digest
	Receipt    blob.Digest // of the receipt file
	Secret     [32]byte
}

type wireOpening struct {
	Version    int64             `json:"version"`
	Node       wireKey           `json:"node"`
	Plan       blob.Digest       `json:"plan"`
	Set        blob.Digest       `json:"set"`
	Commitment blob.Digest       `json:"commitment"`
	Receipt    blob.Digest       `json:"receipt"`
	Secret     strictjson.Base64 `json:"secret"`
}

// SignOpening opens a node's commitment to a set, which OpenSet has checked
// against the key of the job's submitter. It refuses a set that does not hold
// the commitment to exactly this receipt and secret.
func SignOpening(s *Set, t Ticket, receipt []byte, secret [32]byte, key ed25519.PrivateKey) ([]byte, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("open commitment: not an Ed25519 private key")
	}
	node := key.Public().(ed25519.PublicKey)
	c, ok := s.Of(node)
	switch {
	case !ok:
		return nil, fmt.Errorf("open commitment: %w", fail(ErrSet, "this node's commitment is not in it"))
	case c.Ticket != t || c.Hash != hide(t, node, blob.Of(receipt), secret):
		return nil, fmt.Errorf("open commitment: %w", fail(ErrRound, "it has another commitment of this node"))
	}
	raw, err := seal(OpeningType, wireOpening{
		Version: Version, Node: wireKey(node), Plan: s.plan, Set: s.digest, Commitment: c.digest,
		Receipt: blob.Of(receipt), Secret: secret[:],
	}, key, MaxOpeningBytes)
	if err != nil {
		return nil, fmt.Errorf("open commitment: %w", err)
	}
	return raw, nil
}

// ReadOpening reads an opening that node has signed. It does not say whether it
// opens anything.
func ReadOpening(raw []byte, node ed25519.PublicKey) (Opening, error) {
	o, err := readOpening(raw, node)
	if err != nil {
		return Opening{}, fmt.Errorf("opening: %w", err)
	}
	return o, nil
}

func readOpening(raw []byte, node ed25519.PublicKey) (Opening, error) {
	var w wireOpening
	_, err := unseal(raw, OpeningType, &w, node, MaxOpeningBytes)
	switch {
	case err != nil:
		return Opening{}, err
	case w.Version != Version:
		return Opening{}, fail(ErrMalformed, "version %d is unknown", w.Version)
	case !node.Equal(ed25519.PublicKey(w.Node)):
		return Opening{}, fail(ErrSignature, "it names %s", formatKey(ed25519.PublicKey(w.Node)))
	case len(w.Secret) != 32:
		return Opening{}, fail(ErrMalformed, "a secret of %d bytes", len(w.Secret))
	}
	if err := canonical(raw, MaxOpeningBytes, envelopeDepth); err != nil {
		return Opening{}, err
	}
	return Opening{node, w.Plan, w.Set, w.Commitment, w.Receipt, [32]byte(w.Secret)}, nil
}

// opens reports whether what o says fits c. Both are the node's own words.
func (o Opening) opens(c Commitment) bool {
	return c.Hash == hide(c.Ticket, c.Node, o.Receipt, o.Secret)
}
