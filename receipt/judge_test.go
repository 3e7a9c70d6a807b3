package receipt

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
)

func TestJudge(t *testing.T) {
	s := testStatement()
	raw, err := Sign(s, testKey("node"))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := dsse.Open(raw, PayloadType, MaxBytes, []ed25519.PublicKey{pub("node")}, 1)
	if err != nil {
		t.Fatal(err)
	}
	node := pub("node")
	started := s.Observation.Timings.StartedAt
	newer := bytes.Replace(payload, []byte(PredicateType), []byte("https://phasebased.dev/receipt/v9"), 1)
	for _, c := range []struct {
		name string
		raw  []byte
		want Expectation
		is   Verdict
		err  error
	}{
		{"everything fits", raw, Expectation{node, s.Result.JobID, s.Result.Stdout.Digest, s.Result.Stderr.Digest, started}, Accept, nil},
		{"only the key", raw, Expectation{NodeKey: node}, Accept, nil},
		{"a clock that is behind", raw, Expectation{NodeKey: node, Now: started.Add(-MaxAhead)}, Accept, nil},
		{"no key", raw, Expectation{}, Unverifiable, ErrNoKey},
		{"a weak key", raw, Expectation{NodeKey: make([]byte, 32)}, Unverifiable, ErrKey},
		{"a newer kind", resign(t, PayloadType, newer, testKey("node")), Expectation{NodeKey: node}, Unverifiable, ErrUnknown},
		{"a newer kind of a stranger", resign(t, PayloadType, newer, testKey("other")), Expectation{NodeKey: node}, Reject, ErrSignature},
		{"something else", resign(t, PayloadType, []byte(`{"predicateType":"https://example.org/v1"}`), testKey("node")), Expectation{NodeKey: node}, Reject, ErrMalformed},
		{"another node", raw, Expectation{NodeKey: pub("other")}, Reject, ErrSignature},
		{"truncated", raw[:len(raw)-1], Expectation{NodeKey: node}, Reject, ErrMalformed},
		{"too large", make([]byte, MaxBytes+1), Expectation{NodeKey: node}, Reject, ErrSize},
		{"another job", raw, Expectation{NodeKey: node, JobID: blob.Of([]byte("x"))}, Reject, ErrOtherJob},
		{"another stdout", raw, Expectation{NodeKey: node, Stdout: blob.Of([]byte("x"))}, Reject, ErrOutput},
		{"another stderr", raw, Expectation{NodeKey: node, Stderr: blob.Of([]byte("x"))}, Reject, ErrOutput},
		{"from the future", raw, Expectation{NodeKey: node, Now: started.Add(-MaxAhead - time.Second)}, Reject, ErrFuture},
	} {
		is, got, err := Judge(c.raw, c.want)
		if is != c.is || !errors.Is(err, c.err) || (err == nil) != (c.is == Accept) {
			t.Errorf("%s: %s, %v", c.name, is, err)
		}
		if (is == Accept) != (got.Result.JobID == s.Result.JobID) {
			t.Errorf("%s: %s with a statement of %s", c.name, is, got.Result.JobID)
		}
	}
}
