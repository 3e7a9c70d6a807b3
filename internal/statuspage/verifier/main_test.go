package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/quorum"
	"github.com/phasebased/phase/receipt"
)

const vectors = "../../../quorum/testdata/vectors"

// keysOf are the keys of the nodes of a statement's plan.
func keysOf(t *testing.T, raw []byte) string {
	t.Helper()
	var outer struct{ Payload []byte }
	var inner struct {
		Predicate struct {
			Plan struct {
				Nodes []struct{ Key, Node string }
			}
		}
	}
	if err := json.Unmarshal(raw, &outer); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(outer.Payload, &inner); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, n := range inner.Predicate.Plan.Nodes {
		keys = append(keys, n.Key+n.Node)
	}
	return strings.Join(keys, ", ")
}

// question asks as the page does.
func question(t *testing.T, q Question) Answer {
	t.Helper()
	text, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	return ask(strings.NewReader(string(text)), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
}

// TestQuorumVectors: what is right is accepted, and nothing else is.
func TestQuorumVectors(t *testing.T) {
	right, err := os.ReadFile(filepath.Join(vectors, "statement-right.json"))
	if err != nil {
		t.Fatal(err)
	}
	keys := keysOf(t, right)
	index, err := os.ReadFile(filepath.Join(vectors, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list []struct{ File, Code string }
	if err := json.Unmarshal(index, &list); err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for _, v := range list {
		raw, err := os.ReadFile(filepath.Join(vectors, v.File))
		if err != nil {
			t.Fatal(err)
		}
		of, _, _ := strings.Cut(v.File, "-")
		q := Question{Receipt: string(raw)}
		if of == "statement" {
			q.Key = keys
		}
		got := question(t, q)
		want := v.Code == "" && (of == "statement" || of == "fraud")
		if (got.Verdict == receipt.Accept) != want {
			t.Errorf("%s: %+v", v.File, got)
		}
		if want {
			accepted++
		}
	}
	if accepted < 3 {
		t.Errorf("only %d vectors were accepted", accepted)
	}
	if got := question(t, Question{Receipt: string(right)}); got.Verdict != receipt.Unverifiable || len(got.Facts) == 0 {
		t.Errorf("a statement without keys to expect: %+v", got)
	}
	undecided, err := os.ReadFile(filepath.Join(vectors, "statement-undecided.json"))
	if err != nil {
		t.Fatal(err)
	}
	if got := question(t, Question{Receipt: string(undecided), Key: keys}); got.Verdict != receipt.Unverifiable {
		t.Errorf("a round without agreement: %+v", got)
	}
	other := "sha256:" + strings.Repeat("0", 63) + "1"
	if got := question(t, Question{Receipt: string(right), Key: keys, Job: other}); got.Verdict != receipt.Reject {
		t.Errorf("a statement of another job: %+v", got)
	}
}

func TestFraudOfAnother(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(vectors, "fraud-results.json"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := quorum.VerifyFraud(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got := question(t, Question{Receipt: string(raw), Job: f.JobID.String()}); got.Verdict != receipt.Accept || len(got.Facts) != 3 {
		t.Errorf("%+v", got)
	}
	for name, q := range map[string]Question{
		"another key": {Receipt: string(raw), Key: "ed25519:3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"},
		"another job": {Receipt: string(raw), Job: "sha256:" + strings.Repeat("0", 63) + "1"},
	} {
		if got := question(t, q); got.Verdict != receipt.Reject {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestQuestions(t *testing.T) {
	for _, c := range []struct {
		name, question string
		want           receipt.Verdict
	}{
		{"nothing", "", receipt.Reject},
		{"no JSON", "receipt", receipt.Reject},
		{"too long", `{"receipt":"` + strings.Repeat("a", maxQuestion) + `"}`, receipt.Reject},
		{"no key", `{"receipt":"{}"}`, receipt.Unverifiable},
		{"no good key", `{"receipt":"{}","key":"ed25519:0"}`, receipt.Unverifiable},
		{"a weak key", `{"receipt":"{}","key":"ed25519:` + strings.Repeat("0", 64) + `"}`, receipt.Unverifiable},
		{"no good job", `{"receipt":"{}","job":"sha256:0"}`, receipt.Unverifiable},
		{"two keys for a receipt", `{"receipt":"{}","key":"ed25519:3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29 ed25519:3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"}`, receipt.Unverifiable},
	} {
		if got := ask(strings.NewReader(c.question), time.Time{}); got.Verdict != c.want || got.Reason == "" || got.Meaning == "" {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}
