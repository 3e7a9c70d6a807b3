package logproof

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Limits on a policy, those every implementation is asked to reach.
const (
	maxLogs      = 32
	maxWitnesses = 32
	maxGroups    = 32
)

// noQuorum is the predefined name that asks for no witness.
const noQuorum = "none"

// Policy says which logs are believed and which witnesses must have cosigned.
// It is immutable. The nil and the zero Policy accept nothing.
type Policy struct {
	logs      []*Key
	witnesses []witness
	quorum    *member // nil: none is asked for
}

// witness is a key under the name that the policy gives it.
type witness struct {
	label string
	*Key
}

// member is a node in the tree of groups: a witness or a group.
type member struct {
	witness int // index in Policy.witnesses, for a leaf
	need    int // members that must be content, for a group; 0 for a leaf
	members []*member
	grouped bool // belongs to a group already
}

// Origins are the names of the logs, in the policy's order.
func (p *Policy) Origins() []string {
	if p == nil {
		return nil
	}
	var origins []string
	for _, k := range p.logs {
		origins = append(origins, k.Name())
	}
	return slices.Compact(origins)
}

// keyring shows the keys of a policy to package note.
type keyring struct{ *Policy }

// Verifier implements note.Verifiers.
func (r keyring) Verifier(name string, hash uint32) (note.Verifier, error) {
	id := keyID{name, hash}
	if k, ok := r.findLog(id); ok {
		return k, nil
	}
	if i, ok := r.findWitness(id); ok {
		return r.witnesses[i].Key, nil
	}
	return nil, &note.UnknownVerifierError{Name: name, KeyHash: hash}
}

func (p *Policy) findLog(id keyID) (*Key, bool) {
	for _, k := range p.logs {
		if k.id == id {
			return k, true
		}
	}
	return nil, false
}

func (p *Policy) findWitness(id keyID) (int, bool) {
	i := slices.IndexFunc(p.witnesses, func(w witness) bool { return w.id == id })
	return i, i >= 0
}

// checkQuorum asks whether the witnesses that cosigned satisfy the policy.
func (p *Policy) checkQuorum(signed *signedCheckpoint) error {
	if p.quorum == nil || p.quorum.content(signed.cosigned) {
		return nil
	}
	known := 0
	for _, yes := range signed.cosigned {
		if yes {
			known++
		}
	}
	return fmt.Errorf("%w: %d of the %d witnesses of the policy did", ErrQuorum, known, len(p.witnesses))
}

// content reports whether m has witnessed. Every member belongs to one group
// at most, so this visits each once.
func (m *member) content(cosigned []bool) bool {
	if m.need == 0 {
		return cosigned[m.witness]
	}
	count := 0
	for _, each := range m.members {
		if each.content(cosigned) {
			count++
		}
	}
	return count >= m.need
}

// ParsePolicy reads a C2SP tlog-policy of at most MaxPolicySize bytes. Errors
// wrap ErrPolicy and name the line.
//
// Stricter than the specification: there is at least one log, its key is of
// type LogKey, the witnesses' keys are of type WitnessKey, no key is both a
// log's and a witness's, keys are written in the one form of Key.String, and
// weak keys are refused. At most 32 logs, 32 witnesses and 32 groups. URLs are
// not read.
func ParsePolicy(raw []byte) (*Policy, error) {
	if len(raw) > MaxPolicySize {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrPolicy, len(raw), MaxPolicySize)
	}
	parser := policyParser{policy: &Policy{}, names: map[string]*member{}}
	for number := 1; len(raw) > 0; number++ {
		line, rest, ended := bytes.Cut(raw, []byte("\n"))
		if !ended {
			return nil, fmt.Errorf("%w: line %d has no newline at its end", ErrPolicy, number)
		}
		if err := parser.line(string(line)); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrPolicy, number, err)
		}
		raw = rest
	}
	switch {
	case !parser.quorate:
		return nil, fmt.Errorf("%w: no quorum line", ErrPolicy)
	case len(parser.policy.logs) == 0:
		return nil, fmt.Errorf("%w: no log line", ErrPolicy)
	}
	return parser.policy, nil
}

// policyParser holds what the lines read so far have defined.
type policyParser struct {
	policy  *Policy
	names   map[string]*member // of witnesses and groups
	groups  int
	quorate bool // the quorum line was read
}

