package quorum

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/receipt"
)

type wireStatement struct {
	Type          string        `json:"_type"`
	Subject       []wireSubject `json:"subject"`
	PredicateType string        `json:"predicateType"`
	Predicate     wirePredicate `json:"predicate"`
}

type wireSubject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

type wirePredicate struct {
	Plan    wirePlan    `json:"plan"`
	Waves   []wireWave  `json:"waves"`
	Outcome wireOutcome `json:"outcome"`
}

type wireWave struct {
	Set     strictjson.Raw `json:"set,omitempty"`
	Silent  []wireSilence  `json:"silent"`
	Reveals []wireReveal   `json:"reveals"`
}

type wireSilence struct {
	Node wireKey `json:"node"`
	Why  string  `json:"why"`
}

type wireReveal struct {
	Node    wireKey        `json:"node"`
	Receipt strictjson.Raw `json:"receipt"`
	Opening strictjson.Raw `json:"opening"`
}

type wireOutcome struct {
	Result *blob.Digest   `json:"result,omitempty"`
	Votes  int64          `json:"votes"`
	Cast   int64          `json:"cast"`
	Nodes  []wireStanding `json:"nodes"`
}

type wireStanding struct {
	Node   wireKey      `json:"node"`
	Wave   int64        `json:"wave"`
	Fate   Fate         `json:"fate"`
	Result *blob.Digest `json:"result,omitempty"`
	Why    string       `json:"why"`
}

func wireWaves(waves []Wave) []wireWave {
	list := []wireWave{}
	for _, w := range waves {
		to := wireWave{Set: w.Set, Silent: []wireSilence{}, Reveals: []wireReveal{}}
		for _, s := range w.Silent {
			to.Silent = append(to.Silent, wireSilence{wireKey(s.Node), s.Why})
		}
		for _, r := range w.Reveals {
			to.Reveals = append(to.Reveals, wireReveal{wireKey(r.Node), r.Receipt, r.Opening})
		}
		list = append(list, to)
	}
	return list
}

func (p wirePredicate) waves() (list []Wave) {
	for _, w := range p.Waves {
		to := Wave{Set: w.Set}
		for _, s := range w.Silent {
			to.Silent = append(to.Silent, Silence{ed25519.PublicKey(s.Node), s.Why})
		}
		for _, r := range w.Reveals {
			to.Reveals = append(to.Reveals, Reveal{ed25519.PublicKey(r.Node), r.Receipt, r.Opening})
		}
		list = append(list, to)
	}
	return list
}

// statement is what the tally says, all of it derived.
func (c *count) statement(waves []Wave) wireStatement {
	out := wireOutcome{Votes: int64(c.Votes), Cast: int64(c.Cast), Nodes: []wireStanding{}}
	subject := []wireSubject{{"job", map[string]string{"sha256": c.plan.JobID.Hex()}}}
	if c.Decided() {
		out.Result = &c.Result
		r := c.results[c.Result].Result
		subject = append(subject,
			wireSubject{"stdout", map[string]string{"sha256": r.Stdout.Digest.Hex()}},
			wireSubject{"stderr", map[string]string{"sha256": r.Stderr.Digest.Hex()}})
	}
	for _, s := range c.Nodes {
		w := wireStanding{Node: wireKey(s.Node), Wave: int64(s.Wave), Fate: s.Fate, Why: s.Why}
		if !s.Result.IsZero() {
			w.Result = &s.Result
		}
		out.Nodes = append(out.Nodes, w)
	}
	return wireStatement{
		Type: StatementType, Subject: subject, PredicateType: PredicateType,
		Predicate: wirePredicate{c.plan.wire(), wireWaves(waves), out},
	}
}

// Sign makes the statement of a round: the outcome and all that it follows from.
// key is the submitter's. A round without agreement has a statement, too.
func Sign(p Plan, waves []Wave, key ed25519.PrivateKey) ([]byte, error) {
	c, err := tally(p, waves)
	if err != nil {
		return nil, fmt.Errorf("sign quorum statement: %w", err)
	}
	if !p.Submitter.Equal(key.Public()) {
		return nil, fmt.Errorf("sign quorum statement: %w", fail(ErrSignature, "the plan names the submitter %s", formatKey(p.Submitter)))
	}
	raw, err := seal(StatementPayload, c.statement(waves), key, MaxStatementBytes)
	if err != nil {
		return nil, fmt.Errorf("sign quorum statement: %w", err)
	}
	return raw, nil
}

// Expectation is what a verifier knows without the statement.
type Expectation struct {
	// Nodes are those whose votes count for this verifier, and who runs them. The
	// plan's own list is the submitter's, who can make keys by the dozen.
	Nodes []Node
	// Votes is how many of them have to agree; 0 takes the plan's quorum.
	Votes int
	// What is nil or zero is not compared.
	JobID     blob.Digest
	Submitter ed25519.PublicKey
	Stdout    blob.Digest // of what was received as the job's output
	Stderr    blob.Digest
}

// Verified is a statement that holds: everything in it follows from documents
// that those have signed whom it names.
type Verified struct {
	Plan    Plan
	Waves   []Wave
	Outcome Outcome
	// Result is what the nodes agree on; only there if Outcome.Decided.
	Result receipt.Result
	Known  int // votes for it that count for the verifier
}

