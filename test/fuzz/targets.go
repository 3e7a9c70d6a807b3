package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// target is one fuzz function.
type target struct {
	Package string // import path
	Dir     string // of the package
	Name    string // FuzzX
	Seeds   int    // committed inputs
}

func (t target) String() string { return t.Package + "." + t.Name }

// corpus is where the target's inputs are committed, and where the fuzzing
// engine writes an input that fails.
func (t target) corpus() string { return filepath.Join(t.Dir, "testdata", "fuzz", t.Name) }

// listed is what go list says about a package.
type listed struct {
	ImportPath   string
	Dir          string
	TestGoFiles  []string
	XTestGoFiles []string
}

// findTargets lists every fuzz target of the module around dir, and what is
// wrong with their corpora.
func findTargets(ctx context.Context, dir string) ([]target, error) {
	packages, err := listPackages(ctx, dir)
	if err != nil {
		return nil, err
	}
	var targets []target
	var problems []error
	for _, p := range packages {
		found, err := p.targets()
		if err != nil {
			return nil, err
		}
		targets = append(targets, found...)
		problems = append(problems, checkCorpora(p.Dir, found)...)
	}
	if len(targets) == 0 {
		problems = append(problems, errors.New("the module has no fuzz target"))
	}
	return targets, errors.Join(problems...)
}

func listPackages(ctx context.Context, dir string) ([]listed, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-json=ImportPath,Dir,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var packages []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		packages = append(packages, p)
	}
}

// targets reads the syntax of the package's tests.
func (p listed) targets() ([]target, error) {
	var found []target
	for _, file := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
		syntax, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, decl := range syntax.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && isTarget(f) {
				t := target{Package: p.ImportPath, Dir: p.Dir, Name: f.Name.Name}
				t.Seeds = countSeeds(t.corpus())
				found = append(found, t)
			}
		}
	}
	return found, nil
}

// isTarget recognises func FuzzX(f *testing.F).
func isTarget(f *ast.FuncDecl) bool {
	if f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Fuzz") || f.Type.Params.NumFields() != 1 {
		return false
	}
	pointer, ok := f.Type.Params.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	selector, ok := pointer.X.(*ast.SelectorExpr)
	return ok && selector.Sel.Name == "F"
}

// countSeeds counts the files of a corpus; 0 if there is none.
func countSeeds(dir string) int {
	entries, _ := os.ReadDir(dir) // absent is empty
	seeds := 0
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.Type().IsRegular() && info.Size() > 0 {
			seeds++
		}
	}
	return seeds
}

// checkCorpora compares the targets of a package with its folders of inputs.
func checkCorpora(dir string, targets []target) []error {
	var problems []error
	known := map[string]bool{}
	for _, t := range targets {
		known[t.Name] = true
		if t.Seeds == 0 {
			problems = append(problems, fmt.Errorf("%s has no seeds: %s is missing or empty", t, t.corpus()))
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, "testdata", "fuzz"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		problems = append(problems, err)
	}
	for _, e := range entries {
		if !known[e.Name()] {
			problems = append(problems, fmt.Errorf("%s belongs to no fuzz target",
				filepath.Join(dir, "testdata", "fuzz", e.Name())))
		}
	}
	return problems
}

// byPackage keeps the targets that match, grouped so that each package is
// compiled once.
func byPackage(targets []target, cfg config) [][]target {
	groups := map[string][]target{}
	for _, t := range targets {
		if cfg.match == nil || cfg.match.MatchString(t.String()) {
			groups[t.Package] = append(groups[t.Package], t)
		}
	}
	var list [][]target
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		list = append(list, groups[name])
	}
	return list
}