func (p *policyParser) line(line string) error {
	for i := range len(line) {
		if c := line[i]; c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("control character 0x%02x", c)
		}
	}
	// Space and tab only: other spaces of Unicode belong to names.
	items := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
	if len(items) == 0 || strings.HasPrefix(items[0], "#") {
		return nil
	}
	switch keyword, items := items[0], items[1:]; keyword {
	case "log":
		return p.log(items)
	case "witness":
		return p.witness(items)
	case "group":
		return p.group(items)
	case "quorum":
		return p.quorum(items)
	default:
		return fmt.Errorf("unknown keyword %q", keyword)
	}
}

// log reads: <vkey> [<url>]
func (p *policyParser) log(items []string) error {
	if len(items) < 1 || len(items) > 2 {
		return fmt.Errorf("want: log VKEY [URL]")
	}
	if len(p.policy.logs) == maxLogs {
		return fmt.Errorf("more than %d logs", maxLogs)
	}
	k, err := p.key(items[0], LogKey)
	if err != nil {
		return err
	}
	p.policy.logs = append(p.policy.logs, k)
	return nil
}

// witness reads: <name> <vkey> [<url>]
func (p *policyParser) witness(items []string) error {
	if len(items) < 2 || len(items) > 3 {
		return fmt.Errorf("want: witness NAME VKEY [URL]")
	}
	if len(p.policy.witnesses) == maxWitnesses {
		return fmt.Errorf("more than %d witnesses", maxWitnesses)
	}
	k, err := p.key(items[1], WitnessKey)
	if err != nil {
		return err
	}
	p.policy.witnesses = append(p.policy.witnesses, witness{items[0], k})
	return p.define(items[0], &member{witness: len(p.policy.witnesses) - 1})
}

// key reads a vkey and refuses one whose public key, or whose name and hash,
// the policy has already: whoever holds it would count twice.
func (p *policyParser) key(vkey string, kind KeyType) (*Key, error) {
	k, err := ParseKey(vkey)
	if err != nil {
		return nil, err
	}
	if k.kind != kind {
		return nil, fmt.Errorf("key type %d, want %d", k.kind, kind)
	}
	known := slices.Clone(p.policy.logs)
	for _, w := range p.policy.witnesses {
		known = append(known, w.Key)
	}
	for _, other := range known {
		if ed25519.PublicKey.Equal(k.public, other.public) {
			return nil, fmt.Errorf("key %q has the public key of %q", k.id.name, other.id.name)
		}
		if k.id == other.id {
			return nil, fmt.Errorf("two keys %q with the same hash", k.id.name)
		}
	}
	return k, nil
}

// group reads: <name> all|any|<k> <name>...
func (p *policyParser) group(items []string) error {
	if len(items) < 3 {
		return fmt.Errorf("want: group NAME all|any|K and its members")
	}
	if p.groups++; p.groups > maxGroups {
		return fmt.Errorf("more than %d groups", maxGroups)
	}
	g := &member{}
	for _, name := range items[2:] {
		m, known := p.names[name]
		switch {
		case !known:
			return fmt.Errorf("member %q is not defined above", name)
		case m.grouped:
			return fmt.Errorf("member %q belongs to a group already", name)
		}
		m.grouped = true
		g.members = append(g.members, m)
	}
	var err error
	if g.need, err = threshold(items[1], len(g.members)); err != nil {
		return err
	}
	return p.define(items[0], g)
}

// threshold reads how many of n members a group needs.
func threshold(s string, n int) (int, error) {
	switch s {
	case "any":
		return 1, nil
	case "all":
		return n, nil
	}
	k, err := strconv.Atoi(s)
	if err != nil || strconv.Itoa(k) != s || k < 1 || k > n {
		return 0, fmt.Errorf("threshold %q: want any, all or a number from 1 to %d", s, n)
	}
	return k, nil
}

// define gives a witness or a group its name.
func (p *policyParser) define(name string, m *member) error {
	if name == noQuorum {
		return fmt.Errorf("the name %q is taken", name)
	}
	if _, known := p.names[name]; known {
		return fmt.Errorf("the name %q is defined twice", name)
	}
	p.names[name] = m
	return nil
}

// quorum reads: <name>
func (p *policyParser) quorum(items []string) error {
	if len(items) != 1 {
		return fmt.Errorf("want: quorum NAME")
	}
	if p.quorate {
		return fmt.Errorf("second quorum line")
	}
	p.quorate = true
	if items[0] == noQuorum {
		return nil
	}
	m, known := p.names[items[0]]
	if !known {
		return fmt.Errorf("quorum %q is not defined above", items[0])
	}
	p.policy.quorum = m
	return nil
}
