package lab

import (
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/receipt"
)

// walkOf feeds events to a follower, each with the host's time since power-on,
// and reports whether it was the last word.
func walkOf(t *testing.T, last LastWord, events ...any) (*follower, bool) {
	t.Helper()
	start := time.Unix(1000, 0)
	f := newFollower(start, last)
	done := false
	for i := 0; i < len(events); i += 2 {
		if done {
			t.Fatalf("event %d comes after the last word", i/2)
		}
		var err error
		done, err = f.take(events[i+1].(timeline.Event), start.Add(events[i].(time.Duration)))
		if err != nil {
			t.Fatal(err)
		}
	}
	return f, done
}

func at(kernel, name, stage string, at time.Duration) timeline.Event {
	return timeline.Event{Event: name, Kernel: kernel, Stage: stage, AtNS: int64(at)}
}

func TestKernelsAreLaidEndToEnd(t *testing.T) {
	ready := at("node", timeline.EventNodeReady, "", 4*time.Second)
	ready.Data = []byte(`{"peer_id":"12D3","node_key":"ed25519:00","p2p_addrs":[]}`)
	f, done := walkOf(t, ReceiptDelivered,
		// The first line is late, as one that waited for its port; the second is not.
		9*time.Second, at("seed", timeline.EventStageStart, "network", 3*time.Second),
		9*time.Second, at("seed", timeline.EventStageEnd, "network", 4*time.Second),
		9500*time.Millisecond, at("seed", timeline.EventStageStart, timeline.StageHandover, 4500*time.Millisecond),
		10*time.Second, at("seed", timeline.EventStageEnd, timeline.StageHandover, 5*time.Second),
		16*time.Second, ready,
		17*time.Second, at("node", timeline.EventStageStart, "job hello", 5*time.Second),
		18*time.Second, at("node", timeline.EventStageEnd, "job hello", 6*time.Second),
		18*time.Second, at("node", timeline.EventReceipt, "job hello", 6*time.Second),
		19*time.Second, at("node", timeline.EventStageEnd, "receipt hello", 7*time.Second),
	)
	if !done {
		t.Error("a delivered receipt is not the last word")
	}
	want := []Stage{
		{Name: "firmware", Kernel: "firmware", End: 5 * time.Second},
		{Name: "seed", Kernel: "seed", Start: 5 * time.Second, End: 8 * time.Second},
		{Name: "network", Kernel: "seed", Start: 8 * time.Second, End: 9 * time.Second},
		{Name: "hand-over", Kernel: "seed", Start: 9500 * time.Millisecond, End: 12 * time.Second},
		{Name: "node", Kernel: "node", Start: 12 * time.Second, End: 16 * time.Second},
		{Name: "first job", Kernel: "node", Start: 17 * time.Second, End: 18 * time.Second, Note: "hello"},
	}
	walk := f.walk()
	for i, stage := range want {
		if i >= len(walk) || walk[i] != stage {
			t.Fatalf("stage %d is %+v, want %+v", i, walk[min(i, len(walk)-1)], stage)
		}
	}
}

func TestLastWords(t *testing.T) {
	failed := at("seed", timeline.EventFailed, "verify", time.Second)
	failed.Code = "VFY-004"
	refused := at("node", timeline.EventStageEnd, "receipt hello", time.Second)
	refused.Code = "NODE-030"
	offered, nothing := at("node", timeline.EventAnnounced, "", 1), at("node", timeline.EventAnnounced, "", 1)
	offered.Data, nothing.Data = []byte(`{"announced":{"version":7}}`), []byte(`{"announced":null,"announce_error":"no card"}`)
	ready, handedOver := at("node", timeline.EventNodeReady, "", 1), at("seed", timeline.EventHandover, "", 1)
	ready.Data, handedOver.Data = []byte(`{"node_key":"","peer_id":"","p2p_addrs":[]}`), []byte(`{}`)
	tests := map[string]struct {
		last    LastWord
		event   timeline.Event
		done    bool
		failure string
	}{
		"failure":                     {ReceiptDelivered, failed, true, "VFY-004"},
		"receipt not delivered":       {ReceiptDelivered, refused, true, "NODE-030"},
		"receipt shown, not the last": {ReceiptDelivered, at("node", timeline.EventReceipt, "", 1), false, ""},
		"receipt shown":               {ReceiptShown, at("node", timeline.EventReceipt, "", 1), true, ""},
		"node ready, not the last":    {ReceiptShown, ready, false, ""},
		"node ready":                  {NodeReady, ready, true, ""},
		"hand-over, not the last":     {NodeReady, handedOver, false, ""},
		"hand-over":                   {HandedOver, handedOver, true, ""},
		"failed before the hand-over": {HandedOver, failed, true, "VFY-004"},
		"offered":                     {Offered, offered, true, ""},
		"offered, not the last":       {ReceiptShown, offered, false, ""},
		"nothing offered":             {Offered, nothing, false, ""},
		"unknown event":               {ReceiptDelivered, at("node", "weather", "", 1), false, ""},
	}
	for name, tt := range tests {
		f, done := walkOf(t, tt.last, time.Second, tt.event)
		code := ""
		if f.out.Failure != nil {
			code = f.out.Failure.Code
		}
		if done != tt.done || code != tt.failure {
			t.Errorf("%s: done %v with %q, want %v with %q", name, done, code, tt.done, tt.failure)
		}
	}
}

