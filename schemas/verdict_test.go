package schemas_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/phasebased/phase/manifest"
	"github.com/phasebased/phase/schemas"
)

const base = "https://github.com/phasebased/phase/schemas/"

// compileAll checks every schema against draft 2020-12 and returns them by name.
func compileAll(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	for _, name := range schemas.Names() {
		text, err := schemas.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := compiler.AddResource(base+name+".schema.json", doc); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	compiled := map[string]*jsonschema.Schema{}
	for _, name := range schemas.Names() {
		schema, err := compiler.Compile(base + name + ".schema.json")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		compiled[name] = schema
	}
	return compiled
}

// judge asks the schemas and the parser about one document.
type judge struct {
	schemas  map[string]*jsonschema.Schema
	comments map[string]string // what the schemas of a kind of file say they cannot say
	used     map[int]bool      // indices of beyond
}

func newJudge(t *testing.T) judge {
	t.Helper()
	j := judge{compileAll(t), map[string]string{}, map[int]bool{}}
	for _, kind := range []string{"manifest", "pointer", "root", "receipt-statement", "quorum-commitment", "quorum-opening", "quorum-set", "quorum-statement", "job", "job-submission"} {
		j.comments[kind] = comments(t, kind)
	}
	return j
}

// schema returns why the schemas refuse the file raw. Of a file with an
// envelope both the envelope and what is inside are judged.
func (j judge) schema(kind string, raw []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	if err := j.schemas[kind].Validate(doc); err != nil || kind == "root" {
		return err
	}
	var file struct {
		Signed struct {
			Data []byte `json:"data"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return err
	}
	return j.payload(kind, file.Signed.Data)
}

func (j judge) payload(kind string, payload []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if err != nil {
		return err
	}
	return j.schemas[kind+"-payload"].Validate(doc)
}

// parser returns why the parser refuses the form of the file raw. Whether the
// right keys signed is no matter of form.
func parser(kind string, raw []byte) error {
	var err error
	switch kind {
	case "manifest":
		_, err = manifest.OpenManifestDraft(raw)
	case "pointer":
		_, err = manifest.InspectPointer(raw)
	case "root":
		_, err = manifest.ParseRoot(raw)
	default:
		err = fmt.Errorf("unknown kind %q", kind)
	}
	if refusedBy(err) == manifest.RuleSignature {
		return nil
	}
	return err
}

func refusedBy(err error) manifest.Rule {
	var refused *manifest.Error
	if errors.As(err, &refused) {
		return refused.Rule
	}
	return ""
}

// enveloped puts a payload into an unsigned file.
func enveloped(payload []byte) []byte {
	return fmt.Appendf(nil, `{"signatures":[],"signed":{"data":%q}}`, base64.StdEncoding.EncodeToString(payload))
}

func TestNames(t *testing.T) {
	want := "fraud job job-submission manifest manifest-payload pointer pointer-payload quorum-commitment quorum-opening quorum-set quorum-statement receipt-statement root"
	if got := strings.Join(schemas.Names(), " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := schemas.Get("nothing"); err == nil || !strings.Contains(err.Error(), "manifest-payload") {
		t.Errorf("a schema that does not exist: %v", err)
	}
}

// TestSharedDefinitions: a definition is the same wherever it is repeated.
// (Each file stands alone, so that people can take just one.) Roots differ in
// what they allow in members that nobody knows.
func TestSharedDefinitions(t *testing.T) {
	seen := map[string][]byte{}
	for _, name := range schemas.Names() {
		text, err := schemas.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			ID      string                     `json:"$id"`
			Comment string                     `json:"$comment"`
			Defs    map[string]json.RawMessage `json:"$defs"`
		}
		if err := json.Unmarshal(text, &file); err != nil {
			t.Fatal(err)
		}
		if file.ID != base+name+".schema.json" || !strings.Contains(file.Comment, "cannot say") {
			t.Errorf("%s: $id %q, $comment %q", name, file.ID, file.Comment)
		}
		for def, body := range file.Defs {
			if name == "root" && def == "foreign" {
				continue
			}
			if earlier, ok := seen[def]; ok && !bytes.Equal(earlier, body) {
				t.Errorf("%s: $defs/%s differs from the other files'", name, def)
			}
			seen[def] = body
		}
	}
}
