package quorum

import (
	"crypto/ed25519"
	"fmt"
	"slices"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/receipt"
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
	Why  string // for a person, at most 200 bytes; the submitter's word
}

// Wave is what came of asking some nodes at once. The nodes of all waves
// together are those that come first in Plan.Order.
type Wave struct {
	// Set is SignSet's. The last wave but the first may have none: then all nodes
	// that were asked in it were silent.
	Set     []byte
	Silent  []Silence
	Reveals []Reveal // each has passed Set.Check
}

// Fate is what became of a node that was asked.
type Fate string

// The fates. Agreed, Dissented, Voted, NoVote and Misopened are proven by what
// the node has signed, Copied by two commitments; Stalled and Silent are the
// submitter's word.
const (
	Agreed    Fate = "agreed"    // its receipt has the result that was agreed on
	Dissented Fate = "dissented" // its receipt has another result
	Voted     Fate = "voted"     // its receipt has a result, and there is no agreement
	NoVote    Fate = "no_vote"   // its receipt has a result on which honest nodes may differ
	Copied    Fate = "copied"    // it could not open its commitment, whose hash another node has made
	Misopened Fate = "misopened" // it opened its commitment to what does not fit, or is no receipt of this job
	Stalled   Fate = "stalled"   // it committed itself, and opened nothing
	Silent    Fate = "silent"    // it did not commit itself in time
)

// Standing is a node that was asked, and what became of it.
type Standing struct {
	Node   ed25519.PublicKey
	Wave   int
	Fate   Fate
	Result blob.Digest // of Agreed, Dissented and Voted; else zero
	Why    string      // for a person
}

// Outcome is what a round has come to so far.
type Outcome struct {
	// Result is the digest of the result that is agreed on (receipt.Result.Digest):
	// at least the plan's quorum and more than half of all votes. Zero: none is.
	Result blob.Digest
	Votes  int // of the largest group
	Cast   int // votes for any result
	Nodes  []Standing
	// More is how many nodes are to be asked now, as the results so far decide
	// nothing. 0: there is agreement, or the nodes that are left cannot make one.
	More int
}

// Decided reports whether there is agreement.
func (o *Outcome) Decided() bool { return !o.Result.IsZero() }

// Check says whether a node's answer to s may go into a wave: the node has signed
// the opening of its commitment in s, to s. Whether it opens it is for Tally. A
// node whose answer does not pass has opened nothing.
func (s *Set) Check(r Reveal) error {
	if err := s.check(r); err != nil {
		return fmt.Errorf("answer of %s: %w", formatKey(r.Node), err)
	}
	return nil
}

func (s *Set) check(r Reveal) error {
	c, ok := s.Of(r.Node)
	if !ok {
		return fail(ErrSet, "it has no commitment in the set")
	}
	o, err := ReadOpening(r.Opening, r.Node)
	if err != nil {
		return err
	}
	if o.Plan != s.plan || o.Set != s.digest || o.Commitment != c.digest {
		return fail(ErrRound, "it opens a commitment to another set")
	}
	if o.Receipt != blob.Of(r.Receipt) {
		return fail(ErrRound, "the receipt beside the opening is not the one in it")
	}
	return canonical(r.Receipt, receipt.MaxBytes, envelopeDepth)
}

// count is a tally in the making.
type count struct {
	plan   Plan
	digest blob.Digest
	order  []Node
	hashOf map[string]blob.Digest // the hash of each node's commitment
	opened map[blob.Digest]bool   // the hashes that somebody has opened
	last   *Set
	Outcome
	results map[blob.Digest]receipt.Statement // one of each
}

// Tally works out what the waves of a round have come to. It takes nobody's
// word: all documents in them are checked, under the keys of the plan.
func Tally(p Plan, waves []Wave) (*Outcome, error) {
	c, err := tally(p, waves)
	if err != nil {
		return nil, fmt.Errorf("tally: %w", err)
	}
	return &c.Outcome, nil
}

