package schemas_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/manifest"
	"github.com/phasebased/phase/schemas"
)

// beyond lists everything that the parser refuses and the schemas cannot. Each
// line names the words with which a $comment of the schema warns of it, and how
// the parser refuses it. There is no list of the contrary: what the parser
// accepts its schema accepts.
var beyond = []struct {
	comment string
	rule    manifest.Rule
	detail  string // part of the parser's message
}{
	{"the file has at most", manifest.RuleSize, ""},
	{"every name once per object", manifest.RuleMalformed, "duplicate object member name"},
	{"UTF-8 without lone surrogates", manifest.RuleMalformed, "invalid UTF-8"},
	{"numbers written as plain integers", manifest.RuleMalformed, "not a plain integer"},
	{"at most 16 levels", manifest.RuleMalformed, "nested too deeply"},
	{"canonical encoding of this document", manifest.RuleMalformed, "not in canonical form"},
	{"no two signatures name one key", manifest.RuleMalformed, "two signatures name the key"},
	{"each copy equals the signed member of its name", manifest.RuleMirrored, ""},
	{"created_at is before expires_at", manifest.RulePolicy, "created_at is not before expires_at"},
	{"by at most 180 days", manifest.RulePolicy, "at most 180 are allowed"},
	{"by at most 14 days", manifest.RulePolicy, "at most 14 are allowed"},
	{"29 February only in leap years", manifest.RuleMalformed, "is not of the form 2006-01-02T15:04:05Z"},
	{"has to be an IPv6 address", manifest.RulePolicy, "URL"},
	{"security_floor is at most manifest_version", manifest.RuleMalformed, "security_floor"},
	{"the chunk list is not the artifact", manifest.RulePolicy, "named as its own chunk list"},
	{"No two patches are from one file", manifest.RulePolicy, "from the same blob"},
	{"none is from the artifact itself", manifest.RulePolicy, "from the artifact itself"},
	{"A patch has at most as many bytes as the artifact", manifest.RulePolicy, "allowed are 1 to the artifact's"},
	{"neither the artifact nor its chunk list nor what it is from", manifest.RulePolicy, "named for something else as well"},
	{"The size of the file is data_size and the tree's", manifest.RulePolicy, "not the data_size of its hash tree"},
	{"All device trees together", manifest.RulePolicy, "bytes together"},
	{"the key is a canonical point of the curve and not of small order", manifest.RuleKey, "unusable Ed25519 public key"},
	{"a key's id is the hash of the key", manifest.RuleKey, "carries an id that is not its hash"},
	{"no key serves two roles", manifest.RuleKey, "or one of them twice"},
	{"each key id that is named is in the table", manifest.RuleMalformed, "names the unknown key"},
	{"no threshold is above its number of keys", manifest.RuleMalformed, "has threshold"},
	{`"root" of a floor is at most the root's own version`, manifest.RuleMalformed, "x-phase-floors"},
}

// warned reports whether the refusal err of a document that its schema accepts
// is one of which the schema's $comments warn.
func (j judge) warned(kind string, err error) bool {
	for i, b := range beyond {
		if refusedBy(err) == b.rule && strings.Contains(err.Error(), b.detail) && strings.Contains(j.comments[kind], b.comment) {
			j.used[i] = true
			return true
		}
	}
	return false
}

// comments returns all $comments of the schemas of a kind of file.
func comments(t *testing.T, kind string) string {
	t.Helper()
	var all strings.Builder
	var collect func(v any)
	collect = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if text, ok := v["$comment"].(string); ok {
				all.WriteString(text + "\n")
			}
			for _, member := range v {
				collect(member)
			}
		case []any:
			for _, element := range v {
				collect(element)
			}
		}
	}
	for _, name := range []string{kind, kind + "-payload"} {
		text, err := schemas.Get(name)
		if err != nil {
			continue // a root has no payload of its own
		}
		var doc any
		if err := json.Unmarshal(text, &doc); err != nil {
			t.Fatal(err)
		}
		collect(doc)
	}
	return all.String()
}

// TestParserAgrees compares schemas and parser, and leaves nothing in the list
// above that did not occur.
func TestParserAgrees(t *testing.T) {
	j := newJudge(t)
	t.Run("vectors", j.testVectors)
	t.Run("payloads", j.testPayloads)
	t.Run("envelopes", j.testEnvelopes)
	t.Run("roots", j.testRoots)
	for i, b := range beyond {
		if !j.used[i] && !t.Failed() {
			t.Errorf("%q (%s, %q) is listed as beyond a schema, but did not occur", b.comment, b.rule, b.detail)
		}
	}
}

// testVectors asks both about every vector of package manifest.
func (j judge) testVectors(t *testing.T) {
	accepted, refused := 0, 0
	for _, path := range vectorFiles(t) {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".json"), "-")
		if strings.HasSuffix(path, ".root.json") {
			kind = "root"
		}
		if j.compare(t, kind, path, raw) {
			accepted++
		} else {
			refused++
		}
	}
	t.Logf("%d vectors accepted by both, %d refused by both or beyond a schema", accepted, refused)
	if accepted < 100 || refused < 150 {
		t.Error("the vectors are not what they were")
	}
}

// vectorFiles lists all documents among the vectors, those of chains included.
func vectorFiles(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"manifest-*.json", "pointer-*.json", "root*.json", "chain-*/*.root.json"} {
		paths, err := filepath.Glob(filepath.Join("../manifest/testdata", pattern))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(paths), err)
		}
		all = append(all, paths...)
	}
	return all
}

// compare asks both about a file and returns whether both accept it.
func (j judge) compare(t *testing.T, kind, name string, raw []byte) bool {
	t.Helper()
	bySchema, byParser := j.schema(kind, raw), parser(kind, raw)
	switch {
	case bySchema != nil && byParser == nil:
		t.Errorf("%s: accepted, but not by its schema: %v", name, bySchema)
	case bySchema == nil && byParser != nil && !j.warned(kind, byParser):
		t.Errorf("%s: accepted by its schema, but refused: %v", name, byParser)
	}
	return bySchema == nil && byParser == nil
}
