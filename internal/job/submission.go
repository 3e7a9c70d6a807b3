package job

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
)

// A submission is what travels: a specification with who wants it run, by which
// node, until when. The submitter signs all of that as one DSSE payload. The
// specification is a member of it and keeps a name of its own, the job id, so
// that replicas of one job that were handed to several nodes in several
// envelopes give receipts that can be compared.
const (
	// SubmissionType is the payload type of the envelope.
	SubmissionType = "application/vnd.phase.job-submission+json"
	// SubmissionVersion is the only version this package understands.
	SubmissionVersion = 1
	// AnyNode is the audience of a submission for every node.
	AnyNode = "any"
	// MaxSubmissionBytes bounds the envelope: the payload in base64 and a rest.
	MaxSubmissionBytes = (MaxSpecBytes+4<<10)*4/3 + 8<<10
	// MinNonceBytes and MaxNonceBytes bound a submission's nonce.
	MinNonceBytes = 16
	// MaxValidity is how far ahead a submission may expire. A node remembers
	// nonces until then, so it bounds what the node has to keep.
	MaxValidity = 24 * time.Hour
	// clockSkew is how far the submitter's clock may be ahead of the node's.
	clockSkew = 5 * time.Minute
)

const keyPrefix = "ed25519:"

// FormatKey writes a public key as people and documents name it.
func FormatKey(key ed25519.PublicKey) string { return keyPrefix + hex.EncodeToString(key) }

// ParseKey reads "ed25519:" and 64 lower-case hexadecimal digits, and refuses
// keys under which signatures prove nothing (dsse.CheckKey).
func ParseKey(text string) (ed25519.PublicKey, error) {
	digits, ok := strings.CutPrefix(text, keyPrefix)
	key, err := hex.DecodeString(digits)
	if !ok || err != nil || hex.EncodeToString(key) != digits {
		return nil, fmt.Errorf("key %.80q is not of the form %s<64 lower-case hexadecimal digits>", text, keyPrefix)
	}
	return key, dsse.CheckKey(key)
}

// Submission is a checked submission.
type Submission struct {
	Job       *Job
	Submitter ed25519.PublicKey // who signed
	Expires   time.Time         // not to be accepted from then on
	Nonce     string            // used once by this submitter until Expires
	// Commit is the digest of the quorum's plan (package quorum) of which this is a
	// part: the node answers only a commitment to its receipt, until it is shown the
	// set of all commitments. Zero: the answer is the receipt.
	Commit blob.Digest
	Digest blob.Digest // of the envelope
	Any    bool        // for every node
}

type wireSubmission struct {
	Version  int64          `json:"version"`
	Spec     strictjson.Raw `json:"spec"`
	Audience string         `json:"audience"` // AnyNode or the node's key
	Expires  string         `json:"expires_at"`
	Nonce    string         `json:"nonce"`
	// Submitter repeats the key whose signature counts, so that the payload
	// says by itself who speaks: a stranger cannot sign it as their own.
	Submitter string `json:"submitter"`
	// Commit is left out of a submission that is for no quorum.
	Commit *blob.Digest `json:"commit,omitempty"`
}

// SignSubmission makes the envelope of j for audience, nil for any node, with a
// random nonce. expires is cut to seconds.
func SignSubmission(j *Job, audience ed25519.PublicKey, expires time.Time, key ed25519.PrivateKey) ([]byte, error) {
	return signSubmission(j, audience, expires, nil, key)
}

// SignReplica makes the envelope of j for one node of a quorum, with the digest
// of the quorum's plan. It has to name the node, or one node's envelope would
// serve another one as well.
func SignReplica(j *Job, plan blob.Digest, node ed25519.PublicKey, expires time.Time, key ed25519.PrivateKey) ([]byte, error) {
	switch {
	case node == nil || plan.IsZero():
		return nil, errors.New("sign submission: a replica of a quorum needs a node and a plan")
	case j.spec.Determinism != Strict:
		return nil, errRelaxed
	}
	return signSubmission(j, node, expires, &plan, key)
}

// errRelaxed refuses relaxed jobs in quorums.
var errRelaxed = &Refusal{Reason: Unsupported, Detail: "a job of relaxed determinism cannot be decided by a quorum: honest nodes may differ",
	Directions: "Submit it with strict determinism, or to one node."}

func signSubmission(j *Job, audience ed25519.PublicKey, expires time.Time, commit *blob.Digest, key ed25519.PrivateKey) ([]byte, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, errors.New("sign submission: not an Ed25519 private key")
	}
	w := wireSubmission{
		Version: SubmissionVersion, Spec: j.Payload(), Audience: AnyNode, Nonce: rand.Text(),
		Expires:   expires.UTC().Truncate(time.Second).Format(time.RFC3339),
		Submitter: FormatKey(key.Public().(ed25519.PublicKey)), Commit: commit,
	}
	if audience != nil {
		w.Audience = FormatKey(audience)
	}
	payload, err := strictjson.MarshalCanonical(w)
	if err != nil {
		return nil, fmt.Errorf("sign submission: %w", err)
	}
	return dsse.Envelope{
		PayloadType: SubmissionType, Payload: payload,
		Signatures: []dsse.Signature{dsse.Sign(SubmissionType, payload, key)},
	}.Marshal()
}

