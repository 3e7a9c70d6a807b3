package phase

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/schemas"
)

// TestSpecLimits holds the numbers of docs/spec to the programs: a row whose last
// cell names a constant has its value before it.
func TestSpecLimits(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| .+ \\| (\\S+?)( [^|]*)? \\| `([a-z0-9/]+)\\.([A-Za-z0-9]+)` \\|$")
	loaded, rows := constants{}, 0
	for name, text := range markdown(t) {
		if !strings.HasPrefix(name, "docs/spec/") {
			continue
		}
		for _, m := range row.FindAllStringSubmatch(text, -1) {
			rows++
			value, length, err := loaded.value(m[3], m[4])
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			says, err := writtenLimit(m[1], strings.TrimSpace(m[2]), length)
			if err != nil || says != value {
				t.Errorf("%s: %s%s, but %s.%s is %d (%v)", name, m[1], m[2], m[3], m[4], value, err)
			}
		}
	}
	if rows < 100 {
		t.Errorf("only %d limits found in docs/spec", rows)
	}
}

// writtenLimit reads a limit as the pages have it: a number and a unit, which
// counts for lengths of time only.
func writtenLimit(number, unit string, length bool) (int64, error) {
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || !length {
		return n, err
	}
	units := map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "min": time.Minute, "h": time.Hour}
	if units[unit] == 0 {
		return 0, fmt.Errorf("%q is no unit of time", unit)
	}
	return n * int64(units[unit]), nil
}

// constants are packages of this repository by their folders, with as much of their
// types as constants need. It is their importer, too.
type constants map[string]*types.Package

// value is a constant of the package in a folder; length says that it is one of time,
// in nanoseconds.
func (c constants) value(folder, name string) (value int64, length bool, err error) {
	pkg, err := c.load(folder)
	if err != nil {
		return 0, false, err
	}
	found, ok := pkg.Scope().Lookup(name).(*types.Const)
	if !ok {
		return 0, false, fmt.Errorf("%s has no constant %s", folder, name)
	}
	value, exact := constant.Int64Val(constant.ToInt(found.Val()))
	if !exact {
		return 0, false, fmt.Errorf("%s.%s is no whole number", folder, name)
	}
	return value, found.Type().String() == "time.Duration", nil
}

func (c constants) load(folder string) (*types.Package, error) {
	if c[folder] != nil {
		return c[folder], nil
	}
	names, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, "_other.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no package in %s", folder)
	}
	// What cannot be known without other modules is passed over: constants need none.
	loose := types.Config{Error: func(error) {}, Importer: c, IgnoreFuncBodies: true, FakeImportC: true}
	c[folder], _ = loose.Check(modulePath+"/"+folder, fset, files, nil)
	return c[folder], nil
}

// Import implements types.Importer.
func (c constants) Import(path string) (*types.Package, error) {
	if folder, ours := strings.CutPrefix(path, modulePath+"/"); ours {
		return c.load(folder)
	}
	if path != "time" {
		return nil, fmt.Errorf("%s is not looked at", path)
	}
	if c[path] == nil {
		c[path] = timePackage()
	}
	return c[path], nil
}

// timePackage is package time as far as lengths of time need it.
func timePackage() *types.Package {
	pkg := types.NewPackage("time", "time")
	name := types.NewTypeName(token.NoPos, pkg, "Duration", nil)
	types.NewNamed(name, types.Typ[types.Int64], nil)
	pkg.Scope().Insert(name)
	for unit, length := range map[string]time.Duration{
		"Nanosecond": time.Nanosecond, "Microsecond": time.Microsecond, "Millisecond": time.Millisecond,
		"Second": time.Second, "Minute": time.Minute, "Hour": time.Hour,
	} {
		pkg.Scope().Insert(types.NewConst(token.NoPos, pkg, unit, name.Type(), constant.MakeInt64(int64(length))))
	}
	pkg.MarkComplete()
	return pkg
}

