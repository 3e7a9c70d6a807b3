package main

import (
	"crypto/ed25519"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/dispatch"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/receipt"
)

// TestAnswersOfStrangers: who named no node is told whose word an answer is, and who
// named its node is not.
func TestAnswersOfStrangers(t *testing.T) {
	keyOf := func(n byte) ed25519.PublicKey {
		return ed25519.NewKeyFromSeed(append(make([]byte, 31), n)).Public().(ed25519.PublicKey)
	}
	single := &dispatch.Answer{Statement: receipt.Statement{Observation: receipt.Observation{NodeKey: keyOf(1)}}}
	several := &dispatch.Answer{Quorum: []byte("{}"), Agreed: 2, Attempts: []dispatch.Attempt{
		{Node: job.FormatKey(keyOf(1)), Outcome: "agreed"}, {Node: job.FormatKey(keyOf(2)), Outcome: "agreed"},
		{Node: job.FormatKey(keyOf(3)), Outcome: "dissented"},
	}}
	nobody := &places{wanted: map[string]bool{}}
	for _, c := range []struct {
		name   string
		a      *dispatch.Answer
		list   knownNodes
		at     *places
		there  []peer.Peer
		answer string
	}{
		{"a stranger", single, nil, nobody, nil, "a stranger ran the job, " + job.FormatKey(keyOf(1))},
		{"named by --on", single, nil, &places{wanted: map[string]bool{job.FormatKey(keyOf(1)): true}}, nil, ""},
		{"named with an address", single, nil, nobody, []peer.Peer{{Key: keyOf(1)}}, ""},
		{"of the list", single, knownNodes{{key: keyOf(1)}}, nobody, nil, ""},
		{"not of the list", single, knownNodes{{key: keyOf(2)}}, nobody, nil, "a stranger"},
		{"a quorum of strangers", several, nil, nobody, nil, "2 of the 2 nodes that agree are strangers"},
		{"one of two", several, knownNodes{{key: keyOf(2)}}, nobody, nil, "1 of the 2 nodes that agree are strangers"},
		{"a quorum of the known", several, knownNodes{{key: keyOf(2)}, {key: keyOf(1)}}, nobody, nil, ""},
	} {
		got := ofStrangers(c.a, c.list.with(c.at, c.there))
		if c.answer == "" && got != "" || !strings.Contains(got, c.answer) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}
