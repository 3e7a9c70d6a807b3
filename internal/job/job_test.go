package job

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
)

var module = blob.Of([]byte("module"))

func TestCanonicalFormIsFixed(t *testing.T) {
	j, err := New(Spec{
		Version: 1, Module: module, Args: []string{"b", "a"},
		Env: map[string]string{"Z": "1", "A": "2"}, Stdin: []byte("in"), Nonce: "n",
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"args":["b","a"],"determinism":"strict","env":{"A":"2","Z":"1"},` +
		`"limits":{"deadline_ms":20000,"fuel":400000000000,"memory_bytes":67108864,"stderr_bytes":262144,"stdout_bytes":1048576},` +
		`"module_hash":"sha256:120970d812836f19888625587a4606a5ad23cef31c8684e601771552548fc6b9",` +
		`"nonce":"n","stdin":"aW4=","version":1}`
	if got := string(j.Payload()); got != want {
		t.Errorf("payload\n%s\nwant\n%s", got, want)
	}
	if j.ID() != blob.Of([]byte(want)) {
		t.Error("the id is not the digest of the payload")
	}
}

func TestSpellingDoesNotChangeTheJob(t *testing.T) {
	short := parse(t, `{"version":1,"module_hash":"`+module.String()+`"}`)
	long := parse(t, ` { "module_hash" : "`+module.String()+`", "version" : 1, "args" : [], "env": {},
		"stdin": "", "nonce": "", "limits": {"memory_bytes": 67108864, "deadline_ms": 0} } `)
	if short.ID() != long.ID() {
		t.Errorf("two spellings of one job:\n%s\n%s", short.Payload(), long.Payload())
	}
	again := parse(t, string(short.Payload()))
	if again.ID() != short.ID() {
		t.Error("parsing the payload gave another job")
	}
	other := parse(t, `{"version":1,"module_hash":"`+module.String()+`","nonce":"2"}`)
	if other.ID() == short.ID() {
		t.Error("the nonce did not make another job")
	}
}

func parse(t *testing.T, raw string) *Job {
	t.Helper()
	j, err := Parse([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestJobDoesNotChange(t *testing.T) {
	spec := Spec{Version: 1, Module: module, Args: []string{"a"}, Env: map[string]string{"K": "v"}, Stdin: []byte("in")}
	j, err := New(spec)
	if err != nil {
		t.Fatal(err)
	}
	before := string(j.Payload())
	spec.Args[0], spec.Env["K"], spec.Stdin[0] = "x", "x", 'x'
	given := j.Spec()
	given.Args[0], given.Env["K"], given.Stdin[0] = "y", "y", 'y'
	j.Payload()[0] = 'z'
	if s := j.Spec(); s.Args[0] != "a" || s.Env["K"] != "v" || string(s.Stdin) != "in" || string(j.Payload()) != before {
		t.Errorf("the job changed: %+v", s)
	}
}

func TestRefusals(t *testing.T) {
	with := func(field string) string {
		return `{"version":1,"module_hash":"` + module.String() + `",` + field + `}`
	}
	list := func(n int, item string) string {
		return "[" + strings.Repeat(item+",", n-1) + item + "]"
	}
	env := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"K%d":""`, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	for _, c := range []struct {
		name, raw string
		reason    Reason
	}{
		{"empty", "", Malformed},
		{"not JSON", "hello", Malformed},
		{"null", "null", Malformed},
		{"array", "[]", Malformed},
		{"no module", `{"version":1}`, Malformed},
		{"no version", `{"module_hash":"` + module.String() + `"}`, Unsupported},
		{"version 2", `{"version":2,"module_hash":"` + module.String() + `"}`, Unsupported},
		{"version as text", `{"version":"1","module_hash":"` + module.String() + `"}`, Malformed},
		{"bare hash", `{"version":1,"module_hash":"` + module.Hex() + `"}`, Malformed},
		{"upper-case hash", `{"version":1,"module_hash":"sha256:` + strings.ToUpper(module.Hex()) + `"}`, Malformed},
		{"unknown member", with(`"cpu":1`), Malformed},
		{"other case", with(`"Args":[]`), Malformed},
		{"twice", with(`"nonce":"a","nonce":"b"`), Malformed},
		{"null arguments", with(`"args":null`), Malformed},
		{"trailing bytes", with(`"args":[]`) + "x", Malformed},
		{"NUL in argument", with(`"args":["a\u0000b"]`), Malformed},
		{"lone surrogate", with(`"args":["\ud800"]`), Malformed},
		{"invalid UTF-8", with("\"args\":[\"\xff\"]"), Malformed},
		{"too many arguments", with(`"args":` + list(MaxArgs+1, `""`)), TooBig},
		{"long arguments", with(`"args":["` + strings.Repeat("a", MaxArgsBytes) + `"]`), TooBig},
		{"arguments that escape long", with(`"args":["` + strings.Repeat(`\u0001`, MaxArgsBytes/6+1) + `"]`), TooBig},
		{"empty environment name", with(`"env":{"":"x"}`), Malformed},
		{"= in environment name", with(`"env":{"A=B":"x"}`), Malformed},
		{"NUL in environment", with(`"env":{"A":"\u0000"}`), Malformed},
		{"too many variables", with(`"env":` + env(MaxEnv+1)), TooBig},
		{"long environment", with(`"env":{"A":"` + strings.Repeat("a", MaxEnvBytes) + `"}`), TooBig},
		{"sloppy base64", with(`"stdin":"aW4"`), Malformed},
		{"long stdin", with(`"stdin":"` + strings.Repeat("AAAA", MaxStdinBytes/3+1) + `"`), TooBig},
		{"long nonce", with(`"nonce":"` + strings.Repeat("n", MaxNonceBytes+1) + `"`), TooBig},
		{"negative limit", with(`"limits":{"memory_bytes":-1}`), Malformed},
		{"fractional limit", with(`"limits":{"memory_bytes":1.5}`), Malformed},
		{"unknown limit", with(`"limits":{"cores":1}`), Malformed},
		{"negative fuel", with(`"limits":{"fuel":-1}`), Malformed},
		{"unknown determinism", with(`"determinism":"Strict"`), Unsupported},
		{"determinism as a number", with(`"determinism":1`), Malformed},
		{"deep", strings.Repeat("[", 100) + strings.Repeat("]", 100), Malformed},
		{"huge", strings.Repeat(" ", MaxSpecBytes+1), TooBig},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.raw))
			var r *Refusal
			if !errors.As(err, &r) || r.Reason != c.reason {
				t.Fatalf("%v, want %s", err, c.reason)
			}
			if r.Code() == "NODE-000" || r.Hint() == "" {
				t.Errorf("%v: code %s, hint %q", r, r.Code(), r.Hint())
			}
		})
	}
}

