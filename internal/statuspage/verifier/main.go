// Command verifier judges a receipt, a quorum statement or a proof of fraud, on its own, in whatever runs WebAssembly: it
// is built for WASI preview 1 and served with the status page, which runs it in the
// visitor's browser.
//
// It reads one Question as JSON from standard input and writes one Answer as JSON to
// standard output. The judgement is that of packages receipt and quorum, which phase
// job verify uses too: nothing is decided here. It asks nobody: what it does not get, it does not
// know, the key to expect most of all.
package main

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/statuspage/claims"
	"github.com/phasebased/phase/quorum"
	"github.com/phasebased/phase/receipt"
)

// Question is what to judge, and by what.
type Question struct {
	Receipt string `json:"receipt"` // the file's text, of whatever kind
	Key     string `json:"key"`     // that is expected, as ed25519:<hex>; several, with spaces or commas between them, for a quorum; empty: none is
	Job     string `json:"job"`     // that was submitted, as sha256:<hex>; empty: any
}

// Answer is the verdict, and why.
type Answer struct {
	Verdict receipt.Verdict `json:"verdict"`
	Meaning string          `json:"meaning"`
	Reason  string          `json:"reason"` // empty for ACCEPT
	Code    string          `json:"code"`   // of docs/codes.md, or empty
	Hint    string          `json:"hint"`
	Facts   [][2]string     `json:"facts"` // what an accepted receipt says: names and values
}

// maxQuestion bounds a question in bytes: the largest document, and room for escapes.
const maxQuestion = quorum.MaxStatementBytes * 3 / 2

func main() {
	answer := ask(os.Stdin, time.Now())
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		panic(err) // there is nobody else to tell
	}
}

func ask(r io.Reader, now time.Time) Answer {
	raw, err := io.ReadAll(io.LimitReader(r, maxQuestion+1))
	if err == nil && len(raw) > maxQuestion {
		err = receipt.ErrSize
	}
	var q Question
	if err == nil {
		err = json.Unmarshal(raw, &q)
	}
	if err != nil {
		return no(receipt.Reject, err)
	}
	return judge(q, now)
}

// judge is UNVERIFIABLE where the question itself is not one: that says nothing
// about the document.
func judge(q Question, now time.Time) Answer {
	var keys []ed25519.PublicKey
	for _, text := range strings.FieldsFunc(q.Key, func(r rune) bool { return unicode.IsSpace(r) || r == ',' }) {
		key, err := job.ParseKey(text)
		if err != nil {
			return no(receipt.Unverifiable, fmt.Errorf("the expected key is none: %w", err))
		}
		keys = append(keys, key)
	}
	var id blob.Digest
	if q.Job != "" {
		var err error
		if id, err = blob.Parse(q.Job); err != nil {
			return no(receipt.Unverifiable, fmt.Errorf("the expected job is none: %w", err))
		}
	}
	raw := []byte(q.Receipt)
	switch kindOf(raw) {
	case quorumStatement:
		return judgeQuorum(raw, keys, id)
	case proofOfFraud:
		return judgeFraud(raw, keys, id)
	}
	return judgeReceipt(raw, keys, id, now)
}

func judgeReceipt(raw []byte, keys []ed25519.PublicKey, id blob.Digest, now time.Time) Answer {
	want := receipt.Expectation{JobID: id, Now: now}
	switch len(keys) {
	case 0:
	case 1:
		want.NodeKey = keys[0]
	default:
		return no(receipt.Unverifiable, errors.New("several keys are expected, and a receipt has one: name the node's"))
	}
	verdict, s, err := receipt.Judge(raw, want)
	if err != nil {
		return no(verdict, err)
	}
	return Answer{Verdict: verdict, Meaning: "The expected key signed exactly this receipt.", Facts: claims.Of(s)}
}

// judgeQuorum takes the plan's word for how many have to agree, and nobody's for
// whose votes count.
func judgeQuorum(raw []byte, keys []ed25519.PublicKey, id blob.Digest) Answer {
	want := quorum.Expectation{JobID: id}
	for _, key := range keys {
		want.Nodes = append(want.Nodes, quorum.Node{Key: key})
	}
	verdict, v, err := quorum.Judge(raw, want)
	a := Answer{Verdict: verdict, Meaning: "Enough of the expected nodes came to the same result, each on its own."}
	if err != nil {
		a = no(verdict, err)
	}
	if v != nil {
		a.Facts = claims.OfQuorum(v)
	}
	return a
}

// judgeFraud needs no key. One that is named is whose fraud is looked for.
func judgeFraud(raw []byte, keys []ed25519.PublicKey, id blob.Digest) Answer {
	f, err := quorum.VerifyFraud(raw)
	switch {
	case err != nil:
		return no(receipt.Reject, err)
	case len(keys) > 0 && !slices.ContainsFunc(keys, func(k ed25519.PublicKey) bool { return k.Equal(f.Key) }):
		return no(receipt.Reject, fmt.Errorf("it proves fraud of another key: %s", job.FormatKey(f.Key)))
	case !id.IsZero() && id != f.JobID:
		return no(receipt.Reject, fmt.Errorf("it is about another job: %s", f.JobID))
	}
	return Answer{Verdict: receipt.Accept, Meaning: "Whoever holds this key has signed what contradicts itself.", Facts: [][2]string{
		{"Key", job.FormatKey(f.Key)}, {"Proof", strings.ReplaceAll(string(f.Kind), "_", " ")}, {"Job", f.JobID.String()},
	}}
}

// kind is what a document says that it is. It only chooses who judges it.
type kind int

const (
	aReceipt kind = iota
	quorumStatement
	proofOfFraud
)

func kindOf(raw []byte) kind {
	var outer struct {
		Type    string `json:"type"`
		Payload []byte `json:"payload"`
	}
	if json.Unmarshal(raw, &outer) != nil {
		return aReceipt
	}
	if outer.Type == quorum.FraudType {
		return proofOfFraud
	}
	var inner struct {
		PredicateType string `json:"predicateType"`
	}
	if json.Unmarshal(outer.Payload, &inner) == nil && inner.PredicateType == quorum.PredicateType {
		return quorumStatement
	}
	return aReceipt
}

func no(verdict receipt.Verdict, err error) Answer {
	a := Answer{Verdict: verdict, Meaning: "Something speaks against this document.", Reason: err.Error(), Facts: [][2]string{}}
	if verdict == receipt.Unverifiable {
		a.Meaning = "Nothing speaks against this document and nothing for it."
	}
	var coded interface{ Code() string }
	if errors.As(err, &coded) {
		a.Code = coded.Code()
	}
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		a.Hint = hinted.Hint()
	}
	return a
}
