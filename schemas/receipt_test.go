package schemas_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"

	"encoding/base64"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/receipt"
)

func fullStatement() receipt.Statement {
	return receipt.Statement{
		Result: receipt.Result{
			JobID: blob.Of([]byte("job")), Module: blob.Of([]byte("module")), Args: []string{"Hello, World", ""}, Stdin: blob.Of(nil),
			Inputs: map[string]receipt.Input{"corpus.txt": {Digest: blob.Of([]byte("c")), Size: 1}},
			Stdout: receipt.OutputOf([]byte("x"), false), Stderr: receipt.OutputOf(nil, true),
			EndState: receipt.Exited, ExitCode: 3, Limits: receipt.Limits{MemoryBytes: 1 << 27, DeadlineMS: 10_000, StdoutBytes: 1, StderrBytes: 1, Fuel: 1 << 40},
			Fuel: receipt.Fuel{Used: 7, CostTable: 1}, Determinism: receipt.Strict,
		},
		Observation: receipt.Observation{
			Engine: "wazero 1.12.0", Walls: []string{"wasm"}, Timings: receipt.Timings{StartedAt: clock, Queue: 1, Fetch: 1, Compile: 1, Run: 1},
			Booted:  &receipt.Booted{ManifestVersion: 7, ManifestDigest: blob.Of([]byte("m")), Channel: "stable", Arch: "x86_64"},
			NodeKey: public("node"), Submitter: public("submitter"),
		},
	}
}

// TestReceipts changes every part of receipts in two end states, signs the
// result and compares.
func TestReceipts(t *testing.T) {
	j := newJudge(t)
	trapped := fullStatement()
	trapped.Result.EndState, trapped.Result.ExitCode, trapped.Result.Trap = receipt.Trapped, 0, "unreachable"
	trapped.Result.Inputs = nil
	for name, s := range map[string]receipt.Statement{"exited": fullStatement(), "trapped": trapped} {
		raw, err := receipt.Sign(s, key("node"))
		if err != nil {
			t.Fatal(err)
		}
		payload, err := dsse.Open(raw, receipt.PayloadType, receipt.MaxBytes, []ed25519.PublicKey{public("node")}, 1)
		if err != nil {
			t.Fatal(err)
		}
		doc := decode(t, payload)
		part := doc
		if name == "trapped" { // differs in the result only
			part = doc.(map[string]any)["predicate"].(map[string]any)["result"]
		}
		var count tally
		mutate(part, func(what string) {
			count.total++
			if j.compareReceipt(t, name+": "+what, encode(t, doc)) {
				count.accepted++
			}
		})
		count.check(t, 2000, 100)
	}
}

// beyondReceipt is to receipts what beyond is to the other documents.
var beyondReceipt = []struct{ comment, detail string }{
	{"canonical encoding of this document", "not the canonical form"},
	{"args_digest is the SHA-256", "members contradict each other"},
	{"29 February only in leap years", "is not of the form 2006-01-02T15:04:05.000Z"},
	{"numbers written as plain integers", "not a plain integer"},
	{"fuel used is at most that of the limits", "used fuel"},
	{"at most 8 levels", "nested too deeply"},
	{"keys are canonical points of the curve and not of small order", "unusable Ed25519 public key"},
	{"node_key is the key that signed", receipt.ErrNodeKey.Error()},
}

func (j judge) compareReceipt(t *testing.T, name string, payload []byte) bool {
	t.Helper()
	doc, bySchema := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if bySchema == nil {
		bySchema = j.schemas["receipt-statement"].Validate(doc)
	}
	signature := dsse.Sign(receipt.PayloadType, payload, key("node"))
	_, byParser := receipt.Verify(fmt.Appendf(nil, `{"payload":%q,"payloadType":%q,"signatures":[{"keyid":%q,"sig":%q}]}`,
		base64.StdEncoding.EncodeToString(payload), receipt.PayloadType, signature.KeyID, base64.StdEncoding.EncodeToString(signature.Sig)), public("node"))
	if bySchema != nil && byParser == nil {
		t.Errorf("%s: accepted, but not by its schema: %v", name, bySchema)
	}
	if bySchema != nil || byParser == nil {
		return bySchema == nil
	}
	for _, b := range beyondReceipt {
		if strings.Contains(byParser.Error(), b.detail) && strings.Contains(j.comments["receipt-statement"], b.comment) {
			return false
		}
	}
	t.Errorf("%s: accepted by its schema, but refused: %v", name, byParser)
	return false
}
