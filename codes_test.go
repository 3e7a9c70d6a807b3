package phase

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	codeLiteral = regexp.MustCompile(`^[A-Z]+-\d{3}$`)
	codeFormat  = regexp.MustCompile(`^([A-Z]+)-%03d$`)
)

// said is what the programs say: codes by the folders that make them, and every
// text. A hint is among the texts, whichever method returns it.
type said struct {
	codes map[string][]string
	texts map[string]bool
	hints map[string]string // by code, of refusal.New
}

// ownWords are the codes whose errors have no hint, or take another error's.
var ownWords = []string{
	"KEXEC-002", "KEXEC-003", "KEXEC-046",
	"NODE-010", "NODE-011", "NODE-030", "NODE-043",
}

// sharedCodes are made in several folders, and mean the same there.
var sharedCodes = []string{"BOOT-090", "FETCH-005", "NET-031"}

// TestCodesPage holds docs/codes.md to the programs: it has a row for each code, none
// for others, and the last column is what a program says.
func TestCodesPage(t *testing.T) {
	raw, err := os.ReadFile("docs/codes.md")
	if err != nil {
		t.Fatal(err)
	}
	page := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z]+-\d{3}) \| .* \| (.+?) \|$`).FindAllStringSubmatch(string(raw), -1) {
		if page[m[1]] != "" {
			t.Errorf("docs/codes.md has two rows for %s", m[1])
		}
		page[m[1]] = m[2]
	}
	programs := whatIsSaid(t)
	for code, where := range programs.codes {
		if page[code] == "" {
			t.Errorf("docs/codes.md has no row for %s, which %s says", code, where)
		}
		if len(where) > 1 && !slices.Contains(sharedCodes, code) {
			t.Errorf("%s is said by %s: has it one meaning?", code, where)
		}
	}
	for code, advice := range page {
		switch {
		case programs.codes[code] == nil:
			t.Errorf("docs/codes.md has a row for %s, which nobody says", code)
		case slices.Contains(ownWords, code) == programs.texts[spoken(advice)]:
			t.Errorf("the row of %s says what no program says, or should not: %s", code, advice)
		}
	}
	for code, hint := range programs.hints {
		if !strings.HasSuffix(hint, ".") || spoken(hint) != spoken(page[code]) {
			t.Errorf("%s hints %q, its row %q", code, hint, page[code])
		}
	}
	if len(programs.hints) < 45 {
		t.Errorf("only %d reasons with hints found", len(programs.hints))
	}
	if len(page) < 150 {
		t.Errorf("only %d rows found in docs/codes.md", len(page))
	}
}

// spoken is a text as the page and the programs have it alike.
func spoken(text string) string {
	text = regexp.MustCompile(`%[.\d]*[a-z]`).ReplaceAllString(strings.ReplaceAll(text, "`", ""), "…")
	return strings.ToLower(strings.TrimSuffix(text, "."))
}

// whatIsSaid reads all programs.
func whatIsSaid(t *testing.T) said {
	t.Helper()
	s := said{map[string][]string{}, map[string]bool{}, map[string]string{}}
	for dir, files := range sources(t) {
		info := types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}}
		// Other packages are not looked at: constants of this one need none.
		loose := types.Config{Error: func(error) {}, Importer: nobody{}}
		fset := token.NewFileSet()
		var parsed []*ast.File
		for _, name := range files {
			file, err := parser.ParseFile(fset, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, file)
		}
		pkg, _ := loose.Check(dir, fset, parsed, &info)
		found := map[string]bool{}
		for _, file := range parsed {
			ast.Inspect(file, func(n ast.Node) bool {
				if b, ok := n.(*ast.BinaryExpr); ok && b.Op == token.EQL {
					return false // somebody else's code is recognised
				}
				s.look(n, info, pkg, found)
				return true
			})
		}
		for code := range found {
			s.codes[code] = append(s.codes[code], dir)
			slices.Sort(s.codes[code])
		}
	}
	return s
}

// look takes codes and texts from one piece of a program.
func (s said) look(n ast.Node, info types.Info, pkg *types.Package, found map[string]bool) {
	if text := written(n, info); text != "" {
		s.texts[spoken(text)] = true
		if codeLiteral.MatchString(text) && !strings.HasSuffix(text, "-000") { // 000: of a zero value
			found[text] = true
		}
	}
	call, ok := n.(*ast.CallExpr)
	if ok && len(call.Args) == 3 && codeLiteral.MatchString(written(call.Args[0], info)) {
		s.hints[written(call.Args[0], info)] = written(call.Args[2], info)
	}
	if !ok || len(call.Args) != 2 {
		return
	}
	family := codeFormat.FindStringSubmatch(written(call.Args[0], info))
	if family == nil {
		return
	}
	first, reason := numbered(call.Args[1], info)
	for _, name := range pkg.Scope().Names() {
		c, ok := pkg.Scope().Lookup(name).(*types.Const)
		if !ok || reason == nil || c.Type() != reason {
			continue
		}
		number, _ := constant.Int64Val(c.Val())
		found[fmt.Sprintf("%s-%03d", family[1], first+number)] = true
	}
}

// written is a text that stands in a program: a literal, or several joined.
func written(n ast.Node, info types.Info) string {
	if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
		text, _ := strconv.Unquote(literal.Value)
		return text
	}
	if e, ok := n.(ast.Expr); ok {
		if v := info.Types[e].Value; v != nil && v.Kind() == constant.String {
			return constant.StringVal(v)
		}
	}
	return ""
}

// numbered takes "first-1+int(e.Reason)" or "int(e.Reason)" apart: what is added, and
// the type of the reasons.
func numbered(e ast.Expr, info types.Info) (first int64, reason types.Type) {
	if sum, ok := e.(*ast.BinaryExpr); ok && info.Types[sum.X].Value != nil {
		first, _ = constant.Int64Val(info.Types[sum.X].Value)
		e = sum.Y
	}
	if conversion, ok := e.(*ast.CallExpr); ok && len(conversion.Args) == 1 {
		reason = info.Types[conversion.Args[0]].Type
	}
	return first, reason
}

// nobody imports nothing.
type nobody struct{}

func (nobody) Import(string) (*types.Package, error) { return nil, fs.ErrNotExist }

// sources are the files of all programs, by folder; not those of tests.
func sources(t *testing.T) map[string][]string {
	t.Helper()
	files := map[string][]string{}
	for _, root := range []string{"cmd", "internal", "manifest", "receipt", "quorum", "blob", "dsse", "logproof"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "testdata" {
				return fs.SkipDir
			}
			if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				files[filepath.Dir(path)] = append(files[filepath.Dir(path)], path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	delete(files, "internal/lab") // waits for codes, and makes none
	return files
}
