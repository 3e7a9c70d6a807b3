package quorum

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/receipt"
)

var update = flag.Bool("update", false, "write the vectors anew")

const vectorDir = "testdata/vectors"

// A vector is a document with one failure, or none. The index says what a
// verifier has to answer; the key beside it is whom to expect: the node of a
// commitment or opening, the submitter of a set.
type vector struct {
	File string `json:"file"`
	Code string `json:"code"` // "" if it is right
	Note string `json:"note"`
	Key  string `json:"key,omitempty"`
	raw  []byte
}

// TestVectors makes the vectors as they are described, compares them with the
// files, and asks for an answer to each file.
func TestVectors(t *testing.T) {
	list := allVectors(t)
	if *update {
		writeVectors(t, list)
	}
	index, err := os.ReadFile(filepath.Join(vectorDir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if want := indexOf(t, list); !bytes.Equal(index, want) {
		t.Fatal("the index is not what the vectors are: go test -update writes it")
	}
	wrong := 0
	for _, v := range list {
		raw, err := os.ReadFile(filepath.Join(vectorDir, v.File))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(raw, v.raw) {
			t.Errorf("%s is not what it should be", v.File)
		}
		if code := answer(t, v, raw); code != v.Code {
			t.Errorf("%s (%s): %q, want %q", v.File, v.Note, code, v.Code)
		}
		if v.Code != "" {
			wrong++
		}
	}
	if wrong < 60 {
		t.Errorf("only %d vectors with a failure", wrong)
	}
}

// answer is the code with which the package refuses a file.
func answer(t *testing.T, v vector, raw []byte) string {
	t.Helper()
	var key wireKey
	if v.Key != "" {
		if err := key.UnmarshalText([]byte(v.Key)); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	switch kind, _, _ := strings.Cut(v.File, "-"); kind {
	case "commitment":
		_, err = OpenCommitment(raw, ed25519.PublicKey(key))
	case "opening":
		_, err = ReadOpening(raw, ed25519.PublicKey(key))
	case "set":
		_, err = OpenSet(raw, ed25519.PublicKey(key))
	case "fraud":
		_, err = VerifyFraud(raw)
	default:
		_, err = Verify(raw, newRound(t, 6, 3, 2).expects())
	}
	return codeOf(t, err)
}

func codeOf(t *testing.T, err error) string {
	t.Helper()
	var coded interface {
		Code() string
		Hint() string
	}
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &coded) || coded.Hint() == "":
		t.Errorf("%v has no code", err)
		return "none"
	}
	return coded.Code()
}

func indexOf(t *testing.T, list []vector) []byte {
	t.Helper()
	text, err := json.MarshalIndent(list, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

func writeVectors(t *testing.T, list []vector) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(vectorDir), os.MkdirAll(vectorDir, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		if err := os.WriteFile(filepath.Join(vectorDir, v.File), v.raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(vectorDir, "index.json"), indexOf(t, list), 0o644); err != nil {
		t.Fatal(err)
	}
}

func allVectors(t *testing.T) (list []vector) {
	t.Helper()
	list = slices.Concat(commitmentVectors(t), openingVectors(t), setVectors(t), statementVectors(t), fraudVectors(t))
	slices.SortFunc(list, func(a, b vector) int { return strings.Compare(a.File, b.File) })
	return list
}

// set changes a member of a decoded document; path names are joined by dots,
// elements by their number.
func set(path string, value any) func(map[string]any) {
	return func(doc map[string]any) {
		names := strings.Split(path, ".")
		var at any = doc
		for _, name := range names[:len(names)-1] {
			switch v := at.(type) {
			case map[string]any:
				at = v[name]
			case []any:
				at = v[int(name[0]-'0')]
			}
		}
		last := names[len(names)-1]
		switch v := at.(type) {
		case map[string]any:
			if v[last] = value; value == nil {
				delete(v, last)
			}
		case []any:
			v[int(last[0]-'0')] = value
		}
	}
}

// forge changes the payload of an envelope and signs it again.
func forge(t *testing.T, raw []byte, key ed25519.PrivateKey, change func(map[string]any)) []byte {
	t.Helper()
	var envelope struct {
		Payload     strictjson.Base64 `json:"payload"`
		PayloadType string            `json:"payloadType"`
		Signatures  strictjson.Raw    `json:"signatures"`
	}
	if err := read(raw, &envelope, MaxStatementBytes); err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	decoder := json.NewDecoder(bytes.NewReader(envelope.Payload))
	decoder.UseNumber()
	if err := decoder.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	change(doc)
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	if text, err = strictjson.Canonicalize(text, strictjson.Limits{Bytes: MaxStatementBytes}); err != nil {
		t.Fatal(err)
	}
	forged, err := seal(envelope.PayloadType, strictjson.Raw(text), key, MaxStatementBytes)
	if err != nil {
		t.Fatal(err)
	}
	return forged
}

const otherDigest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"

func commitmentVectors(t *testing.T) []vector {
	r := newRound(t, 6, 3, 2)
	key, raw := r.node(0), r.commitment(0, "right")
	of := formatKey(public(key))
	list := []vector{
		{"commitment-right.json", "", "a commitment", of, raw},
		{"commitment-other-node.json", "VFY-051", "signed by another node than expected", of, r.commitment(1, "right")},
		{"commitment-other-type.json", "VFY-050", "the same payload as another kind of document", of, r.seal(OpeningType, wireCommitment{}.filled(r, 0), key)},
		{"commitment-not-canonical.json", "VFY-050", "a space in the envelope", of, append([]byte{' '}, raw...)},
		{"commitment-cut.json", "VFY-050", "cut short", of, raw[:len(raw)-1]},
		{"commitment-large.json", "VFY-050", "larger than 4 KiB", of, append(raw, bytes.Repeat([]byte{' '}, MaxCommitmentBytes)...)},
	}
	for name, change := range map[string]struct {
		code, note string
		how        func(map[string]any)
	}{
		"names-another":   {"VFY-051", "names another node than signed", set("node", formatKey(public(r.node(1))))},
		"version":         {"VFY-050", "of an unknown version", set("version", 2)},
		"no-hash":         {"VFY-050", "without a hash", set("hash", nil)},
		"zero-hash":       {"VFY-050", "with a hash of zeros", set("hash", "sha256:"+strings.Repeat("0", 64))},
		"unknown-member":  {"VFY-050", "with a member that is unknown", set("extra", 1)},
		"weak-key":        {"VFY-050", "names a key of small order", set("node", "ed25519:"+strings.Repeat("0", 64))},
		"upper-case-hash": {"VFY-050", "digits in upper case", set("hash", "sha256:"+strings.Repeat("A", 64))},
	} {
		list = append(list, vector{"commitment-" + name + ".json", change.code, change.note, of, forge(t, raw, key, change.how)})
	}
	return list
}

// filled is the i-th node's commitment before it is signed.
func (wireCommitment) filled(r *round, i int) wireCommitment {
	t := r.ticket(i)
	return wireCommitment{Version, t.JobID, t.Plan, t.Submission, wireKey(public(r.node(i))), blob.Of(nil)}
}

func openingVectors(t *testing.T) []vector {
	r := newRound(t, 6, 3, 2).wave("right", "right", "right")
	key := r.node(0)
	raw, of := r.reveal(0, "right", r.last).Opening, formatKey(public(key))
	list := []vector{
		{"opening-right.json", "", "an opening", of, raw},
		{"opening-other-node.json", "VFY-051", "signed by another node than expected", of, r.reveal(1, "right", r.last).Opening},
	}
	for name, change := range map[string]struct {
		code, note string
		how        func(map[string]any)
	}{
		"names-another": {"VFY-051", "names another node than signed", set("node", formatKey(public(r.node(1))))},
		"version":       {"VFY-050", "of an unknown version", set("version", 0)},
		"short-secret":  {"VFY-050", "a secret of 31 bytes", set("secret", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==")},
		"no-set":        {"VFY-050", "to no set", set("set", nil)},
	} {
		list = append(list, vector{"opening-" + name + ".json", change.code, change.note, of, forge(t, raw, key, change.how)})
	}
	return list
}

func setVectors(t *testing.T) []vector {
	r := newRound(t, 6, 3, 2)
	one, two, three, four := r.commitment(0, "right"), r.commitment(1, "right"), r.commitment(2, "right"), r.commitment(3, "right")
	key, of := r.submitter, formatKey(public(r.submitter))
	sorted := func(raw ...[]byte) []any {
		slices.SortFunc(raw, func(a, b []byte) int {
			ca, _ := claimed(a)
			cb, _ := claimed(b)
			return bytes.Compare(ca.Node, cb.Node)
		})
		var list []any
		for _, c := range raw {
			list = append(list, json.RawMessage(c))
		}
		return list
	}
	good, err := SignSet(r.plan, nil, [][]byte{one, two, three}, key)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Commit(r.ticket(0), []byte("another receipt"), secretOf(9), r.node(0))
	if err != nil {
		t.Fatal(err)
	}
	other := *r
	other.plan.Nonce = "fedcba9876543210"
	backwards := sorted(one, two)
	slices.Reverse(backwards)
	list := []vector{
		{"set-right.json", "", "a set", of, good},
		{"set-other-submitter.json", "VFY-051", "signed by somebody else", of, forge(t, good, testKey("other"), func(map[string]any) {})},
		{"set-two-of-one.json", "VFY-053", "two commitments of one node", of, forge(t, good, key, set("commitments", sorted(one, again, three)))},
	}
	for name, change := range map[string]struct {
		code, note string
		how        func(map[string]any)
	}{
		"names-another":  {"VFY-051", "names another submitter than signed", set("plan.submitter", formatKey(public(testKey("other"))))},
		"stranger":       {"VFY-053", "a commitment of a node that is not in the plan", set("commitments", sorted(one, two, r.strange(testKey("node 6"))))},
		"empty":          {"VFY-053", "no commitments", set("commitments", []any{})},
		"too-many":       {"VFY-053", "more commitments than replicas", set("commitments", sorted(one, two, three, four))},
		"other-round":    {"VFY-052", "a commitment of another round of the same job", set("commitments", sorted(one, two, other.commitment(2, "right")))},
		"other-plan":     {"VFY-052", "another quorum than the nodes were told", set("plan.quorum", 3)},
		"unsorted":       {"VFY-050", "commitments in another order", set("commitments", backwards)},
		"unsorted-nodes": {"VFY-050", "nodes of the plan in another order", func(d map[string]any) { slices.Reverse(d["plan"].(map[string]any)["nodes"].([]any)) }},
		"wave-0":         {"VFY-050", "wave 0", set("wave", 0)},
		"wave-2":         {"VFY-050", "wave 2 without a set before", set("wave", 2)},
		"wave-65":        {"VFY-050", "more waves than nodes", func(d map[string]any) { d["wave"], d["previous"] = 65, otherDigest }},
		"previous":       {"VFY-050", "wave 1 with a set before", set("previous", otherDigest)},
		"version":        {"VFY-050", "of an unknown version", set("version", 9)},
		"half":           {"VFY-057", "a quorum of half of the replicas", set("plan.replicas", 4)},
		"broken-inside":  {"VFY-051", "a commitment that was changed", func(d map[string]any) { d["commitments"].([]any)[0].(map[string]any)["signatures"] = []any{} }},
	} {
		list = append(list, vector{"set-" + name + ".json", change.code, change.note, of, forge(t, good, key, change.how)})
	}
	return list
}

// strange is the commitment of a node that is not among the round's.
func (r *round) strange(key ed25519.PrivateKey) []byte {
	raw, err := Commit(r.ticket(0), []byte("receipt"), secretOf(0), key)
	if err != nil {
		r.t.Fatal(err)
	}
	return raw
}

func statementVectors(t *testing.T) []vector {
	r := newRound(t, 6, 3, 2).wave("right", "lie", "stall").wave("right")
	good, key := r.sign(), r.submitter
	undecided := newRound(t, 6, 3, 2).wave("right", "lie", "stall")
	list := []vector{
		{"statement-right.json", "", "a statement of two waves", "", good},
		{"statement-undecided.json", "VFY-055", "a statement of a round without agreement", "", undecided.sign()},
		{"statement-other-signer.json", "VFY-051", "signed by another than the plan's submitter", "", forge(t, good, testKey("other"), func(map[string]any) {})},
		{"statement-receipt.json", "VFY-050", "a receipt, which is another kind of statement", "", r.receipt(0, "right", nil)},
		{"statement-cut.json", "VFY-050", "cut short", "", good[:len(good)/2]},
	}
	silence := func(i int) any { return map[string]any{"node": formatKey(public(r.node(i))), "why": ""} }
	first := func(d map[string]any) map[string]any {
		return d["predicate"].(map[string]any)["waves"].([]any)[0].(map[string]any)
	}
	reveals := func(d map[string]any) []any { return first(d)["reveals"].([]any) }
	swap := func(d map[string]any) {
		a, b := reveals(d)[0].(map[string]any), reveals(d)[1].(map[string]any)
		a["receipt"], b["receipt"] = b["receipt"], a["receipt"]
	}
	for name, change := range map[string]struct {
		code, note string
		how        func(map[string]any)
	}{
		"other-result":    {"VFY-054", "names another result", set("predicate.outcome.result", otherDigest)},
		"no-result":       {"VFY-054", "hides the result", set("predicate.outcome.result", nil)},
		"more-votes":      {"VFY-054", "counts a vote too many", set("predicate.outcome.votes", 3)},
		"liar-agrees":     {"VFY-054", "lets the liar agree", set("predicate.outcome.nodes.1.fate", "agreed")},
		"stalled-lied":    {"VFY-054", "calls the node that stalled a liar", set("predicate.outcome.nodes.2.fate", "dissented")},
		"other-subject":   {"VFY-054", "names another output", set("subject.1.digest.sha256", strings.Repeat("1", 64))},
		"other-job":       {"VFY-052", "names another job", set("predicate.plan.job_id", otherDigest)},
		"other-quorum":    {"VFY-052", "changes the rule afterwards", set("predicate.plan.quorum", 3)},
		"other-type":      {"VFY-050", "another type of statement", set("_type", "https://in-toto.io/Statement/v2")},
		"other-predicate": {"VFY-050", "another predicate", set("predicateType", PredicateType+"9")},
		"no-waves":        {"VFY-050", "no evidence", set("predicate.waves", []any{})},
		"wave-left-out": {"VFY-052", "the first wave is left out", func(d map[string]any) {
			p := d["predicate"].(map[string]any)
			p["waves"] = p["waves"].([]any)[1:]
		}},
		"first-set-gone":   {"VFY-053", "the first wave has no set", func(d map[string]any) { delete(first(d), "set") }},
		"waves-swapped":    {"VFY-052", "waves in another order", func(d map[string]any) { slices.Reverse(d["predicate"].(map[string]any)["waves"].([]any)) }},
		"receipts-swapped": {"VFY-052", "each receipt beside the other's opening", swap},
		"answer-twice":     {"VFY-050", "an answer twice", func(d map[string]any) { first(d)["reveals"] = append(reveals(d), reveals(d)[0]) }},
		"answer-of-nobody": {"VFY-053", "an answer of a node without a commitment", func(d map[string]any) { reveals(d)[0].(map[string]any)["node"] = formatKey(public(r.node(5))) }},
		"silent-committed": {"VFY-053", "a node that has committed itself called silent", func(d map[string]any) { first(d)["silent"] = []any{silence(0)} }},
		"passed-over":      {"VFY-053", "a node that was never asked is called silent, and one before it passed over", func(d map[string]any) { first(d)["silent"] = []any{silence(5)} }},
		"why-too-long": {"VFY-050", "too much about a silence", func(d map[string]any) {
			first(d)["silent"] = []any{map[string]any{"node": formatKey(public(r.node(4))), "why": strings.Repeat("a", 201)}}
		}},
		"unknown-member": {"VFY-050", "with a member that is unknown", set("predicate.extra", 1)},
		"null-silent":    {"VFY-050", "null in place of a list", func(d map[string]any) { first(d)["silent"] = nullValue{} }},
	} {
		list = append(list, vector{"statement-" + name + ".json", change.code, change.note, "", forge(t, good, key, change.how)})
	}
	return append(list, roundVectors(t, r)...)
}

// nullValue is null in JSON.
type nullValue struct{}

func (nullValue) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// roundVectors are statements whose documents are right one by one.
func roundVectors(t *testing.T, r *round) []vector {
	// An opening to another set: the submitter has shown one set to this node, and
	// others to the rest.
	other, err := SignSet(r.plan, nil, [][]byte{r.commitment(0, "right")}, r.submitter)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := OpenSet(other, public(r.submitter))
	if err != nil {
		t.Fatal(err)
	}
	early := r.reveal(0, "right", shown)
	decided := newRound(t, 6, 3, 2).wave("right", "right", "right")
	more := newRound(t, 6, 3, 2).wave("right", "right", "right").wave("lie")
	encoded := func(raw []byte) any { return json.RawMessage(raw) }
	wave2 := func(d map[string]any) {
		p := d["predicate"].(map[string]any)
		p["waves"] = append(p["waves"].([]any), map[string]any{
			"set": encoded(more.waves[1].Set), "silent": []any{}, "reveals": []any{},
		})
	}
	at := slices.IndexFunc(r.waves[0].Reveals, func(a Reveal) bool { return a.Node.Equal(early.Node) })
	return []vector{
		{"statement-two-sets.json", "VFY-052", "an opening to another set of the wave", "",
			forge(t, r.sign(), r.submitter, set("predicate.waves.0.reveals."+string(rune('0'+at))+".opening", encoded(early.Opening)))},
		{"statement-wave-too-many.json", "VFY-054", "a wave after the agreement", "", forge(t, decided.sign(), decided.submitter, wave2)},
	}
}

// renamed is a receipt with another name of the input a.txt, signed again.
func renamed(t *testing.T, raw []byte, name string, key ed25519.PrivateKey) []byte {
	return signedAgain(t, raw, `"a.txt":`, `"`+name+`":`, key)
}

// emptied is a receipt of no inputs that says so.
func emptied(t *testing.T, raw []byte, key ed25519.PrivateKey) []byte {
	return signedAgain(t, raw, `"job_id":`, `"inputs":{},"job_id":`, key)
}

func signedAgain(t *testing.T, raw []byte, old, text string, key ed25519.PrivateKey) []byte {
	t.Helper()
	payload, err := dsse.Open(raw, receipt.PayloadType, receipt.MaxBytes, []ed25519.PublicKey{public(key)}, 1)
	if err != nil || bytes.Count(payload, []byte(old)) != 1 {
		t.Fatalf("%q once in %s: %v", old, payload, err)
	}
	payload = bytes.Replace(payload, []byte(old), []byte(text), 1)
	raw, err = dsse.Envelope{
		PayloadType: receipt.PayloadType, Payload: payload, Signatures: []dsse.Signature{dsse.Sign(receipt.PayloadType, payload, key)},
	}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func fraudVectors(t *testing.T) []vector {
	r := newRound(t, 6, 3, 2)
	key := public(r.node(0))
	right, lie := r.receipt(0, "right", nil), r.receipt(0, "wrong", nil)
	proof := func(kind Kind, key ed25519.PublicKey, evidence ...[]byte) []byte {
		w := wireFraud{FraudType, kind, wireKey(key), nil}
		for _, e := range evidence {
			w.Evidence = append(w.Evidence, e)
		}
		raw, err := strictjson.MarshalCanonical(w)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	changed := func(out string, how func(*receipt.Statement)) []byte { return r.receipt(0, out, how) }
	trap := func(kind, engine string) []byte {
		return changed("", func(s *receipt.Statement) {
			s.Result.EndState, s.Result.Trap, s.Observation.Engine = receipt.Trapped, kind, engine
		})
	}
	b := newRound(t, 6, 3, 2).wave("right", "broken", "right")
	broken := b.reveal(1, "broken", b.last).Opening
	whole := b.reveal(0, "right", b.last).Opening
	s1 := b.waves[0].Set
	s2, err := SignSet(b.plan, nil, [][]byte{b.commitment(0, "right")}, b.submitter)
	if err != nil {
		t.Fatal(err)
	}
	wave2, err := SignSet(b.plan, b.last, [][]byte{b.commitment(3, "right")}, b.submitter)
	if err != nil {
		t.Fatal(err)
	}
	first, err := ProveFraud(TwoResults, key, right, lie)
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string, data string) []byte {
		return changed("right", func(s *receipt.Statement) {
			s.Result.Inputs = map[string]receipt.Input{name: {Digest: blob.Of([]byte(data)), Size: int64(len(data))}}
		})
	}
	late := changed("", func(s *receipt.Statement) { s.Result.EndState = receipt.Deadline })
	return []vector{
		{"fraud-results.json", "", "two results of one node for one job", "", first},
		{"fraud-opening.json", "", "an opening that does not fit", "", proof(WrongOpening, public(b.node(1)), b.commitment(1, "broken"), broken)},
		{"fraud-sets.json", "", "two sets of one wave", "", proof(TwoSets, public(b.submitter), s1, s2)},
		{"fraud-traps.json", "", "two faults, by one engine", "", proof(TwoResults, key, trap("unreachable", "e"), trap("stack overflow", "e"))},
		{"fraud-inputs.json", "", "two inputs of one name", "", proof(TwoResults, key, read("a.txt", "one"), read("a.txt", "two"))},
		{"fraud-input-path.json", "VFY-031", "an input whose name is a path", "", proof(TwoResults, key, right, renamed(t, read("a.txt", "one"), "a/txt", r.node(0)))},
		{"fraud-no-inputs.json", "VFY-031", "inputs that are empty instead of left out", "", proof(TwoResults, key, lie, emptied(t, right, r.node(0)))},
		{"fraud-one-result.json", "VFY-058", "one receipt twice", "", proof(TwoResults, key, right, right)},
		{"fraud-same-result.json", "VFY-058", "two receipts with one result", "", proof(TwoResults, key, right, changed("right", func(s *receipt.Statement) { s.Observation.Engine = "other" }))},
		{"fraud-two-jobs.json", "VFY-058", "results of two jobs", "", proof(TwoResults, key, right, changed("x", func(s *receipt.Statement) { s.Result.JobID = blob.Of(nil) }))},
		{"fraud-deadline.json", "VFY-058", "one ended by the clock", "", proof(TwoResults, key, right, late)},
		{"fraud-relaxed.json", "VFY-058", "of a job of relaxed determinism", "", proof(TwoResults, key, changed("", func(s *receipt.Statement) { s.Result.Determinism = receipt.Relaxed }), right)},
		{"fraud-tables.json", "VFY-058", "fuel by two cost tables", "", proof(TwoResults, key, right, changed("", func(s *receipt.Statement) { s.Result.Fuel.CostTable++ }))},
		{"fraud-engines.json", "VFY-058", "two engines' words for a fault", "", proof(TwoResults, key, trap("unreachable", "e"), trap("unreachable executed", "f"))},
		{"fraud-other-key.json", "VFY-032", "a receipt of another node", "", proof(TwoResults, key, right, r.receipt(1, "wrong", nil))},
		{"fraud-changed.json", "VFY-032", "a receipt that was changed", "", proof(TwoResults, key, right, bytes.Replace(lie, []byte(`"payload":"eyJ`), []byte(`"payload":"eyI`), 1))},
		{"fraud-opening-fits.json", "VFY-058", "an opening that fits", "", proof(WrongOpening, public(b.node(0)), b.commitment(0, "right"), whole)},
		{"fraud-opening-other.json", "VFY-051", "the commitment of another node", "", proof(WrongOpening, public(b.node(1)), b.commitment(0, "right"), broken)},
		{"fraud-one-set.json", "VFY-058", "one set twice", "", proof(TwoSets, public(b.submitter), s1, s1)},
		{"fraud-two-waves.json", "VFY-058", "sets of two waves", "", proof(TwoSets, public(b.submitter), s1, wave2)},
		{"fraud-one-document.json", "VFY-050", "one document", "", proof(TwoResults, key, right)},
		{"fraud-kind.json", "VFY-050", "an unknown kind", "", proof("theft", key, right, lie)},
		{"fraud-type.json", "VFY-050", "another type of document", "", bytes.Replace(first, []byte(FraudType), []byte(FraudType+"9"), 1)},
		{"fraud-not-canonical.json", "VFY-050", "a space before it", "", append([]byte{' '}, first...)},
	}
}