// Authority is what a submission is judged by.
type Authority struct {
	Node ed25519.PublicKey // the node that was asked
	// Submitters are the keys whose jobs it runs; nobody else's. Usually few.
	Submitters []ed25519.PublicKey
	Now        time.Time
}

// Open checks an envelope: signed by one of the submitters, for this node, not
// expired. Errors are *Refusal. Whether the nonce was used before is for the
// caller to remember. Nothing of the payload is looked at before the signature
// holds.
func (a Authority) Open(raw []byte) (*Submission, error) {
	if len(raw) > MaxSubmissionBytes {
		return nil, refuse(TooBig, "the submission is larger than %d bytes", MaxSubmissionBytes)
	}
	if len(a.Submitters) == 0 {
		return nil, refuse(Unauthorised, "this node runs nobody's signed jobs")
	}
	payload, signers, err := dsse.OpenSigned(raw, SubmissionType, MaxSubmissionBytes, a.Submitters, 1)
	switch {
	case errors.Is(err, dsse.ErrThreshold):
		return nil, refuse(Unauthorised, "the submission is not signed by anybody whose jobs this node runs")
	case err != nil:
		return nil, &Refusal{Reason: Malformed, Detail: "the submission is not valid", Err: err}
	}
	var w wireSubmission
	lim := strictjson.Limits{Bytes: MaxSubmissionBytes, Depth: 9, RejectUnknown: true, RejectNull: true}
	if err := strictjson.Unmarshal(payload, &w, lim); err != nil {
		return nil, &Refusal{Reason: Malformed, Detail: "the submission is not valid", Err: err}
	}
	return a.check(w, signers, raw)
}

// BroughtBy refuses a submission for any node that somebody else than its submitter
// brings over the network: each node that got it could bring it to all others, before
// the submitter does, and have their answers. One for a named node only that node got.
func (s *Submission) BroughtBy(by Caller) error {
	if s.Any && by.Key != nil && !by.Key.Equal(s.Submitter) {
		return &Refusal{Reason: Unauthorised, Detail: "the submission is for any node, and somebody else than its submitter brings it",
			Directions: "Name this node in the submission, or bring it to the node's job socket."}
	}
	return nil
}

// check judges a payload that the keys with the ids signers have signed.
func (a Authority) check(w wireSubmission, signers []string, raw []byte) (*Submission, error) {
	if w.Version != SubmissionVersion {
		return nil, refuse(Unsupported, "submission version %d is unknown, this node understands %d", w.Version, SubmissionVersion)
	}
	if w.Audience != AnyNode && w.Audience != FormatKey(a.Node) {
		return nil, refuse(Unauthorised, "the submission is for another node (%.80q)", w.Audience)
	}
	submitter, err := a.signer(w, signers)
	if err != nil {
		return nil, err
	}
	if len(w.Nonce) < MinNonceBytes || len(w.Nonce) > MaxNonceBytes || !plainText(w.Nonce) {
		return nil, refuse(Malformed, "the submission's nonce has not %d to %d bytes of text", MinNonceBytes, MaxNonceBytes)
	}
	expires, err := a.checkExpiry(w.Expires)
	if err != nil {
		return nil, err
	}
	j, err := Parse(w.Spec)
	if err != nil {
		return nil, err
	}
	sub := &Submission{Job: j, Submitter: submitter, Expires: expires, Nonce: w.Nonce, Digest: blob.Of(raw), Any: w.Audience == AnyNode}
	if w.Commit == nil {
		return sub, nil
	}
	switch sub.Commit = *w.Commit; {
	case w.Audience == AnyNode:
		return nil, refuse(Malformed, "the submission is a replica of a quorum, but for no node in particular")
	case j.spec.Determinism != Strict:
		return nil, errRelaxed
	}
	return sub, nil
}

// signer makes sure that the one whom the payload names has signed, and not
// just another one of those who may.
func (a Authority) signer(w wireSubmission, signers []string) (ed25519.PublicKey, error) {
	submitter, err := ParseKey(w.Submitter)
	if err != nil {
		return nil, &Refusal{Reason: Malformed, Detail: "the submission names no usable key", Err: err}
	}
	allowed := false
	for _, key := range a.Submitters {
		allowed = allowed || key.Equal(submitter)
	}
	switch {
	case !allowed:
		return nil, refuse(Unauthorised, "this node runs no jobs of %s", w.Submitter)
	case !slices.Contains(signers, dsse.KeyID(submitter)):
		return nil, refuse(Unauthorised, "the submission is signed by another key than it names")
	}
	return submitter, nil
}

func (a Authority) checkExpiry(text string) (time.Time, error) {
	expires, err := time.Parse("2006-01-02T15:04:05Z", text)
	if err != nil || expires.Format("2006-01-02T15:04:05Z") != text {
		return time.Time{}, refuse(Malformed, "expires_at %.40q is not of the form 2006-01-02T15:04:05Z", text)
	}
	if !a.Now.Before(expires) {
		return time.Time{}, refuse(Expired, "the submission was to be accepted before %s", text)
	}
	if expires.After(a.Now.Add(MaxValidity + clockSkew)) {
		r := refuse(TooBig, "the submission expires %s, more than %s ahead", text, MaxValidity)
		r.Directions = "Sign the job again with an earlier expiry, and check both clocks."
		return time.Time{}, r
	}
	return expires, nil
}