// TestSpecMembers: a specification names each member of its documents.
func TestSpecMembers(t *testing.T) {
	pages := markdown(t)
	need := func(page string, names map[string]bool) {
		if len(names) < 3 {
			t.Errorf("%s: only %d members are known", page, len(names))
		}
		for name := range names {
			if !strings.Contains(pages["docs/spec/"+page], "`"+name+"`") {
				t.Errorf("docs/spec/%s does not name the member %s", page, name)
			}
		}
	}
	for page, list := range map[string][]string{
		"manifest.md": {"manifest-payload"}, "pointer.md": {"pointer-payload"}, "root.md": {"root"},
		"receipt.md": {"receipt-statement"},
		"quorum.md":  {"quorum-commitment", "quorum-set", "quorum-opening", "quorum-statement", "fraud"},
	} {
		names := map[string]bool{}
		for _, schema := range list {
			raw, err := schemas.Get(schema)
			if err != nil {
				t.Fatal(err)
			}
			addMembers(t, raw, names)
		}
		for _, envelope := range []string{ // of documents.md, and of in-toto
			"payload", "payloadType", "signatures", "keyid", "sig",
			"_type", "subject", "name", "digest", "sha256", "predicateType", "predicate",
		} {
			delete(names, envelope)
		}
		need(page, names)
	}
	var api struct {
		Components struct{ Schemas map[string]json.RawMessage }
	}
	if err := json.Unmarshal(schemas.JobsAPI(), &api); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, schema := range []string{"Status", "End", "Failure", "Output", "Capacity"} {
		addMembers(t, api.Components.Schemas[schema], names)
	}
	need("job-protocol.md", names)
	names = map[string]bool{}
	for _, of := range []any{job.Spec{}, job.Limits{}, job.Input{}} {
		for i := range reflect.TypeOf(of).NumField() {
			name, _, _ := strings.Cut(reflect.TypeOf(of).Field(i).Tag.Get("json"), ",")
			names[name] = true
		}
	}
	need("job.md", names)
}

// addMembers collects the names of all members that a schema knows.
func addMembers(t *testing.T, schema []byte, names map[string]bool) {
	t.Helper()
	var root any
	if err := json.Unmarshal(schema, &root); err != nil {
		t.Fatal(err)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, inner := range v {
				if members, ok := inner.(map[string]any); ok && key == "properties" {
					for name := range members {
						names[name] = true
					}
				}
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	walk(root)
}

// TestSpecDefaults: the defaults that belong to job ids are written as they are.
func TestSpecDefaults(t *testing.T) {
	text := markdown(t)["docs/spec/job.md"]
	for name, value := range map[string]int64{
		"memory_bytes": job.DefaultLimits.MemoryBytes, "deadline_ms": job.DefaultLimits.DeadlineMS,
		"stdout_bytes": job.DefaultLimits.StdoutBytes, "stderr_bytes": job.DefaultLimits.StderrBytes,
		"fuel": job.DefaultLimits.Fuel,
	} {
		if !regexp.MustCompile(fmt.Sprintf("(?m)^\\| `%s` \\| .+ \\| %d \\|$", name, value)).MatchString(text) {
			t.Errorf("docs/spec/job.md does not say that %s is %d by default", name, value)
		}
	}
	for _, value := range []int64{
		job.DefaultNodeLimits.MemoryBytes, job.DefaultNodeLimits.DeadlineMS / 1000, job.DefaultNodeLimits.StdoutBytes,
		job.DefaultNodeLimits.Fuel, job.DefaultNodeLimits.InputBytes,
	} {
		if !strings.Contains(text, fmt.Sprintf(" %d ", value)) {
			t.Errorf("docs/spec/job.md does not name the node's default %d", value)
		}
	}
}

// TestSpecLinksSchemas: every schema belongs to a specification.
func TestSpecLinksSchemas(t *testing.T) {
	all := ""
	for name, text := range markdown(t) {
		if strings.HasPrefix(name, "docs/spec/") {
			all += text
		}
	}
	for _, name := range append(schemas.Names(), "jobs.openapi") {
		file := name + ".schema.json"
		if name == "jobs.openapi" {
			file = name + ".json"
		}
		if !strings.Contains(all, "(../../schemas/"+file+")") {
			t.Errorf("no page of docs/spec leads to schemas/%s", file)
		}
	}
}
