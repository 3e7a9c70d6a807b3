// Command verifier judges a receipt, on its own, in whatever runs WebAssembly: it
// is built for WASI preview 1 and served with the status page, which runs it in the
// visitor's browser.
//
// It reads one Question as JSON from standard input and writes one Answer as JSON to
// standard output. The judgement is package receipt's, which phase job verify uses
// too: nothing is decided here. It asks nobody: what it does not get, it does not
// know, the key to expect most of all.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/statuspage/claims"
	"github.com/phasebased/phase/receipt"
)

// Question is what to judge, and by what.
type Question struct {
	Receipt string `json:"receipt"` // the file's text
	Key     string `json:"key"`     // that is expected, as ed25519:<hex>; empty: none is
	Job     string `json:"job"`     // that was submitted, as sha256:<hex>; empty: any
}

// Answer is the verdict, and why.
type Answer struct {
	Verdict receipt.Verdict `json:"verdict"`
	Reason  string          `json:"reason"` // empty for ACCEPT
	Code    string          `json:"code"`   // of docs/codes.md, or empty
	Hint    string          `json:"hint"`
	Facts   [][2]string     `json:"facts"` // what an accepted receipt says: names and values
}

// maxQuestion bounds a question in bytes: a receipt, and room for escapes.
const maxQuestion = 6*receipt.MaxBytes + 4096

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
// about the receipt.
func judge(q Question, now time.Time) Answer {
	want := receipt.Expectation{Now: now}
	var err error
	if q.Key != "" {
		if want.NodeKey, err = job.ParseKey(q.Key); err != nil {
			return no(receipt.Unverifiable, fmt.Errorf("the expected key is none: %w", err))
		}
	}
	if q.Job != "" {
		if want.JobID, err = blob.Parse(q.Job); err != nil {
			return no(receipt.Unverifiable, fmt.Errorf("the expected job is none: %w", err))
		}
	}
	verdict, s, err := receipt.Judge([]byte(q.Receipt), want)
	if err != nil {
		return no(verdict, err)
	}
	return Answer{Verdict: verdict, Facts: claims.Of(s)}
}

func no(verdict receipt.Verdict, err error) Answer {
	a := Answer{Verdict: verdict, Reason: err.Error(), Facts: [][2]string{}}
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
