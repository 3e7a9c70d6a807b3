package manifest

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/logproof"
)

// The files in testdata are documents with one fault each (those named "…-ok…"
// have none). They are written by this file, from keys with fixed seeds:
//
//	go test ./manifest -run TestVectors -update
//
// Every vector is verified against testdata/root.json at the time now, wanting
// stable/x86_64, unless its row says otherwise. testdata/vectors.json lists all
// of this for other programs, testdata/README.md for people.
var update = flag.Bool("update", false, "write the vectors in testdata anew")

type vector struct {
	name   string // of the file, without .json; it begins with the kind
	item   int    // of badInputs
	rule   Rule   // that refuses it; empty for acceptance
	object string // that the refusal names; default the kind's
	stale  string // what has expired although it is accepted; last good only
	make   func(g *generator) []byte
	want   Want                      // default wantTest
	floor  Floor                     // manifests only
	ptr    bool                      // verify against the pointer to the good manifest
	at     time.Time                 // default now
	root   string                    // file in testdata without .json; default root
	proof  func(g *generator) []byte // verify under testdata/log-policy.txt, with this proof
}

var vectors = slices.Concat(manifestVectors, partVectors, verityVectors, pointerVectors, rootVectors)

// kind is how the file is verified.
func (v vector) kind() string {
	if strings.HasPrefix(v.name, "manifest-last-good-") {
		return "last-good"
	}
	return v.document()
}

// document is what the file is: manifest, pointer or root.
func (v vector) document() string {
	document, _, _ := strings.Cut(v.name, "-")
	return document
}

// defaults fills in what the row leaves out.
func (v vector) defaults() vector {
	if v.want == (Want{}) {
		v.want = wantTest
	}
	if v.at.IsZero() {
		v.at = now
	}
	if v.object == "" {
		v.object = v.document()
	}
	return v
}

func (v vector) verify(g *generator, raw, proof []byte) error {
	g.t.Helper()
	v = v.defaults()
	verifier := Verifier{Root: g.root(v.root), Want: v.want, Floor: v.floor}
	if v.proof != nil {
		var err error
		if verifier.Log, err = logproof.ParsePolicy(g.policy); err != nil {
			g.t.Fatal(err)
		}
	}
	switch v.kind() {
	case "manifest":
		var ptr *VerifiedPointer
		if v.ptr {
			var err error
			if ptr, err = (Verifier{Root: g.root(""), Want: wantTest}).Pointer(g.good["pointer"], now); err != nil {
				g.t.Fatal(err)
			}
		}
		got, err := verifier.Manifest(raw, proof, ptr, v.at)
		v.checkResult(g, got, err)
		return err
	case "last-good":
		got, err := verifier.LastGood(raw, proof, v.at)
		v.checkResult(g, got, err)
		return err
	case "pointer":
		got, err := verifier.Pointer(raw, v.at)
		if (err == nil) != got.Valid() || (err != nil && got != nil) {
			g.t.Errorf("%s: result %v with error %v", v.name, got, err)
		}
		return err
	case "root":
		_, err := ParseRoot(raw)
		return err
	}
	g.t.Fatalf("%s: unknown kind", v.name)
	return nil
}

// checkResult: it is either valid, with all that goes with it, or absent.
func (v vector) checkResult(g *generator, got *Verified, err error) {
	g.t.Helper()
	if (err == nil) != got.Valid() || (err != nil && got != nil) {
		g.t.Errorf("%s: result %v with error %v", v.name, got, err)
	}
	if object, since, stale := got.Stale(); object != v.stale || stale != (v.stale != "") || since.IsZero() == stale {
		g.t.Errorf("%s: stale is %q since %s, want %q", v.name, object, since, v.stale)
	}
	if logged, ok := got.Logged(); ok != (v.proof != nil && err == nil) || ok && logged.Origin != "log.example" {
		g.t.Errorf("%s: logged is %+v, %v", v.name, logged, ok)
	}
}

func TestVectors(t *testing.T) {
	g := newGenerator(t)
	files := vectorFiles(t, g)
	if *update {
		writeVectors(t, files)
	}
	for path, want := range files {
		if raw, err := os.ReadFile(path); err != nil || !bytes.Equal(raw, want) {
			t.Errorf("%s is not what the generator makes; run with -update and look at the difference: %v", path, err)
		}
	}
	for _, path := range testdataFiles(t) {
		if files[path] == nil {
			t.Errorf("%s belongs to no vector", path)
		}
	}
	for _, v := range vectors {
		err := v.verify(g, files[v.path()], files[v.proofPath()])
		checkVerdict(t, v.name, v.rule, v.defaults().object, err)
	}
}

func checkVerdict(t *testing.T, name string, rule Rule, object string, err error) {
	t.Helper()
	var refused *Error
	switch {
	case rule == "" && err != nil:
		t.Errorf("%s: %v", name, err)
	case rule != "" && err == nil:
		t.Errorf("%s: accepted", name)
	case rule != "" && (!errors.As(err, &refused) || refused.Rule != rule):
		t.Errorf("%s: refused by another rule than %s: %v", name, rule, err)
	case rule != "":
		checkMessage(t, name, object, refused)
	}
}

// checkMessage: what people and scripts rely on is in every refusal.
func checkMessage(t *testing.T, name, object string, e *Error) {
	t.Helper()
	text := e.Error()
	if e.Object != object || !strings.Contains(strings.ToLower(text), object) {
		t.Errorf("%s: message does not name the %s: %s", name, object, text)
	}
	if !strings.HasPrefix(e.Code(), "VFY-0") || e.Code() == "VFY-000" || e.Hint() == "" {
		t.Errorf("%s: code %s, hint %q", name, e.Code(), e.Hint())
	}
	if len(text) > 1000 || strings.ContainsAny(text, "\n\r\x00\x1b") {
		t.Errorf("%s: message is not fit for a console: %q", name, text)
	}
}

func (v vector) path() string { return filepath.Join("testdata", v.name+".json") }

func (v vector) proofPath() string { return filepath.Join("testdata", v.name+".tlog-proof") }

// vectorFiles makes every file in testdata, by path. An empty file is not nil.
func vectorFiles(t *testing.T, g *generator) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	add := func(path string, raw []byte) {
		if files[path] != nil {
			t.Fatalf("two vectors are called %s", path)
		}
		files[path] = append([]byte{}, raw...)
	}
	add("testdata/root.json", g.good["root"])
	add("testdata/log-policy.txt", g.policy)
	for _, v := range vectors {
		add(v.path(), v.make(g))
		if v.proof != nil && v.proof(g) != nil {
			add(v.proofPath(), v.proof(g))
		}
	}
	for _, c := range chainVectors {
		for name, raw := range c.make(g) {
			add(filepath.Join("testdata", c.name, name), raw)
		}
	}
	index, readme := writeIndex(t, g)
	add("testdata/vectors.json", index)
	add("testdata/README.md", readme)
	return files
}

// testdataFiles lists what is there, but for folders that other tests keep.
func testdataFiles(t *testing.T) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "testdata" && !strings.HasPrefix(d.Name(), "chain-"):
			return filepath.SkipDir
		case !d.IsDir():
			list = append(list, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func writeVectors(t *testing.T, files map[string][]byte) {
	t.Helper()
	for _, path := range testdataFiles(t) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	for path, raw := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
