package schemas_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/quorum"
)

const quorumVectors = "../quorum/testdata/vectors"

// quorumKinds say how each document of a quorum is read.
var quorumKinds = map[string]struct {
	payloadType string
	parse       func(raw []byte, key ed25519.PublicKey) error
}{
	"quorum-commitment": {quorum.CommitmentType, func(raw []byte, key ed25519.PublicKey) error {
		_, err := quorum.OpenCommitment(raw, key)
		return err
	}},
	"quorum-opening": {quorum.OpeningType, func(raw []byte, key ed25519.PublicKey) error {
		_, err := quorum.ReadOpening(raw, key)
		return err
	}},
	"quorum-set": {quorum.SetType, func(raw []byte, key ed25519.PublicKey) error {
		_, err := quorum.OpenSet(raw, key)
		return err
	}},
	"quorum-statement": {quorum.StatementPayload, func(raw []byte, _ ed25519.PublicKey) error {
		_, err := quorum.Verify(raw, quorum.Expectation{})
		if errors.Is(err, quorum.ErrUndecided) || errors.Is(err, quorum.ErrTooFew) {
			return nil // it holds
		}
		return err
	}},
}

// quorumKey is one of the keys of the vectors.
func quorumKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("phase quorum test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// keyOf finds the private half of a key of the vectors.
func keyOf(t *testing.T, text string) ed25519.PrivateKey {
	t.Helper()
	for _, name := range []string{"submitter", "node 0", "node 1", "node 2", "node 3", "node 4", "node 5"} {
		if key := quorumKey(name); text == fmt.Sprintf("ed25519:%x", key.Public()) {
			return key
		}
	}
	t.Fatalf("whose key is %s?", text)
	return nil
}

// beyondQuorum is to the documents of a quorum what beyond is to the others.
var beyondQuorum = []struct{ comment, detail string }{
	{"canonical encoding of this document", "not the canonical form"},
	{"numbers written as plain integers", "not a plain integer"},
	{"at most 16 levels", "nested too deeply"},
	{"keys are canonical points of the curve and not of small order", "unusable Ed25519 public key"},
	{"node is the key that signed", "not signed by the one it names"},
	{"submitter is the key that signed", "not signed by the one it names"},
	{"quorum is more than half of replicas", "the plan cannot make a quorum"},
	{"nodes are sorted by key", "not in the order of their keys"},
	{"commitments are canonical, right, of this plan and job", "of another round"},
	{"commitments are canonical, right, of this plan and job", "the set of commitments is not a right one"},
	{"commitments are canonical, right, of this plan and job", "commitment: "},
	{"commitments are canonical, right, of this plan and job", "not in the order of their nodes' keys"},
	{"sets, receipts and openings are right", "of another round"},
	{"sets, receipts and openings are right", "malformed document of a quorum"},
	{"sets, receipts and openings are right", "the set of commitments is not a right one"},
	{"outcome and subject are what follows", "the statement claims another outcome"},
	{"every name once per object", "duplicate object member name"},
	{"which are right by themselves, and contradict each other", ""},
}

func (j judge) compareQuorum(t *testing.T, kind, name string, payload, raw []byte, key ed25519.PublicKey) bool {
	t.Helper()
	doc, bySchema := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if bySchema == nil {
		bySchema = j.schemas[kind].Validate(doc)
	}
	byParser := quorumKinds[kind].parse(raw, key)
	if bySchema != nil && byParser == nil {
		t.Errorf("%s: accepted, but not by its schema: %v", name, bySchema)
	}
	if bySchema == nil && byParser != nil {
		for _, b := range beyondQuorum {
			if strings.Contains(byParser.Error(), b.detail) && strings.Contains(j.comments[kind], b.comment) {
				return false
			}
		}
		t.Errorf("%s: accepted by its schema, but refused: %v", name, byParser)
	}
	return bySchema == nil && byParser == nil
}

// TestQuorumVectors compares schemas and parser on each vector.
func TestQuorumVectors(t *testing.T) {
	j := newJudge(t)
	accepted, refused := 0, 0
	for _, v := range quorumIndex(t) {
		kind := "quorum-" + strings.SplitN(v.File, "-", 2)[0]
		raw, err := os.ReadFile(filepath.Join(quorumVectors, v.File))
		if err != nil {
			t.Fatal(err)
		}
		var e struct{ Payload []byte }
		if quorumKinds[kind].parse == nil || json.Unmarshal(raw, &e) != nil || strings.Contains(v.File, "other-") || strings.Contains(v.File, "-large") {
			continue // a proof of fraud, no envelope, or the envelope itself is wrong or too large
		}
		var key ed25519.PublicKey
		if v.Key != "" {
			key = keyOf(t, v.Key).Public().(ed25519.PublicKey)
		}
		if j.compareQuorum(t, kind, v.File, e.Payload, raw, key) {
			accepted++
		} else {
			refused++
		}
	}
	if accepted < 5 || refused < 35 {
		t.Errorf("%d accepted, %d refused: the vectors are not what they were", accepted, refused)
	}
}

type quorumVector struct{ File, Code, Note, Key string }

func quorumIndex(t *testing.T) (list []quorumVector) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(quorumVectors, "index.json"))
	if err == nil {
		err = json.Unmarshal(raw, &list)
	}
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestQuorumDocuments changes every part of what is signed in a round, signs it
// again and compares.
func TestQuorumDocuments(t *testing.T) {
	j := newJudge(t)
	for _, v := range quorumIndex(t) {
		kind := "quorum-" + strings.SplitN(v.File, "-", 2)[0]
		if quorumKinds[kind].parse == nil || !strings.HasSuffix(v.File, "-right.json") {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(quorumVectors, v.File))
		if err != nil {
			t.Fatal(err)
		}
		key := quorumKey("submitter")
		if v.Key != "" {
			key = keyOf(t, v.Key)
		}
		var e struct{ Payload []byte }
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatal(err)
		}
		doc := decode(t, e.Payload)
		var count tally
		one := map[string]int{"quorum-commitment": 1, "quorum-opening": 1, "quorum-set": 11, "quorum-statement": 149}[kind]
		mutate(doc, func(what string) {
			// Sets and statements take milliseconds each: some of the changes have to do.
			if count.total++; count.total%one != 0 {
				return
			}
			payload := encode(t, doc)
			signature := dsse.Sign(quorumKinds[kind].payloadType, payload, key)
			signed := fmt.Appendf(nil, `{"payload":%q,"payloadType":%q,"signatures":[{"keyid":%q,"sig":%q}]}`, base64.StdEncoding.EncodeToString(payload),
				quorumKinds[kind].payloadType, signature.KeyID, base64.StdEncoding.EncodeToString(signature.Sig))
			if j.compareQuorum(t, kind, kind+": "+what, payload, signed, key.Public().(ed25519.PublicKey)) {
				count.accepted++
			}
		})
		count.check(t, 1000, 0)
	}
}

// TestFraudSchema compares on proofs of fraud, which are no envelopes.
func TestFraudSchema(t *testing.T) {
	schema := compileAll(t)["fraud"]
	for _, v := range quorumIndex(t) {
		if !strings.HasPrefix(v.File, "fraud-") {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(quorumVectors, v.File))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err == nil {
			err = schema.Validate(doc)
		}
		malformed := v.Code == "VFY-050" && !strings.Contains(v.File, "canonical")
		if (err != nil) != malformed {
			t.Errorf("%s (%s): %v", v.File, v.Note, err)
		}
	}
}