func TestNodeLimitsWin(t *testing.T) {
	node := NodeLimits{Limits: Limits{MemoryBytes: 64 << 20, DeadlineMS: 20_000, StdoutBytes: 1 << 20, StderrBytes: 256 << 10, Fuel: 400e9}, ModuleBytes: 10}
	j, err := New(Spec{Version: 1, Module: module})
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Admit(j); err != nil {
		t.Errorf("the default job: %v", err)
	}
	for i, f := range node.fields() {
		caps := []*int64{&node.MemoryBytes, &node.DeadlineMS, &node.StdoutBytes, &node.StderrBytes, &node.Fuel}
		*caps[i]--
		var r *Refusal
		if err := node.Admit(j); !errors.As(err, &r) || r.Reason != TooBig || !strings.Contains(err.Error(), f.name) {
			t.Errorf("one less of %s: %v", f.name, err)
		}
		*caps[i]++
	}
	if node.AdmitModule(10) != nil || node.AdmitModule(11) == nil {
		t.Error("module size")
	}
	small := NodeLimits{Limits: Limits{MemoryBytes: 1, DeadlineMS: 2, StdoutBytes: 3, StderrBytes: 4, Fuel: 5}}
	if got := small.Clamp(Limits{StdoutBytes: 2}); got != (Limits{1, 2, 2, 4, 5}) {
		t.Errorf("clamped to %+v", got)
	}
}

// FuzzParse: whatever is accepted has one canonical form that parses to the
// same job.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		j, err := Parse(raw)
		if err != nil {
			var r *Refusal
			if !errors.As(err, &r) || r.Code() == "NODE-000" {
				t.Errorf("%v is not a refusal with a code", err)
			}
			return
		}
		again, err := Parse(j.Payload())
		if err != nil || again.ID() != j.ID() || !bytes.Equal(again.Payload(), j.Payload()) {
			t.Errorf("%s does not parse to itself: %v", j.Payload(), err)
		}
	})
}
