package jobapi

import (
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
)

// TestSpecsAreAsDocumented: the document and the parser take and refuse the same.
func TestSpecsAreAsDocumented(t *testing.T) {
	schema, err := openDocument(t).compiler.Compile("api.json#/components/schemas/Spec")
	if err != nil {
		t.Fatal(err)
	}
	d := named("m").String()
	with := func(member string) string { return `{"version":1,"module_hash":"` + d + `",` + member + `}` }
	input := func(name, member string) string { return with(`"inputs":{"` + name + `":{` + member + `}}`) }
	file := `"digest":"` + d + `","size":7`
	full, err := job.New(job.Spec{
		Version: 1, Module: named("m"), Args: []string{"a"}, Env: map[string]string{"A": "b"}, Stdin: []byte("in"), Nonce: "n",
		Inputs: map[string]job.Input{"a.txt": {Digest: named("m"), Size: 1}, "B-_9": {Digest: blob.Of(nil)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for raw, taken := range map[string]bool{
		string(full.Payload()):                                       true,
		`{"version":1,"module_hash":"` + d + `"}`:                    true,
		with(`"inputs":{}`):                                          true,
		with(`"determinism":""`):                                     true,
		with(`"limits":{"fuel":0}`):                                  true,
		input("a", file):                                             true,
		input(strings.Repeat("a", job.MaxInputName), file):           true,
		input(strings.Repeat("a", job.MaxInputName+1), file):         false,
		input("", file):                                              false,
		input("..", file):                                            false,
		input("a/b", file):                                           false,
		input("-a", file):                                            false,
		input("a", file+`,"path":"/etc/passwd"`):                     false,
		input("a", `"digest":"`+d+`"`):                               false,
		input("a", `"size":7`):                                       false,
		input("a", `"digest":"`+d+`","size":-1`):                     false,
		input("a", `"digest":"`+d+`","size":1.5`):                    false,
		input("a", `"digest":"`+d+`","size":1099511627777`):          false,
		input("a", `"digest":"`+strings.ToUpper(d)+`","size":7`):     false,
		with(`"inputs":[]`):                                          false,
		with(`"inputs":null`):                                        false,
		with(`"inputs":{` + manyInputs(job.MaxInputs+1, file) + `}`): false,
		with(`"inputs":{` + manyInputs(job.MaxInputs, file) + `}`):   true,
		with(`"env":{"A=B":""}`):                                     false,
		with(`"env":{"":""}`):                                        false,
		with(`"limits":{"fuel":-1}`):                                 false,
		with(`"limits":{"cores":1}`):                                 false,
		with(`"determinism":"Strict"`):                               false,
		with(`"cpu":1`):                                              false,
		with(`"args":[1]`):                                           false,
		`{"version":2,"module_hash":"` + d + `"}`:                    false,
		`{"version":1}`:                                              false,
		`[]`:                                                         false,
	} {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(raw))
		if err != nil {
			t.Fatal(raw, err)
		}
		_, byParser := job.Parse([]byte(raw))
		if bySchema := schema.Validate(doc); (bySchema == nil) != taken || (byParser == nil) != taken {
			t.Errorf("%.300s: by its schema %v, by the parser %v; want it taken: %v", raw, bySchema, byParser, taken)
		}
	}
}

func manyInputs(n int, file string) string {
	var all []string
	for i := range n {
		all = append(all, `"f`+strings.Repeat("x", i)+`":{`+file+`}`)
	}
	return strings.Join(all, ",")
}
