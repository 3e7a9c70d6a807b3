package quorum

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
)

// payloadOf is what an envelope carries; the fuzzer changes that and the target
// signs it, or nothing would get past the signatures.
func payloadOf(t testing.TB, raw []byte) []byte {
	t.Helper()
	var envelope struct {
		Payload     strictjson.Base64 `json:"payload"`
		PayloadType string            `json:"payloadType"`
		Signatures  strictjson.Raw    `json:"signatures"`
	}
	if err := read(raw, &envelope, MaxStatementBytes); err != nil {
		t.Fatal(err)
	}
	return envelope.Payload
}

func signed(t testing.TB, kind string, payload []byte, key ed25519.PrivateKey) []byte {
	raw, err := dsse.Envelope{PayloadType: kind, Payload: payload, Signatures: []dsse.Signature{dsse.Sign(kind, payload, key)}}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// FuzzSet: what is accepted keeps the rules of a set, whoever wrote it.
func FuzzSet(f *testing.F) {
	r := newRound(f, 6, 3, 2).wave("right", "copy", "silent")
	f.Add(payloadOf(f, r.waves[0].Set))
	f.Fuzz(func(t *testing.T, payload []byte) {
		s, err := OpenSet(signed(t, SetType, payload, r.submitter), public(testKey("submitter")))
		if err != nil {
			return
		}
		again, err := s.Plan.Digest()
		if err != nil || again != s.PlanDigest() || len(s.Commitments) == 0 || len(s.Commitments) > s.Plan.Replicas {
			t.Fatalf("accepted: %d commitments, %v", len(s.Commitments), err)
		}
		for i, c := range s.Commitments {
			if c.Plan != again || i > 0 && bytes.Compare(s.Commitments[i-1].Node, c.Node) >= 0 {
				t.Fatal("accepted: a commitment of another plan, or two of a node")
			}
		}
	})
}

// FuzzStatement: no statement with a result that fewer than the quorum of receipts
// have.
func FuzzStatement(f *testing.F) {
	r := newRound(f, 6, 3, 2).wave("right", "lie", "stall").wave("right")
	f.Add(payloadOf(f, r.sign()))
	f.Fuzz(func(t *testing.T, payload []byte) {
		raw := signed(t, StatementPayload, payload, r.submitter)
		v, err := Verify(raw, r.expects())
		if err != nil {
			return
		}
		count := 0
		for _, s := range v.Outcome.Nodes {
			if s.Fate == Agreed {
				count++
			}
		}
		if count < v.Plan.Quorum || v.Known > count {
			t.Fatalf("accepted with %d votes, quorum %d", count, v.Plan.Quorum)
		}
		if again, err := Sign(v.Plan, v.Waves, testKey("submitter")); err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("the statement of its own evidence is another one: %v", err)
		}
	})
}

// FuzzNode reads what a node signs.
func FuzzNode(f *testing.F) {
	r := newRound(f, 6, 3, 2).wave("right", "right")
	private, ticket := r.node(0), r.ticket(0)
	key := public(private)
	f.Add(payloadOf(f, r.commitment(0, "right")), payloadOf(f, r.reveal(0, "right", r.last).Opening))
	f.Fuzz(func(t *testing.T, commitment, opening []byte) {
		c, err := OpenCommitment(signed(t, CommitmentType, commitment, private), key)
		if err != nil || c.Hash.IsZero() || !c.Node.Equal(key) {
			return
		}
		if o, err := ReadOpening(signed(t, OpeningType, opening, private), key); err == nil && o.opens(c) && c.Ticket != ticket {
			t.Fatal("an opening of a commitment of another round")
		}
	})
}

// FuzzFraud reads proofs of fraud, as they are.
func FuzzFraud(f *testing.F) {
	seeds, _ := filepath.Glob(filepath.Join(vectorDir, "fraud-*.json"))
	for _, name := range seeds {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := VerifyFraud(raw)
		if err != nil {
			return
		}
		if again, err := ProveFraud(p.Kind, p.Key, p.Evidence[0], p.Evidence[1]); err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("the proof by its own evidence is another one: %v", err)
		}
	})
}

// TestSeeds writes the committed seeds with -update.
func TestSeeds(t *testing.T) {
	r := newRound(t, 6, 3, 2).wave("right", "lie", "stall").wave("right")
	fraud, err := os.ReadFile(filepath.Join(vectorDir, "fraud-results.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range map[string][][]byte{
		"FuzzSet/waves":       {payloadOf(t, r.waves[1].Set)},
		"FuzzStatement/waves": {payloadOf(t, r.sign())},
		"FuzzNode/right":      {payloadOf(t, r.commitment(0, "right")), payloadOf(t, r.reveal(3, "right", r.last).Opening)},
		"FuzzFraud/results":   {fraud},
	} {
		file := filepath.Join("testdata/fuzz", name)
		text := seedOf(values)
		if *update {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s is not what it should be (%v): go test -update writes it", file, err)
		}
	}
}

// seedOf is the file of a seed, in the form of the fuzzing engine.
func seedOf(values [][]byte) []byte {
	text := []byte("go test fuzz v1\n")
	for _, v := range values {
		text = fmt.Appendf(text, "[]byte(%q)\n", v)
	}
	return text
}