func tally(p Plan, waves []Wave) (*count, error) {
	digest, err := p.Digest()
	if err != nil {
		return nil, err
	}
	c := &count{plan: p, digest: digest, order: p.Order(), hashOf: map[string]blob.Digest{}, opened: map[blob.Digest]bool{},
		results: map[blob.Digest]receipt.Statement{}}
	if len(waves) < 1 || len(waves) > MaxNodes {
		return nil, fail(ErrMalformed, "%d waves", len(waves))
	}
	for i, w := range waves {
		if i > 0 && c.More == 0 {
			return nil, fail(ErrOutcome, "wave %d was not called for", i+1)
		}
		if err := c.wave(i+1, w, i == len(waves)-1); err != nil {
			return nil, fmt.Errorf("wave %d: %w", i+1, err)
		}
	}
	return c, nil
}

// wave adds one wave and decides anew.
func (c *count) wave(number int, w Wave, last bool) error {
	set := &Set{}
	if len(w.Set) == 0 {
		if number == 1 || !last || len(w.Reveals) > 0 || len(w.Silent) == 0 {
			return fail(ErrSet, "there is none")
		}
	} else if err := c.readSet(number, w.Set, &set); err != nil {
		return err
	}
	answers := map[string]Reveal{}
	for _, r := range w.Reveals {
		if err := set.Check(r); err != nil {
			return err
		}
		if _, twice := answers[string(r.Node)]; twice {
			return fail(ErrMalformed, "two answers of %s", formatKey(r.Node))
		}
		answers[string(r.Node)] = r
	}
	for _, commitment := range set.Commitments {
		c.hashOf[string(commitment.Node)] = commitment.Hash
		c.Nodes = append(c.Nodes, c.stand(number, commitment, answers))
	}
	for _, s := range w.Silent {
		if !plain(s.Why, MaxWhyBytes) {
			return fail(ErrMalformed, "why %s is silent is not at most %d bytes of text", formatKey(s.Node), MaxWhyBytes)
		}
		c.Nodes = append(c.Nodes, Standing{Node: s.Node, Wave: number, Fate: Silent, Why: s.Why})
	}
	if err := c.inOrder(); err != nil {
		return err
	}
	c.decide()
	return nil
}

func (c *count) readSet(number int, raw []byte, set **Set) error {
	s, err := OpenSet(raw, c.plan.Submitter)
	if err != nil {
		return err
	}
	var before blob.Digest
	if c.last != nil {
		before = c.last.digest
	}
	if s.plan != c.digest || s.Wave != number || s.Previous != before {
		return fail(ErrRound, "the set is of wave %d of plan %s", s.Wave, s.plan)
	}
	*set, c.last = s, s
	return nil
}

// inOrder puts the nodes that were asked into the order of choice, and makes
// sure that nobody was passed over.
func (c *count) inOrder() error {
	if len(c.Nodes) > min(c.plan.MaxNodes, len(c.order)) {
		return fail(ErrSet, "%d nodes were asked, the plan allows %d", len(c.Nodes), min(c.plan.MaxNodes, len(c.order)))
	}
	for i, node := range c.order[:len(c.Nodes)] {
		at := slices.IndexFunc(c.Nodes[i:], func(s Standing) bool { return s.Node.Equal(node.Key) })
		if at < 0 {
			return fail(ErrSet, "%s was passed over, or another node was asked twice", formatKey(node.Key))
		}
		c.Nodes[i], c.Nodes[i+at] = c.Nodes[i+at], c.Nodes[i]
	}
	return nil
}

// stand says what became of a node that has committed itself.
func (c *count) stand(wave int, commitment Commitment, answers map[string]Reveal) Standing {
	s := Standing{Node: commitment.Node, Wave: wave, Fate: Stalled}
	r, answered := answers[string(s.Node)]
	if answered {
		o, _ := ReadOpening(r.Opening, r.Node) // Check has read it
		s.Fate, s.Result, s.Why = c.vote(commitment, o, r.Receipt)
		c.opened[commitment.Hash] = c.opened[commitment.Hash] || s.Fate != Misopened
	}
	return s
}

