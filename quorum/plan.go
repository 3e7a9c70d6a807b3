package quorum

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
)

// Plan is what a submitter lays down before it asks the first node. Every
// submission of the round names its digest, and every commitment repeats that:
// a rule cannot be changed after the results are known.
type Plan struct {
	JobID     blob.Digest
	Submitter ed25519.PublicKey
	// Nodes may be asked, in the order of Choose. Sign and Digest sort them.
	Nodes []Node
	// Replicas are run in a wave. Quorum have to agree: more than half of them, and at
	// least two.
	Replicas int
	Quorum   int
	// MaxNodes are asked at most, all waves together.
	MaxNodes int
	// CostTable is that by which fuel is counted: results by another cannot be compared.
	CostTable int64
	// Beacon is public randomness that nobody knew when the job was made; without
	// it, and with one that the submitter has made, the submitter chooses the nodes.
	Beacon []byte
	// Nonce makes two rounds of one job different: 16 to 128 bytes of printable text.
	Nonce string
}

// Node is a key that may vote.
type Node struct {
	Key ed25519.PublicKey
	// Operator is who runs it, as far as whoever says so knows; "" is an operator
	// of its own. Of one operator's nodes only one is asked, and one vote counts.
	Operator string
}

type wirePlan struct {
	JobID     blob.Digest       `json:"job_id"`
	Submitter wireKey           `json:"submitter"`
	Nodes     []wireNode        `json:"nodes"`
	Replicas  int64             `json:"replicas"`
	Quorum    int64             `json:"quorum"`
	MaxNodes  int64             `json:"max_nodes"`
	CostTable int64             `json:"cost_table"`
	Beacon    strictjson.Base64 `json:"beacon"`
	Nonce     string            `json:"nonce"`
}

type wireNode struct {
	Key      wireKey `json:"key"`
	Operator string  `json:"operator,omitempty"`
}

func (p Plan) wire() wirePlan {
	w := wirePlan{
		JobID: p.JobID, Submitter: wireKey(p.Submitter), Nodes: []wireNode{}, Replicas: int64(p.Replicas), Quorum: int64(p.Quorum),
		MaxNodes: int64(p.MaxNodes), CostTable: p.CostTable, Beacon: append(strictjson.Base64{}, p.Beacon...), Nonce: p.Nonce,
	}
	for _, n := range sortedNodes(p.Nodes) {
		w.Nodes = append(w.Nodes, wireNode{wireKey(n.Key), n.Operator})
	}
	return w
}

func (w wirePlan) plan() Plan {
	p := Plan{
		JobID: w.JobID, Submitter: ed25519.PublicKey(w.Submitter), Replicas: int(w.Replicas), Quorum: int(w.Quorum),
		MaxNodes: int(w.MaxNodes), CostTable: w.CostTable, Beacon: w.Beacon, Nonce: w.Nonce,
	}
	for _, n := range w.Nodes {
		p.Nodes = append(p.Nodes, Node{ed25519.PublicKey(n.Key), n.Operator})
	}
	return p
}

func sortedNodes(nodes []Node) []Node {
	return slices.SortedFunc(slices.Values(nodes), func(a, b Node) int { return bytes.Compare(a.Key, b.Key) })
}

// Digest names the plan: the SHA-256 of its canonical form. It is what a
// submission's commit member holds. Errors are ErrPlan.
func (p Plan) Digest() (blob.Digest, error) {
	if err := p.check(); err != nil {
		return blob.Digest{}, err
	}
	payload, err := strictjson.MarshalCanonical(p.wire())
	if err != nil {
		return blob.Digest{}, fail(ErrPlan, "%w", err)
	}
	return blob.Of(payload), nil
}

// check refuses plans under which agreement would mean nothing.
func (p Plan) check() error {
	switch {
	case p.JobID.IsZero():
		return fail(ErrPlan, "no job")
	case p.Replicas > p.MaxNodes:
		return fail(ErrPlan, "%d replicas of at most %d nodes", p.Replicas, p.MaxNodes)
	case p.MaxNodes > MaxNodes:
		return fail(ErrPlan, "up to %d nodes, at most %d are allowed", p.MaxNodes, MaxNodes)
	case p.Quorum < 2 || p.Quorum > p.Replicas || 2*p.Quorum <= p.Replicas:
		return fail(ErrPlan, "a quorum of %d of %d replicas", p.Quorum, p.Replicas)
	case p.CostTable < 1 || p.CostTable > strictjson.MaxInt:
		return fail(ErrPlan, "cost table %d", p.CostTable)
	case len(p.Beacon) > MaxBeaconBytes:
		return fail(ErrPlan, "a beacon of %d bytes, at most %d are allowed", len(p.Beacon), MaxBeaconBytes)
	case len(p.Nonce) < MinNonceBytes || !plain(p.Nonce, MaxNonceBytes):
		return fail(ErrPlan, "the nonce has not %d to %d bytes of text", MinNonceBytes, MaxNonceBytes)
	}
	if err := dsse.CheckKey(p.Submitter); err != nil {
		return fail(ErrPlan, "submitter: %w", err)
	}
	return p.checkNodes()
}

func (p Plan) checkNodes() error {
	if len(p.Nodes) < p.Quorum || len(p.Nodes) > MaxCandidates {
		return fail(ErrPlan, "%d nodes, want %d to %d", len(p.Nodes), p.Quorum, MaxCandidates)
	}
	seen := map[string]bool{}
	for _, n := range p.Nodes {
		if err := dsse.CheckKey(n.Key); err != nil {
			return fail(ErrPlan, "node: %w", err)
		}
		if seen[string(n.Key)] {
			return fail(ErrPlan, "node %s twice", formatKey(n.Key))
		}
		seen[string(n.Key)] = true
		if !plain(n.Operator, MaxOperatorBytes) {
			return fail(ErrPlan, "the operator of %s is not at most %d bytes of text", formatKey(n.Key), MaxOperatorBytes)
		}
	}
	return nil
}

// plain reports whether s is printable text of at most most bytes.
func plain(s string, most int) bool {
	if len(s) > most || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// Order is the order in which the plan's nodes are asked.
func (p Plan) Order() []Node { return Choose(p.JobID, p.Beacon, p.Nodes) }

func (p Plan) node(key ed25519.PublicKey) (Node, bool) {
	i := slices.IndexFunc(p.Nodes, func(n Node) bool { return n.Key.Equal(key) })
	if i < 0 {
		return Node{}, false
	}
	return p.Nodes[i], true
}

// Choose orders nodes by how near they are to a job: by the exclusive or of
// SHA-256(job id ‖ beacon) with SHA-256(key), smallest first. Of each operator
// only the nearest is there. The order is the same whoever works it out.
func Choose(jobID blob.Digest, beacon []byte, nodes []Node) []Node {
	id := raw32(jobID)
	target := sha256.Sum256(append(id[:], beacon...))
	distance := func(n Node) (d [32]byte) {
		at := sha256.Sum256(n.Key)
		for i := range d {
			d[i] = at[i] ^ target[i]
		}
		return d
	}
	order := slices.SortedFunc(slices.Values(nodes), func(a, b Node) int {
		da, db := distance(a), distance(b)
		return bytes.Compare(da[:], db[:])
	})
	seen := map[string]bool{}
	return slices.DeleteFunc(order, func(n Node) bool {
		who := n.voter()
		again := seen[who]
		seen[who] = true
		return again
	})
}

// voter is whose vote the node's is.
func (n Node) voter() string {
	if n.Operator != "" {
		return "operator " + n.Operator
	}
	return "key " + string(n.Key)
}