func TestCheckRefusal(t *testing.T) {
	refusal := func(code string, events ...string) *Outcome {
		return &Outcome{Failure: &Failure{Code: code}, Events: events}
	}
	tests := map[string]struct {
		tamper string
		o      *Outcome
		want   string // part of the error; empty: a proper refusal
	}{
		"refused":                   {"kernel", refusal("FETCH-002", "seed/failed"), ""},
		"job refused by node":       {"hello", refusal("FETCH-002", "node/failed"), ""},
		"not refused":               {"kernel", &Outcome{}, "did NOT refuse"},
		"another failure":           {"manifest", refusal("NET-001"), "another reason"},
		"the node ran all the same": {"pointer", refusal("VFY-004", "node/node-ready"), "node/node-ready"},
		"handed over":               {"kernel", refusal("FETCH-002", "seed/handover"), "seed/handover"},
	}
	for name, tt := range tests {
		err := CheckRefusal(tt.tamper, tt.o)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	for _, tamper := range Tampers() {
		if refusals[tamper] == "" {
			t.Errorf("no code is expected for %s", tamper)
		}
	}
}

func TestParseKey(t *testing.T) {
	text := KeyText(make([]byte, 32))
	if _, err := ParseKey(text); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "ed25519:", text + "00", "rsa:" + text[8:], strings.ToUpper(text), text[:len(text)-1] + "g"} {
		if _, err := ParseKey(bad); err == nil {
			t.Errorf("%.40q was accepted", bad)
		}
	}
}

func TestWhereArtifactsCameFrom(t *testing.T) {
	end := at("seed", timeline.EventStageEnd, timeline.StageFetch, 2*time.Second)
	end.Data = []byte(`[{"name":"kernel","size":3,"seconds":0.5,"sources":[{"source":"http://m","bytes":3,"rate":6.0,"verdict":"good"}]}]`)
	f, _ := walkOf(t, ReceiptDelivered, time.Second, at("seed", timeline.EventStageStart, timeline.StageFetch, time.Second), 2*time.Second, end)
	if got := f.out.Fetched; len(got) != 1 || got[0].Name != "kernel" || len(got[0].Sources) != 1 || got[0].Sources[0].Bytes != 3 {
		t.Errorf("%+v", got)
	}
}

// TestSeveralLastWords: they may come in any order.
func TestSeveralLastWords(t *testing.T) {
	for _, order := range [][]LastWord{{Offered, ReceiptShown}, {ReceiptShown, Offered}} {
		f := newFollower(time.Now(), ReceiptShown, Offered)
		if f.said(HandedOver) || f.said(order[0]) || f.said(order[0]) || !f.said(order[1]) {
			t.Errorf("%v: not done when both were said, or before", order)
		}
	}
}

// TestVerifyShown: a receipt counts if the key signed it that the machine named.
func TestVerifyShown(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	digest := blob.Of(nil)
	raw, err := receipt.Sign(receipt.Statement{
		Result: receipt.Result{
			JobID: digest, Module: digest, Stdin: digest, EndState: receipt.Exited,
			Stdout: receipt.Output{Digest: digest}, Stderr: receipt.Output{Digest: digest},
			Fuel: receipt.Fuel{CostTable: 1}, Determinism: receipt.Strict,
		},
		Observation: receipt.Observation{Engine: "test 1", Walls: []string{"wasm"}},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	other := KeyText(make([]byte, ed25519.PublicKeySize))
	mine := KeyText(key.Public().(ed25519.PublicKey))
	for name, tt := range map[string]struct {
		o  Outcome
		ok bool
	}{
		"its own key":     {Outcome{Node: &NodeInfo{Key: mine}, shown: raw}, true},
		"another key":     {Outcome{Node: &NodeInfo{Key: other}, shown: raw}, false},
		"no key":          {Outcome{shown: raw}, false},
		"a malformed key": {Outcome{Node: &NodeInfo{Key: "key"}, shown: raw}, false},
		"no receipt":      {Outcome{Node: &NodeInfo{Key: mine}}, false},
	} {
		if err := tt.o.VerifyShown(); (err == nil) != tt.ok || (tt.o.Receipt != nil) != tt.ok {
			t.Errorf("%s: %v, receipt %v", name, err, tt.o.Receipt)
		}
	}
}
