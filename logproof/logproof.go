// Package logproof verifies, offline, that a document was entered in a public
// append-only log and that independent witnesses saw the log grow honestly.
//
// A signature says who made a document. A log proof adds that the document
// cannot be kept secret: whoever watches the log sees it, so a copy made for
// one victim alone leaves a trace. It proves neither that the content is good
// nor that anybody looked; it adds to signatures and never replaces them.
//
// Trust comes from a [Policy] that the verifier already holds: the keys of the
// logs, the keys of the witnesses and the rule which of them must have signed.
// Nothing inside a proof is trusted before the signatures over its checkpoint
// were checked. A log that signs two different histories deceives a verifier
// only if a whole quorum of witnesses helps it; under "quorum none" the log
// alone is believed, and a monitor has to compare what the world sees.
//
// The formats are those of C2SP: tlog-policy, tlog-proof@v1, tlog-checkpoint,
// signed-note, tlog-cosignature (Ed25519, "cosignature/v1"); Merkle trees are
// those of RFC 6962. Where this package is stricter than they are, the comment
// on the function says so. It opens no file, asks no clock and no network, and
// keeps no state; all functions may be called concurrently.
package logproof

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Limits on what is read. They bound time and memory: the longest proof costs
// one Ed25519 verification for each known key and 63 hashes.
const (
	MaxPolicySize = 16 << 10 // bytes of a policy
	MaxProofSize  = 16 << 10 // bytes of a proof
	MaxTreeSize   = 1 << 62  // entries of a log
)

// Why a policy or a proof was refused. Every error of this package wraps one.
var (
	// ErrPolicy: the text is not a policy, or one that cannot be used.
	ErrPolicy = errors.New("log policy refused")
	// ErrMalformed: the bytes are not a log proof.
	ErrMalformed = errors.New("malformed log proof")
	// ErrLogKey: no log of the policy signed the checkpoint under its origin.
	ErrLogKey = errors.New("checkpoint is not signed by a log of the policy")
	// ErrSignature: a signature in the name of a known key is not its own.
	ErrSignature = errors.New("invalid signature on the checkpoint")
	// ErrInclusion: the checkpoint's log does not hold this entry at this index.
	ErrInclusion = errors.New("entry is not in the log")
	// ErrQuorum: too few witnesses, or the wrong ones, cosigned the checkpoint.
	ErrQuorum = errors.New("not enough witnesses cosigned the checkpoint")
)

// Logged is what a proof has shown about an entry.
type Logged struct {
	Origin    string    // name of the log
	Index     int64     // place of the entry, from 0
	Size      int64     // entries in the log as the checkpoint has it
	Witnesses []string  // policy names of the witnesses that cosigned, in policy order
	At        time.Time // latest cosignature, as that witness claims it; zero without any
}

// Verify reports where and before whom entry was logged, or refuses with an
// error that wraps ErrMalformed, ErrLogKey, ErrSignature, ErrInclusion,
// ErrQuorum or (a nil policy) ErrPolicy. It fails closed.
//
// proof is a c2sp.org/tlog-proof@v1 of at most MaxProofSize bytes; its extra
// data is not authenticated and is ignored, as are extension lines of the
// checkpoint and signatures by unknown keys. Stricter than the specifications:
// base64 must be canonical in everything but signatures, trees have at most
// MaxTreeSize entries, cosignatures are dated after 1970 and before 10000.
// The time of cosigning is reported and decides nothing.
func (p *Policy) Verify(proof, entry []byte) (Logged, error) {
	if p == nil {
		return Logged{}, fmt.Errorf("%w: there is none", ErrPolicy)
	}
	parsed, err := parseProof(proof)
	if err != nil {
		return Logged{}, err
	}
	signed, err := p.open(parsed.checkpoint)
	if err != nil {
		return Logged{}, err
	}
	tree := signed.checkpoint
	err = tlog.CheckRecord(parsed.hashes, tree.Size, tree.Root, parsed.index, tlog.RecordHash(entry))
	if err != nil {
		return Logged{}, fmt.Errorf("%w: index %d, log %q of size %d", ErrInclusion, parsed.index, tree.Origin, tree.Size)
	}
	if err := p.checkQuorum(signed); err != nil {
		return Logged{}, err
	}
	logged := Logged{Origin: tree.Origin, Index: parsed.index, Size: tree.Size, At: signed.latest}
	for i, w := range p.witnesses {
		if signed.cosigned[i] {
			logged.Witnesses = append(logged.Witnesses, w.label)
		}
	}
	return logged, nil
}
