package quorum

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"

	"github.com/phasebased/phase/blob"
)

// Ticket is what a node was asked for: it names the round.
type Ticket struct {
	JobID      blob.Digest
	Plan       blob.Digest // Plan.Digest, as the submission's commit member says
	Submission blob.Digest // of the submission's envelope
}

// Commitment is a node's word that it has a receipt, which it does not show yet.
type Commitment struct {
	Ticket
	Node ed25519.PublicKey
	Hash blob.Digest // of the receipt, the node's key, the round and a secret

	digest blob.Digest // of the payload
	raw    []byte
}

// Digest names the commitment.
func (c Commitment) Digest() blob.Digest { return c.digest }

type wireCommitment struct {
	Version    int64       `json:"version"`
	JobID      blob.Digest `json:"job_id"`
	Plan       blob.Digest `json:"plan"`
	Submission blob.Digest `json:"submission"`
	Node       wireKey     `json:"node"`
	Hash       blob.Digest `json:"hash"`
}

// hide is the hash of a commitment. All parts have a fixed length, so that no
// two different lists of them give the same bytes. The key is one of them: the
// hash of another node cannot be opened under one's own name.
func hide(t Ticket, node ed25519.PublicKey, receipt blob.Digest, secret [32]byte) blob.Digest {
	h := sha256.New()
	h.Write([]byte("phase-commit-v1"))
	h.Write(node)
	for _, d := range []blob.Digest{t.JobID, t.Plan, t.Submission, receipt} {
		sum := raw32(d)
		h.Write(sum[:])
	}
	h.Write(secret[:])
	return blob.FromSum([32]byte(h.Sum(nil)))
}

// Commit makes a node's commitment to its receipt, a file of package receipt.
// The secret is random and kept by the node until it opens the commitment; the
// same arguments give the same commitment.
func Commit(t Ticket, receipt []byte, secret [32]byte, key ed25519.PrivateKey) ([]byte, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("commit: not an Ed25519 private key")
	}
	node := key.Public().(ed25519.PublicKey)
	raw, err := seal(CommitmentType, wireCommitment{
		Version: Version, JobID: t.JobID, Plan: t.Plan, Submission: t.Submission,
		Node: wireKey(node), Hash: hide(t, node, blob.Of(receipt), secret),
	}, key, MaxCommitmentBytes)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return raw, nil
}

// OpenCommitment reads a commitment that node has signed.
func OpenCommitment(raw []byte, node ed25519.PublicKey) (Commitment, error) {
	c, err := openCommitment(raw, node)
	if err != nil {
		return Commitment{}, fmt.Errorf("commitment: %w", err)
	}
	return c, nil
}

func openCommitment(raw []byte, node ed25519.PublicKey) (Commitment, error) {
	var w wireCommitment
	digest, err := unseal(raw, CommitmentType, &w, node, MaxCommitmentBytes)
	switch {
	case err != nil:
		return Commitment{}, err
	case w.Version != Version:
		return Commitment{}, fail(ErrMalformed, "version %d is unknown", w.Version)
	case !node.Equal(ed25519.PublicKey(w.Node)):
		return Commitment{}, fail(ErrSignature, "it names %s", formatKey(ed25519.PublicKey(w.Node)))
	}
	if err := canonical(raw, MaxCommitmentBytes, envelopeDepth); err != nil {
		return Commitment{}, err
	}
	return Commitment{Ticket: Ticket{w.JobID, w.Plan, w.Submission}, Node: node, Hash: w.Hash, digest: digest, raw: raw}, nil
}
