package job

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
)

// Inputs come after what they describe in the canonical form, and only if there are any.
func TestCanonicalInputs(t *testing.T) {
	file := blob.Of([]byte("file"))
	j, err := New(Spec{Version: 1, Module: module, Inputs: map[string]Input{"b": {file, 4}, "A.txt": {blob.Of(nil), 0}}})
	if err != nil {
		t.Fatal(err)
	}
	want := `"inputs":{"A.txt":{"digest":"` + blob.Of(nil).String() + `","size":0},"b":{"digest":"` + file.String() + `","size":4}},"limits":`
	if !strings.Contains(string(j.Payload()), want) {
		t.Errorf("payload %s\nwant in it %s", j.Payload(), want)
	}
	if j.InputBytes() != 4 || !j.Needs(file, 4) || j.Needs(file, 5) || !j.Needs(module, 9) || j.Needs(blob.Of([]byte("x")), 1) {
		t.Error("the job needs something else than it says")
	}
	j.Inputs()["b"] = Input{}
	j.Spec().Inputs["b"] = Input{}
	if j.Inputs()["b"] != (Input{file, 4}) {
		t.Error("the job changed")
	}
	for name, given := range map[string]map[string]Input{"nil": nil, "none": {}} {
		j, err := New(Spec{Version: 1, Module: module, Inputs: given})
		if err != nil || strings.Contains(string(j.Payload()), "inputs") {
			t.Errorf("%s: %s, %v", name, j.Payload(), err)
		}
	}
}

func TestInputsRefused(t *testing.T) {
	digest := blob.Of([]byte("file")).String()
	one := func(name string, size int64) string {
		return fmt.Sprintf(`{%q:{"digest":%q,"size":%d}}`, name, digest, size)
	}
	var many []string
	for i := range MaxInputs + 1 {
		many = append(many, strings.Trim(one(fmt.Sprintf("f%d", i), 1), "{}")+"}")
	}
	for what, c := range map[string]struct {
		inputs string
		reason Reason
	}{
		"empty name":         {one("", 1), Malformed},
		"this folder":        {one(".", 1), Malformed},
		"the folder above":   {one("..", 1), Malformed},
		"hidden":             {one(".profile", 1), Malformed},
		"path":               {one("a/b", 1), Malformed},
		"absolute":           {one("/a", 1), Malformed},
		"out and in":         {one("a/../../b", 1), Malformed},
		"other slash":        {one(`a\b`, 1), Malformed},
		"space":              {one("a b", 1), Malformed},
		"option":             {one("-rf", 1), Malformed},
		"NUL":                {`{"a\u0000":{"digest":"` + digest + `","size":1}}`, Malformed},
		"newline":            {one("a\n", 1), Malformed},
		"not ASCII":          {one("ä", 1), Malformed},
		"long name":          {one(strings.Repeat("n", MaxInputName+1), 1), Malformed},
		"negative size":      {one("a", -1), Malformed},
		"empty, yet hashed":  {one("a", 0), Malformed},
		"no digest":          {`{"a":{"size":1}}`, Malformed},
		"zero digest":        {`{"a":{"digest":"sha256:` + strings.Repeat("0", 64) + `","size":1}}`, Malformed},
		"fraction":           {`{"a":{"digest":"` + digest + `","size":1.5}}`, Malformed},
		"unknown member":     {`{"a":{"digest":"` + digest + `","size":1,"path":"/etc/passwd"}}`, Malformed},
		"twice":              {`{"a":{"digest":"` + digest + `","size":1},"a":{"digest":"` + digest + `","size":1}}`, Malformed},
		"list":               {`[]`, Malformed},
		"null":               {`null`, Malformed},
		"too many":           {"{" + strings.Join(many, ",") + "}", TooBig},
		"too large":          {one("a", MaxInputBytes+1), TooBig},
		"too large together": {"{" + strings.Trim(one("a", MaxInputBytes), "{}") + "}," + strings.Trim(one("b", 1), "{}") + "}}", TooBig},
	} {
		_, err := Parse([]byte(`{"version":1,"module_hash":"` + module.String() + `","inputs":` + c.inputs + `}`))
		var r *Refusal
		if !errors.As(err, &r) || r.Reason != c.reason {
			t.Errorf("%s: %v, want %s", what, err, c.reason)
		}
	}
	longest := parse(t, `{"version":1,"module_hash":"`+module.String()+`","inputs":`+one("0"+strings.Repeat("n-_.", 15)+"Zz9", MaxInputBytes)+`}`)
	node := DefaultNodeLimits
	for most, admitted := range map[int64]bool{MaxInputBytes: true, MaxInputBytes - 1: false} {
		node.InputBytes = most
		var r *Refusal
		if err := node.Admit(longest); admitted != (err == nil) || err != nil && (!errors.As(err, &r) || r.Reason != TooBig) {
			t.Errorf("at most %d bytes: %v", most, err)
		}
	}
}
