package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/cmd/internal/manual"
	"github.com/phasebased/phase/internal/nettest"
)

var update = flag.Bool("update", false, "write the pages of the reference anew")

// TestReference: docs/reference/plasmd.md is what the program says of itself, and that
// is all there is to say.
func TestReference(t *testing.T) {
	const path = "../../docs/reference/plasmd.md"
	for _, fault := range manual.Faults(newRoot(streams{})) {
		t.Error(fault)
	}
	page := manual.Markdown(newRoot(streams{}))
	if *update {
		if err := os.WriteFile(path, page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if there, err := os.ReadFile(path); err != nil || !bytes.Equal(there, page) {
		t.Errorf("%s is not what the program says (%v): run `make reference`", path, err)
	}
}

// TestReferenceConfiguration: the part of docs/reference/configuration.md about nodes
// has each key of the configuration file with its default and bounds, and what its
// comment in the code says.
func TestReferenceConfiguration(t *testing.T) {
	const path = "../../docs/reference/configuration.md"
	there, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := bytes.Cut(there, []byte("<!-- node -->\n"))
	_, after, ok2 := bytes.Cut(rest, []byte("<!-- /node -->\n"))
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for this part", path)
	}
	made := slices.Concat(before, []byte("<!-- node -->\n"+configReference(t)+"<!-- /node -->\n"), after)
	if *update {
		if err := os.WriteFile(path, made, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(there, made) {
		t.Errorf("%s is not what the code says: run `make reference`", path)
	}
}

func configReference(t *testing.T) string {
	t.Helper()
	comments := fieldComments(t, "config.go")
	bounds := map[string]string{}
	for _, n := range defaultConfig().numbers() {
		if n.low < n.high {
			bounds[n.name] = fmt.Sprintf("%d to %d", n.low, n.high)
		}
	}
	var out strings.Builder
	fmt.Fprintf(&out, `
## plasmd's configuration

%splasmd start%s reads the file that %s--config%s names, or the first of
%s~/.config/plasm/config.json%s and %s that exists: one JSON object of at
most %d KiB. %splasmd init%s writes one with all defaults. [node.md](../node.md#configure)
says more.

| key | default | what |
|---|---|---|
`, "`", "`", "`", "`", "`", "`", "`"+systemConfig+"`", maxConfig>>10, "`", "`")
	var walk func(of reflect.Type, value reflect.Value, prefix string)
	walk = func(of reflect.Type, value reflect.Value, prefix string) {
		for i := range of.NumField() {
			f := of.Field(i)
			key := prefix + f.Tag.Get("json")
			if f.Type.Kind() == reflect.Struct {
				fmt.Fprintf(&out, "| `%s` | | %s |\n", key, comments[of.Name()+"."+f.Name])
				walk(f.Type, value.Field(i), key+".")
				continue
			}
			text, err := json.Marshal(value.Field(i).Interface())
			if err != nil {
				t.Fatal(err)
			}
			what := comments[of.Name()+"."+f.Name]
			if what == "" {
				t.Errorf("%s has no comment", key)
			}
			if b := bounds[key]; b != "" {
				what += "; " + b
			}
			fmt.Fprintf(&out, "| `%s` | `%s` | %s |\n", key, strings.ReplaceAll(string(text), `","`, `", "`), strings.ReplaceAll(what, "<", `\<`))
		}
	}
	walk(reflect.TypeFor[config](), reflect.ValueOf(defaultConfig()), "")
	return out.String() + "\n"
}

// fieldComments are what stands behind the fields of the types in a file, by type and
// field.
func fieldComments(t *testing.T, file string) map[string]string {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(tree, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if s, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range s.Fields.List {
				for _, name := range f.Names {
					found[spec.Name.Name+"."+name.Name] = strings.TrimSpace(f.Comment.Text())
				}
			}
		}
		return true
	})
	return found
}

// TestOthersReadDescriptions: groff has nothing to remark on the manual page, nor bash
// on its completions.
func TestOthersReadDescriptions(t *testing.T) {
	read := func(text []byte, name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), nettest.Tool(t, name), args...)
		cmd.Stdin = bytes.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	for command, reader := range map[string][]string{
		"manual": {"groff", "-man", "-ww", "-z", "-Kutf8", "-Tutf8"}, "completion bash": {"bash", "-n"},
	} {
		var out bytes.Buffer
		if code := run(t.Context(), strings.Fields(command), streams{nil, &out, &out}); code != 0 || out.Len() < 1000 {
			t.Errorf("%s: status %d, %s", command, code, &out)
		}
		read(out.Bytes(), reader[0], reader[1:]...)
	}
}
