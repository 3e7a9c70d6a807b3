package receipt

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
)

var update = flag.Bool("update", false, "write the vectors anew")

// A vector is a receipt with one failure, or none, and what a verifier knows and has to
// answer. What it does not know is empty.
type vector struct {
	Name    string  `json:"name"`
	File    string  `json:"file"` // its text
	NodeKey string  `json:"node_key,omitempty"`
	JobID   string  `json:"job_id,omitempty"`
	Stdout  string  `json:"stdout,omitempty"`
	Stderr  string  `json:"stderr,omitempty"`
	Clock   string  `json:"clock,omitempty"`
	Verdict Verdict `json:"verdict"`
	Code    string  `json:"code"` // "" of ACCEPT
}

const vectorFile = "testdata/vectors.json"

// TestVectors makes the vectors as they are described, compares them with the file, and
// asks for a verdict on each.
func TestVectors(t *testing.T) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(allVectors(t)); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(vectorFile, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, out.Bytes()) {
		t.Fatalf("%s is not what the vectors are: go test -update writes it", vectorFile)
	}
	var list []vector
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	if len(list) < 50 {
		t.Errorf("only %d vectors", len(list))
	}
	for _, v := range list {
		is, _, err := Judge([]byte(v.File), v.expects(t))
		var coded interface{ Code() string }
		code := ""
		if errors.As(err, &coded) {
			code = coded.Code()
		}
		if is != v.Verdict || code != v.Code {
			t.Errorf("%s: %s %s (%v), want %s %s", v.Name, is, code, err, v.Verdict, v.Code)
		}
	}
}

func (v vector) expects(t *testing.T) (want Expectation) {
	t.Helper()
	fail := func(err error) {
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
	}
	switch {
	case v.NodeKey == weakKey: // the caller's own reader would refuse it
		want.NodeKey = make([]byte, ed25519.PublicKeySize)
	case v.NodeKey != "":
		var key wireKey
		fail(key.UnmarshalText([]byte(v.NodeKey)))
		want.NodeKey = ed25519.PublicKey(key)
	}
	for text, digest := range map[string]*blob.Digest{v.JobID: &want.JobID, v.Stdout: &want.Stdout, v.Stderr: &want.Stderr} {
		if text != "" {
			var err error
			*digest, err = blob.Parse(text)
			fail(err)
		}
	}
	if v.Clock != "" {
		var err error
		want.Now, err = time.Parse(time.RFC3339, v.Clock)
		fail(err)
	}
	return want
}

var weakKey = keyPrefix + strings.Repeat("0", 64)