// Verify checks a statement from scratch. With ErrUndecided and ErrTooFew the
// statement holds, but no result follows from it: Verified is there for who
// wants to see what the nodes said. With any other error it is nil.
func Verify(raw []byte, want Expectation) (*Verified, error) {
	v, err := verify(raw, want)
	if err != nil {
		return v, fmt.Errorf("quorum statement: %w", err)
	}
	return v, nil
}

// Judge is Verify as a verdict on the result: Unverifiable is a statement that
// holds and does not show this verifier that enough of its nodes agree.
func Judge(raw []byte, want Expectation) (receipt.Verdict, *Verified, error) {
	v, err := Verify(raw, want)
	switch {
	case err == nil:
		return receipt.Accept, v, nil
	case errors.Is(err, ErrUndecided), errors.Is(err, ErrTooFew):
		return receipt.Unverifiable, v, err
	}
	return receipt.Reject, nil, err
}

func verify(raw []byte, want Expectation) (*Verified, error) {
	var head wireStatement
	if err := peek(raw, &head, MaxStatementBytes); err != nil {
		return nil, err
	}
	var w wireStatement
	if _, err := unseal(raw, StatementPayload, &w, ed25519.PublicKey(head.Predicate.Plan.Submitter), MaxStatementBytes); err != nil {
		return nil, err
	}
	if w.Type != StatementType || w.PredicateType != PredicateType {
		return nil, fail(ErrMalformed, "statement %.80q with predicate %.80q", w.Type, w.PredicateType)
	}
	v := &Verified{Plan: w.Predicate.Plan.plan(), Waves: w.Predicate.waves()}
	c, err := tally(v.Plan, v.Waves)
	if err != nil {
		return nil, err
	}
	if err := sameOutcome(w, c.statement(v.Waves)); err != nil {
		return nil, err
	}
	v.Outcome, v.Result = c.Outcome, c.results[c.Result].Result
	if err := v.compare(want); err != nil {
		return nil, err
	}
	return v, v.count(want)
}

// sameOutcome compares what a statement says with what follows from it. Why a node
// has no vote is said in the words of whoever made the statement, a version or a
// program that may have others than these: they are for people, and not compared.
func sameOutcome(says, follows wireStatement) error {
	nodes := follows.Predicate.Outcome.Nodes
	for i, said := range says.Predicate.Outcome.Nodes[:min(len(nodes), len(says.Predicate.Outcome.Nodes))] {
		if f := nodes[i].Fate; f != NoVote && f != Misopened && f != Copied {
			continue
		}
		if !plain(said.Why, MaxWhyBytes) {
			return fail(ErrMalformed, "why %s has no vote is not at most %d bytes of text", formatKey(ed25519.PublicKey(said.Node)), MaxWhyBytes)
		}
		nodes[i].Why = said.Why
	}
	a, err := strictjson.MarshalCanonical(says)
	if err != nil {
		return fail(ErrMalformed, "%w", err)
	}
	b, err := strictjson.MarshalCanonical(follows)
	if err != nil {
		return fail(ErrMalformed, "%w", err)
	}
	if !bytes.Equal(a, b) {
		return ErrOutcome
	}
	return nil
}

func (v *Verified) compare(want Expectation) error {
	r := v.Result
	switch {
	case !want.JobID.IsZero() && v.Plan.JobID != want.JobID:
		return fail(ErrExpected, "job %s, expected %s", v.Plan.JobID, want.JobID)
	case want.Submitter != nil && !want.Submitter.Equal(v.Plan.Submitter):
		return fail(ErrExpected, "submitter %s, expected %s", formatKey(v.Plan.Submitter), formatKey(want.Submitter))
	case v.Outcome.Decided() && !want.Stdout.IsZero() && want.Stdout != r.Stdout.Digest:
		return fmt.Errorf("%w: they say %s on stdout, not %s", receipt.ErrOutput, r.Stdout.Digest, want.Stdout)
	case v.Outcome.Decided() && !want.Stderr.IsZero() && want.Stderr != r.Stderr.Digest:
		return fmt.Errorf("%w: they say %s on stderr, not %s", receipt.ErrOutput, r.Stderr.Digest, want.Stderr)
	}
	return nil
}

// count counts the votes of those whom the verifier believes in, one for each
// operator, and wants most of those to agree as well.
func (v *Verified) count(want Expectation) error {
	agreed, others := map[string]bool{}, map[string]bool{}
	for _, s := range v.Outcome.Nodes {
		for _, n := range want.Nodes {
			switch {
			case !n.Key.Equal(s.Node):
			case s.Fate == Agreed:
				agreed[n.voter()] = true
			case s.Fate == Dissented:
				others[n.voter()] = true
			}
		}
	}
	v.Known = len(agreed)
	needed := want.Votes
	if needed < 1 {
		needed = v.Plan.Quorum
	}
	switch {
	case !v.Outcome.Decided():
		return fail(ErrUndecided, "%d votes, %d for one result, %d are needed", v.Outcome.Cast, v.Outcome.Votes, v.Plan.Quorum)
	case v.Known < needed:
		return fail(ErrTooFew, "%d of the %d that are needed", v.Known, needed)
	case len(others) >= v.Known:
		return fail(ErrTooFew, "%d agree, %d do not", v.Known, len(others))
	}
	return nil
}