// vote judges a receipt that a node has opened its commitment to.
func (c *count) vote(commitment Commitment, o Opening, raw []byte) (Fate, blob.Digest, string) {
	if !o.opens(commitment) {
		return Misopened, blob.Digest{}, "the opening does not fit the commitment"
	}
	verdict, s, err := receipt.Judge(raw, receipt.Expectation{NodeKey: commitment.Node})
	switch {
	case verdict == receipt.Unverifiable:
		return NoVote, blob.Digest{}, clip(err.Error())
	case err != nil:
		return Misopened, blob.Digest{}, clip(err.Error())
	case s.Result.JobID != c.plan.JobID:
		return Misopened, blob.Digest{}, "the receipt is of another job"
	case !c.plan.Submitter.Equal(s.Observation.Submitter):
		return Misopened, blob.Digest{}, "the receipt names another submitter"
	case s.Result.Fuel.CostTable != c.plan.CostTable:
		return NoVote, blob.Digest{}, fmt.Sprintf("fuel by cost table %d, not %d", s.Result.Fuel.CostTable, c.plan.CostTable)
	}
	if why := incomparable(s.Result); why != "" {
		return NoVote, blob.Digest{}, why
	}
	digest, err := s.Result.Digest()
	if err != nil {
		return Misopened, blob.Digest{}, clip(err.Error()) // cannot happen: it was verified
	}
	c.results[digest] = s
	return Voted, digest, ""
}

// incomparable says why honest nodes may differ on a result; "" if they may not.
func incomparable(r receipt.Result) string {
	if r.Determinism != receipt.Strict {
		return "of a job whose determinism is not strict"
	}
	switch r.EndState {
	case receipt.Exited, receipt.Trapped, receipt.OutOfFuel, receipt.OutputCap:
		return ""
	case receipt.OutOfMemory:
		if r.Fuel.Used > 0 {
			return ""
		}
		return "the node ended it for its own memory" // and not the guest's
	case receipt.Deadline:
		return "ended by the clock"
	default:
		return "ended by the node"
	}
}

// decide looks for agreement and gives the nodes their fates.
func (c *count) decide() {
	groups := map[blob.Digest]int{}
	c.Votes, c.Cast, c.Result, c.More = 0, 0, blob.Digest{}, 0
	var largest blob.Digest
	for _, s := range c.Nodes {
		if s.Result.IsZero() {
			continue
		}
		c.Cast++
		groups[s.Result]++
		if groups[s.Result] > c.Votes {
			largest, c.Votes = s.Result, groups[s.Result]
		}
	}
	if c.Votes >= c.plan.Quorum && 2*c.Votes > c.Cast {
		c.Result = largest
	} else {
		left := min(c.plan.MaxNodes, len(c.order)) - len(c.Nodes)
		if more := max(c.plan.Quorum-c.Votes, c.Cast-2*c.Votes+1); more <= left {
			c.More = more
		}
	}
	for i := range c.Nodes {
		c.Nodes[i].Fate = c.fate(c.Nodes[i])
	}
}

func (c *count) fate(s Standing) Fate {
	switch {
	case s.Result.IsZero() && (s.Fate == Stalled || s.Fate == Misopened) && c.copied(s.Node):
		return Copied
	case s.Result.IsZero():
		return s.Fate
	case c.Result.IsZero():
		return Voted
	case s.Result == c.Result:
		return Agreed
	}
	return Dissented
}

// copied reports whether a node that did not open its commitment has another
// one's hash in it: that of a node which has opened it, or nobody knows who was
// first.
func (c *count) copied(node ed25519.PublicKey) bool { return c.opened[c.hashOf[string(node)]] }

// clip bounds a text for a statement.
func clip(text string) string {
	var b []byte
	for _, r := range text {
		if len(b) >= MaxWhyBytes-4 {
			break
		}
		if plain(string(r), 4) {
			b = append(b, string(r)...)
		}
	}
	return string(b)
}