func allVectors(t *testing.T) []vector {
	t.Helper()
	node, other := testKey("node"), testKey("other")
	signed := func(change func(*Statement)) string {
		s := testStatement()
		s.Result.Inputs = map[string]Input{"a.txt": {blob.Of([]byte("a")), 1}}
		change(&s)
		raw, err := Sign(s, node)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	right := signed(func(*Statement) {})
	payload, err := dsse.Open([]byte(right), PayloadType, MaxBytes, []ed25519.PublicKey{pub("node")}, 1)
	if err != nil {
		t.Fatal(err)
	}
	edited := func(old, new string) []byte {
		out := bytes.Replace(payload, []byte(old), []byte(new), 1)
		if bytes.Equal(out, payload) {
			t.Fatalf("the payload has no %s", old)
		}
		return out
	}
	nodeKey := textOf(t, pub("node"))
	list := []vector{
		{Name: "right", File: right},
		{Name: "right, and everything is known", File: right, JobID: blob.Of([]byte("job")).String(),
			Stdout: blob.Of([]byte("dlroW ,olleH\n")).String(), Stderr: blob.Of(nil).String(), Clock: "2026-03-01T12:00:00Z"},
		{Name: "the node's clock is 5 minutes ahead", File: right, Clock: "2026-03-01T11:55:01Z"},
		{Name: "the node's clock is more than 5 minutes ahead", File: right, Clock: "2026-03-01T11:54:00Z", Code: "VFY-037"},
		{Name: "another job", File: right, JobID: blob.Of([]byte("x")).String(), Code: "VFY-035"},
		{Name: "another output", File: right, Stdout: blob.Of([]byte("x")).String(), Code: "VFY-036"},
		{Name: "another standard error", File: right, Stderr: blob.Of([]byte("x")).String(), Code: "VFY-036"},
		{Name: "another node", File: right, NodeKey: textOf(t, pub("other")), Code: "VFY-032"},
		{Name: "no key is expected", File: right, NodeKey: "none", Verdict: Unverifiable, Code: "VFY-039"},
		{Name: "a weak key is expected", File: right, NodeKey: weakKey, Verdict: Unverifiable, Code: "VFY-034"},
		{Name: "nothing", File: "", Code: "VFY-031"},
		{Name: "cut short", File: right[:len(right)-1], Code: "VFY-031"},
		{Name: "a byte more", File: right + "1", Code: "VFY-031"},
		{Name: "white space around", File: " " + right + "\n"},
		{Name: "too large", File: right + strings.Repeat(" ", MaxBytes+1-len(right)), Code: "VFY-030"},
		{Name: "as large as may be", File: right + strings.Repeat(" ", MaxBytes-len(right))},
		{Name: "another payload type", File: string(resign(t, "application/json", payload, node)), Code: "VFY-031"},
		{Name: "another one has signed in the node's name", File: string(resign(t, PayloadType, payload, other)), Code: "VFY-032"},
		{Name: "signed by the node, in another's name", File: string(resign(t, PayloadType, edited(nodeKey, textOf(t, pub("other"))), node)), Code: "VFY-033"},
		{Name: "a newer kind", File: string(resign(t, PayloadType, edited("receipt/v0.2", "receipt/v9"), node)), Verdict: Unverifiable, Code: "VFY-038"},
		{Name: "a newer kind with members of its own", File: string(resign(t, PayloadType, []byte(`{"new":1,"predicateType":"https://phasebased.dev/receipt/v1"}`), node)), Verdict: Unverifiable, Code: "VFY-038"},
		{Name: "another predicate", File: string(resign(t, PayloadType, edited("/receipt/", "/other/"), node)), Code: "VFY-031"},
		{Name: "ended by a fault", File: signed(func(s *Statement) { s.Result.EndState, s.Result.ExitCode, s.Result.Trap = Trapped, 0, "unreachable" })},
		{Name: "out of fuel", File: signed(func(s *Statement) { s.Result.EndState, s.Result.ExitCode, s.Result.Fuel.Used = OutOfFuel, 0, 1000 })},
		{Name: "relaxed, without inputs, arguments, system and submitter", File: signed(func(s *Statement) {
			s.Result.Inputs, s.Result.Args, s.Result.Determinism = nil, []string{}, Relaxed
			s.Observation.Booted, s.Observation.Submitter, s.Observation.Walls = nil, nil, []string{}
		})},
	}
	for _, c := range []struct{ name, old, new string }{
		{"statement of another version", "Statement/v1", "Statement/v0"},
		{"unknown member", `"engine":`, `"also":1,"engine":`},
		{"member twice", `"engine":`, `"engine":"x","engine":`},
		{"white space", `"engine":`, `"engine": `},
		{"no engine", `"engine":"wazero 1.12.0",`, ``},
		{"unknown end", `"exited"`, `"great"`},
		{"a fault of a job that exited", `"stderr":{"digest"`, `"trap":"x","stderr":{"digest"`},
		{"an exit code of a job that did not exit", `"exited"`, `"deadline"`},
		{"an exit code of 33 bits", `"exit_code":3`, `"exit_code":4294967296`},
		{"a negative exit code", `"exit_code":3`, `"exit_code":-1`},
		{"a fraction", `"exit_code":3`, `"exit_code":3.0`},
		{"more fuel than there was", `"used":17`, `"used":1001`},
		{"no cost table", `"cost_table":1`, `"cost_table":0`},
		{"a negative limit", `"deadline_ms":10000`, `"deadline_ms":-1`},
		{"out of fuel, with fuel left", `"end_state":"exited","exit_code":3`, `"end_state":"out_of_fuel","exit_code":0`},
		{"unknown determinism", `"strict"`, `"loose"`},
		{"other arguments than their digest", `"zwei"`, `"drei"`},
		{"arguments null", `["Hello, World","zwei",""]`, `null`},
		{"other subject than the result", `"subject":[{"digest":{"sha256":"`, `"subject":[{"digest":{"sha256":"00`},
		{"a negative size", `"size":13`, `"size":-13`},
		{"a negative time", `"queue_ns":1`, `"queue_ns":-1`},
		{"a time without its decimals", `12:00:00.005Z`, `12:00:00Z`},
		{"a day that does not exist", `2026-03-01T`, `2026-02-30T`},
		{"an empty submitter", textOf(t, pub("submitter")), ""},
		{"a weak submitter", textOf(t, pub("submitter")), weakKey},
		{"system of version 0", `"manifest_version":7`, `"manifest_version":0`},
		{"an input whose name is a path", `"a.txt"`, `"a/txt"`},
		{"an input whose name begins with a dot", `"a.txt"`, `".atx"`},
		{"an input of no size", `},"job_id"`, `,"x":{}},"job_id"`},
		{"an input of a negative size", `"size":1}}`, `"size":-1}}`},
		{"an input that is too large", `"size":1}}`, `"size":1099511627777}}`},
		{"a digest of zeros", blob.Of([]byte("module")).Hex(), strings.Repeat("0", 64)},
		{"a digest in capitals", blob.Of([]byte("module")).Hex(), strings.ToUpper(blob.Of([]byte("module")).Hex())},
	} {
		list = append(list, vector{Name: c.name, File: string(resign(t, PayloadType, edited(c.old, c.new), node)), Code: "VFY-031"})
	}
	for i := range list {
		switch v := &list[i]; {
		case v.NodeKey == "none":
			v.NodeKey = ""
		case v.NodeKey == "":
			v.NodeKey = nodeKey
		}
		if list[i].Verdict == "" {
			list[i].Verdict = map[bool]Verdict{true: Accept, false: Reject}[list[i].Code == ""]
		}
	}
	return list
}
