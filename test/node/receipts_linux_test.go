package node_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/examples"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/nettest"
	realnode "github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/receipt"
)

// evidence is a job with all that its submitter has of it.
type evidence struct {
	id      blob.Digest
	out     []byte
	receipt []byte
}

// evidenceOf runs a job.
func evidenceOf(t *testing.T, s submitter, word string) evidence {
	t.Helper()
	s.upload(examples.Hello)
	j := hello(t, word)
	_, err := s.submit(t.Context(), j)
	nettest.Check(t, err)
	end := s.wait(j.ID())
	e := evidence{id: j.ID()}
	e.receipt, err = s.client.Receipt(t.Context(), j.ID())
	nettest.Check(t, err)
	var out bytes.Buffer
	nettest.Check(t, s.client.Output(t.Context(), j.ID(), "stdout", end.Stdout, &out))
	e.out = out.Bytes()
	return e
}

// identity is the node's private key, which an attacker does not have.
func (n *node) identity() ed25519.PrivateKey {
	n.Helper()
	key, err := realnode.LoadOrCreateKey(filepath.Join(n.state(), "node.key"))
	nettest.Check(n, err)
	return key
}

// resign signs a receipt's payload again, after a change to it.
func resign(t *testing.T, raw []byte, key ed25519.PrivateKey, change func([]byte) []byte) []byte {
	t.Helper()
	e := openEnvelope(t, raw)
	e.Payload = change(e.Payload)
	e.Signatures = []dsse.Signature{dsse.Sign(e.PayloadType, e.Payload, key)}
	return marshal(t, e)
}

func openEnvelope(t *testing.T, raw []byte) dsse.Envelope {
	t.Helper()
	var wire struct {
		Payload     []byte
		PayloadType string
		Signatures  []dsse.Signature
	}
	nettest.Check(t, json.Unmarshal(raw, &wire))
	return dsse.Envelope{PayloadType: wire.PayloadType, Payload: wire.Payload, Signatures: wire.Signatures}
}

func marshal(t *testing.T, e dsse.Envelope) []byte {
	t.Helper()
	raw, err := e.Marshal()
	nettest.Check(t, err)
	return raw
}

// replaced puts one text in the place of another that is there.
func replaced(t *testing.T, old, with string) func([]byte) []byte {
	return func(b []byte) []byte {
		t.Helper()
		if !bytes.Contains(b, []byte(old)) {
			t.Fatalf("%s is not in %s", old, b)
		}
		return bytes.ReplaceAll(b, []byte(old), []byte(with))
	}
}

func unchanged(b []byte) []byte { return b }

