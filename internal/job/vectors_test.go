package job

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
)

var update = flag.Bool("update", false, "write the vectors anew")

// vectors are submissions, each with one failure or none, and by what a node judges them.
type vectors struct {
	Node       string   `json:"node"`
	Submitters []string `json:"submitters"`
	Clock      string   `json:"clock"`
	List       []vector `json:"vectors"`
}

type vector struct {
	Name   string `json:"name"`
	File   string `json:"file"`             // its text
	Reason Reason `json:"reason"`           // "": accepted
	JobID  string `json:"job_id,omitempty"` // of one that is accepted
}

const vectorFile = "testdata/submissions.json"

// TestSubmissionVectors makes the vectors as they are described, compares them with the
// file, and judges each.
func TestSubmissionVectors(t *testing.T) {
	a := authority()
	made := vectors{Node: FormatKey(a.Node), Clock: a.Now.Format(time.RFC3339), List: allVectors(t)}
	for _, key := range a.Submitters {
		made.Submitters = append(made.Submitters, FormatKey(key))
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(made); err != nil {
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
	if len(made.List) < 60 {
		t.Errorf("only %d vectors", len(made.List))
	}
	for _, v := range made.List {
		sub, err := a.Open([]byte(v.File))
		var refusal *Refusal
		switch {
		case err == nil && (v.Reason != "" || sub.Job.ID().String() != v.JobID):
			t.Errorf("%s: accepted as %s", v.Name, sub.Job.ID())
		case err != nil && (!errors.As(err, &refusal) || refusal.Reason != v.Reason):
			t.Errorf("%s: %v, want %q", v.Name, err, v.Reason)
		}
	}
}

func allVectors(t *testing.T) (list []vector) {
	t.Helper()
	empty := blob.Of(nil).String()
	spec := fmt.Sprintf(`{"version":1,"module_hash":%q}`, module)
	base := map[string]any{
		"version": 1, "spec": json.RawMessage(spec), "audience": AnyNode, "expires_at": "2030-06-01T13:00:00Z",
		"nonce": "0123456789abcdef", "submitter": FormatKey(public("alice")),
	}
	seal := func(kind string, payload []byte, who ...string) string {
		e := dsse.Envelope{PayloadType: kind, Payload: payload}
		for _, name := range who {
			e.Signatures = append(e.Signatures, dsse.Sign(kind, payload, testKey(name)))
		}
		raw, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	payload := func(name string, value any) []byte {
		m := map[string]any{}
		for k, v := range base {
			m[k] = v
		}
		if m[name] = value; value == nil {
			delete(m, name)
		}
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	add := func(name, file string, reason Reason, job string) {
		v := vector{Name: name, File: file, Reason: reason}
		if reason == "" {
			j, err := Parse([]byte(job))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			v.JobID = j.ID().String()
		}
		list = append(list, v)
	}
	right := payload("version", 1)
	add("right", seal(SubmissionType, right, "alice"), "", spec)
	add("signed by two", seal(SubmissionType, right, "mallory", "alice"), "", spec)
	add("by a stranger", seal(SubmissionType, right, "mallory"), Unauthorised, "")
	add("by another submitter, in this one's name", seal(SubmissionType, right, "other"), Unauthorised, "")
	add("another payload type", seal("application/json", right, "alice"), Malformed, "")
	add("not signed", seal(SubmissionType, right), Unauthorised, "")
	add("a bare job", spec, Malformed, "")
	add("nothing", "", Malformed, "")
	add("a name twice", seal(SubmissionType, bytes.Replace(right, []byte(`"version":1`), []byte(`"version":1,"version":1`), 1), "alice"), Malformed, "")
	add("white space", seal(SubmissionType, bytes.ReplaceAll(right, []byte(`":`), []byte(`" : `)), "alice"), "", spec)
	for _, c := range []struct {
		name, member string
		value        any
		reason       Reason
	}{
		{"for this node", "audience", FormatKey(public("node")), ""},
		{"for another node", "audience", FormatKey(public("elsewhere")), Unauthorised},
		{"for nobody", "audience", "", Unauthorised},
		{"version 2", "version", 2, Unsupported}, {"no version", "version", nil, Unsupported},
		{"unknown member", "priority", 1, Malformed},
		{"the last moment", "expires_at", "2030-06-01T12:00:01Z", ""}, {"expired", "expires_at", "2030-06-01T12:00:00Z", Expired},
		{"a day ahead", "expires_at", "2030-06-02T12:05:00Z", ""}, {"too far ahead", "expires_at", "2030-06-02T12:05:01Z", TooBig},
		{"a time with a zone", "expires_at", "2030-06-01T13:00:00+00:00", Malformed},
		{"a time with decimals", "expires_at", "2030-06-01T13:00:00.000Z", Malformed},
		{"a day that does not exist", "expires_at", "2030-06-31T13:00:00Z", Malformed}, {"no time", "expires_at", nil, Malformed},
		{"the longest nonce", "nonce", strings.Repeat("n", 128), ""}, {"a nonce of 129 bytes", "nonce", strings.Repeat("ü", 64) + "n", Malformed},
		{"a nonce of 15 bytes", "nonce", strings.Repeat("n", 15), Malformed}, {"a NUL in the nonce", "nonce", "0123456789abcdef\x00", Malformed},
		{"no submitter", "submitter", nil, Malformed}, {"a name for a key", "submitter", "alice", Malformed},
		{"a weak submitter", "submitter", "ed25519:" + strings.Repeat("0", 64), Malformed},
		{"a submitter who may not", "submitter", FormatKey(public("mallory")), Unauthorised},
		{"no job", "spec", nil, Malformed}, {"a commitment for any node", "commit", module.String(), Malformed},
		{"a commitment to zeros", "commit", "sha256:" + strings.Repeat("0", 64), Malformed},
	} {
		add(c.name, seal(SubmissionType, payload(c.member, c.value), "alice"), c.reason, spec)
	}
	input := func(name, digest string, size any) string {
		return fmt.Sprintf(`,"inputs":{%q:{"digest":%q,"size":%v}}`, name, digest, size)
	}
	inputs := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`"f%d":{"digest":%q,"size":1}`, i, module))
		}
		return `,"inputs":{` + strings.Join(all, ",") + `}`
	}
	long := strings.Repeat("n", 65)
	for _, c := range []struct {
		name, more string
		reason     Reason
	}{
		{"job: all defaults, written out", `,"args":[],"env":{},"stdin":"","inputs":{},"limits":{"memory_bytes":0},"determinism":"","nonce":""`, ""},
		{"job: everything", `,"args":["a","ü\u0001\""],"env":{"A":"b","B":""},"stdin":"AAE=","limits":{"fuel":5,"deadline_ms":1000},"determinism":"relaxed","nonce":"n"` + input("a.txt", module.String(), 7), ""},
		{"job: unknown member", `,"cwd":"/"`, Malformed}, {"job: null", `,"args":null`, Malformed},
		{"job: unknown determinism", `,"determinism":"loose"`, Unsupported},
		{"job: a NUL in an argument", `,"args":["a\u0000"]`, Malformed}, {"job: an argument that is a number", `,"args":[1]`, Malformed},
		{"job: too many arguments", `,"args":[""` + strings.Repeat(`,""`, 1024) + `]`, TooBig},
		{"job: arguments that are too long", `,"args":["` + strings.Repeat("a", 32<<10) + `"]`, TooBig},
		{"job: a name without a text", `,"env":{"":"a"}`, Malformed}, {"job: a name with =", `,"env":{"A=":"a"}`, Malformed},
		{"job: too large an environment", `,"env":{"A":"` + strings.Repeat("a", 64<<10) + `"}`, TooBig},
		{"job: not base64", `,"stdin":"AA"`, Malformed}, {"job: base64 with bits at its end", `,"stdin":"AB=="`, Malformed},
		{"job: a negative limit", `,"limits":{"fuel":-1}`, Malformed}, {"job: unknown limit", `,"limits":{"disk":1}`, Malformed},
		{"job: a nonce of 129 bytes", `,"nonce":"` + strings.Repeat("n", 129) + `"`, TooBig},
		{"inputs: 16", inputs(16), ""}, {"inputs: 17", inputs(17), TooBig},
		{"inputs: the largest", input("A-z_0.", module.String(), 1<<40), ""},
		{"inputs: too large", input("a", module.String(), 1<<40+1), TooBig},
		{"inputs: of nothing", input("a", empty, 0), ""}, {"inputs: of nothing, and no size", `,"inputs":{"a":{"digest":"` + empty + `"}}`, ""},
		{"inputs: of nothing, with another digest", input("a", module.String(), 0), Malformed},
		{"inputs: no size", `,"inputs":{"a":{"digest":"` + module.String() + `"}}`, Malformed},
		{"inputs: no digest", `,"inputs":{"a":{"size":1}}`, Malformed}, {"inputs: a negative size", input("a", module.String(), -1), Malformed},
		{"inputs: unknown member", `,"inputs":{"a":{"digest":"` + module.String() + `","size":1,"mode":7}}`, Malformed},
		{"inputs: a path", input("a/b", module.String(), 1), Malformed}, {"inputs: the folder above", input("..", module.String(), 1), Malformed},
		{"inputs: no name", input("", module.String(), 1), Malformed}, {"inputs: a space", input("a b", module.String(), 1), Malformed},
		{"inputs: a name beyond ASCII", input("ä", module.String(), 1), Malformed}, {"inputs: the longest name", input(long[1:], module.String(), 1), ""},
		{"inputs: a name that is too long", input(long, module.String(), 1), Malformed},
		{"inputs: too large together", `,"inputs":{"a":{"digest":"` + module.String() + `","size":1099511627776},"b":{"digest":"` + module.String() + `","size":1}}`, TooBig},
	} {
		job := strings.TrimSuffix(spec, "}") + c.more + "}"
		whole := bytes.Replace(right, []byte(spec), []byte(job), 1)
		add(c.name, seal(SubmissionType, whole, "alice"), c.reason, job)
	}
	replica := func(spec string) string {
		whole := bytes.Replace(payload("audience", FormatKey(public("node"))), []byte(`"audience"`), []byte(fmt.Sprintf(`"commit":%q,"audience"`, module)), 1)
		return seal(SubmissionType, bytes.Replace(whole, []byte(`"version":1,"module_hash"`), []byte(spec+`"version":1,"module_hash"`), 1), "alice")
	}
	add("of a quorum", replica(""), "", spec)
	add("of a quorum, and relaxed", replica(`"determinism":"relaxed",`), Unsupported, "")
	return list
}
