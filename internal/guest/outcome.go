package guest

import (
	"bytes"
	"slices"
	"strings"
)

// outcome is what a test binary's output says about its tests. The binary runs
// with -test.v=test2json, where package testing begins each line about a test
// with a control character: what a test prints itself is never taken for one.
type outcome struct {
	tests map[string]*outcomeOf
	line  []byte // the unfinished line
	now   string // the test that printing belongs to
}

// outcomeOf is one test or subtest.
type outcomeOf struct {
	name     string
	verdict  verdict
	children []string // full names, in the order of their beginnings
	lines    []string // what it printed
}

type verdict string

const (
	unfinished verdict = ""
	passed     verdict = "PASS"
	failed     verdict = "FAIL"
	skipped    verdict = "SKIP"
)

const (
	marker   = '\x16' // begins a line of package testing
	maxTests = 10_000
	maxLines = 1000 // kept of each test; the rest is only logged
	maxLine  = 16 << 10
)

// write consumes a piece of output and returns its finished lines of text,
// without the marked ones.
func (o *outcome) write(p []byte) []string {
	var lines []string
	for len(p) > 0 {
		head, rest, found := bytes.Cut(p, []byte("\n"))
		p = rest
		o.line = append(o.line, head[:min(len(head), maxLine-len(o.line))]...)
		if found {
			lines = append(lines, o.end()...)
		}
	}
	return lines
}

// end finishes the line. A marked part may begin within it, behind what a test
// printed without a newline.
func (o *outcome) end() []string {
	text, event, marked := strings.Cut(string(o.line), string(marker))
	o.line = o.line[:0]
	var lines []string
	if text = plain(text); text != "" || !marked {
		lines = append(lines, text)
		o.keep(text)
	}
	if marked {
		o.event(event)
	}
	return lines
}

// plain drops the control characters with which package testing frames the lines
// of T.Error.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' {
			return -1
		}
		return r
	}, s)
}

func (o *outcome) keep(line string) {
	if t := o.tests[o.now]; t != nil && len(t.lines) < maxLines {
		t.lines = append(t.lines, line)
	}
}

// event takes one marked line: "=== RUN   TestX/sub" or "--- PASS: TestX (0.01s)".
func (o *outcome) event(text string) {
	words := strings.Fields(text)
	if len(words) < 3 {
		return
	}
	name := words[2]
	switch words[0] {
	case "===":
		o.now = name
		if words[1] == "RUN" {
			o.begin(name)
		}
	case "---":
		o.now = name
		if t := o.tests[name]; t != nil {
			t.verdict = verdict(strings.TrimSuffix(words[1], ":"))
		}
	}
}

func (o *outcome) begin(name string) {
	if o.tests == nil {
		o.tests = make(map[string]*outcomeOf)
	}
	if o.tests[name] != nil || len(o.tests) >= maxTests {
		return
	}
	o.tests[name] = &outcomeOf{name: name}
	// A subtest's own name may contain slashes: its parent is the longest test
	// that it can belong to.
	for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
		if parent := o.tests[name[:i]]; parent != nil {
			parent.children = append(parent.children, name)
			return
		}
	}
}

// reason is what a test said last, for a sentence about why it was skipped.
func (t *outcomeOf) reason() string {
	for _, line := range slices.Backward(t.lines) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return "it did not say why"
}