// TestHostileReceipts judges receipts that are not what their bearer says, as a
// person does with phase job verify and as a program does with the library, while
// the node that signed the true one goes on.
func TestHostileReceipts(t *testing.T) {
	alice := newKey(t)
	n, other := start(t, nil, alice), start(t, nil, alice)
	o := n.serve(t, alice)
	mine, another, foreign := evidenceOf(t, n.as(alice), "mine"), evidenceOf(t, n.as(alice), "another"), evidenceOf(t, other.as(alice), "mine")
	own, stranger := n.identity(), other.identity()
	swap := replaced(t, blob.Of(mine.out).Hex(), blob.Of([]byte("nothing of it")).Hex())
	swapped := openEnvelope(t, mine.receipt)
	swapped.Payload = swap(swapped.Payload)
	future := later(t, own, mine)
	trailing := append(slices.Clone(mine.receipt), '\n', '{', '}')
	for _, c := range []struct {
		name    string
		receipt []byte
		job     blob.Digest
		out     []byte
		want    receipt.Verdict
	}{
		{"as it is", mine.receipt, mine.id, mine.out, receipt.Accept},
		{"of another node's key", foreign.receipt, foreign.id, foreign.out, receipt.Reject},
		{"signed again by another key", resign(t, mine.receipt, stranger, unchanged), mine.id, mine.out, receipt.Reject},
		{"with another output's hash", marshal(t, swapped), mine.id, mine.out, receipt.Reject},
		{"with another output's hash, signed by another key", resign(t, mine.receipt, stranger, swap), mine.id, []byte("nothing of it"), receipt.Reject},
		{"with another output", mine.receipt, mine.id, []byte("nothing of it"), receipt.Reject},
		{"for another job", another.receipt, mine.id, another.out, receipt.Reject},
		{"from the future", future, mine.id, mine.out, receipt.Reject},
		{"truncated", mine.receipt[:len(mine.receipt)-20], mine.id, mine.out, receipt.Reject},
		{"with something behind it", trailing, mine.id, mine.out, receipt.Reject},
		{"empty", nil, mine.id, mine.out, receipt.Reject},
		{"too large", bytes.Repeat([]byte(" "), receipt.MaxBytes+1), mine.id, mine.out, receipt.Reject},
	} {
		t.Run(c.name, func(t *testing.T) {
			o.during(t, func() {
				want := receipt.Expectation{NodeKey: n.key, JobID: c.job, Stdout: blob.Of(c.out), Now: time.Now()}
				verdict, _, err := receipt.Judge(c.receipt, want)
				if verdict != c.want || (err == nil) != (c.want == receipt.Accept) {
					t.Errorf("the library says %s (%v), want %s", verdict, err, c.want)
				}
				wantVerdict(t, n, c.receipt, c.job, c.out, c.want)
			})
		})
	}
	t.Run("without a key to expect", func(t *testing.T) {
		if verdict, _, err := receipt.Judge(mine.receipt, receipt.Expectation{JobID: mine.id}); verdict != receipt.Unverifiable || err == nil {
			t.Errorf("%s, %v", verdict, err)
		}
	})
	t.Run("every truncation", func(t *testing.T) {
		for length := range mine.receipt {
			if verdict, _, err := receipt.Judge(mine.receipt[:length], receipt.Expectation{NodeKey: n.key}); verdict == receipt.Accept || err == nil {
				t.Fatalf("%d of %d bytes: %s", length, len(mine.receipt), verdict)
			}
		}
	})
	t.Run("every changed byte", func(t *testing.T) { everyByte(t, n, mine) })
}

// later is a receipt that the node itself signed with a clock an hour ahead.
func later(t *testing.T, key ed25519.PrivateKey, e evidence) []byte {
	t.Helper()
	s, err := receipt.Verify(e.receipt, publicOf(key))
	nettest.Check(t, err)
	s.Observation.Timings.StartedAt = time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	raw, err := receipt.Sign(s, key)
	nettest.Check(t, err)
	return raw
}

// everyByte: a receipt with one bit turned is either not accepted or says the same.
func everyByte(t *testing.T, n *node, e evidence) {
	want := receipt.Expectation{NodeKey: n.key, JobID: e.id, Stdout: blob.Of(e.out)}
	_, truth, err := receipt.Judge(e.receipt, want)
	nettest.Check(t, err)
	sum, err := truth.Result.Digest()
	nettest.Check(t, err)
	for i := range e.receipt {
		bent := slices.Clone(e.receipt)
		bent[i] ^= 1
		verdict, s, _ := receipt.Judge(bent, want)
		if verdict != receipt.Accept {
			continue
		}
		if got, err := s.Result.Digest(); err != nil || got != sum {
			t.Fatalf("byte %d: another result is accepted", i)
		}
	}
}

// wantVerdict asks phase job verify.
func wantVerdict(t *testing.T, n *node, raw []byte, id blob.Digest, out []byte, want receipt.Verdict) {
	t.Helper()
	dir := t.TempDir()
	file, output := filepath.Join(dir, "receipt.json"), filepath.Join(dir, "out")
	nettest.Check(t, os.WriteFile(file, raw, 0o600))
	nettest.Check(t, os.WriteFile(output, out, 0o600))
	cmd := exec.CommandContext(t.Context(), programs.phase, "job", "verify", file, "--node-key", job.FormatKey(n.key), "--job", id.String(), "--stdout", output)
	said, err := cmd.Output()
	status := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	} else {
		nettest.Check(t, err)
	}
	statuses := map[receipt.Verdict]int{receipt.Accept: 0, receipt.Reject: 1, receipt.Unverifiable: 3}
	if status != statuses[want] || !bytes.HasPrefix(said, []byte(want)) {
		t.Errorf("phase job verify ends with %d and says %q, want %s", status, said, want)
	}
}
