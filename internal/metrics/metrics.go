// Package metrics writes figures in the Prometheus text exposition format, version
// 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/
//
// There is no registry: who has figures writes them onto the page that is asked for,
// under a prefix of its own. What becomes a label is made up by the writer, never by
// strangers, who would decide how long the page is; its text is escaped all the same.
package metrics

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// The kinds of families.
const (
	Counter = "counter"
	Gauge   = "gauge"
)

// A Page is what one request is answered with, or a part of it. Errors of the writer
// are not reported: who asked has gone.
type Page struct {
	w      io.Writer
	prefix string
}

// NewPage writes families whose names begin with prefix, such as "phase_node_".
func NewPage(w io.Writer, prefix string) Page { return Page{w, prefix} }

// Family begins a family. Its samples follow, before any other family.
func (p Page) Family(name, kind, help string) {
	fmt.Fprintf(p.w, "# HELP %s%s %s\n# TYPE %s%s %s\n", p.prefix, name, help, p.prefix, name, kind)
}

// Sample writes one value; labels are names and values in turn.
func (p Page) Sample(name string, value float64, labels ...string) {
	var text strings.Builder
	for i := 0; i+1 < len(labels); i += 2 {
		sep := ","
		if i == 0 {
			sep = "{"
		}
		fmt.Fprintf(&text, "%s%s=\"%s\"", sep, labels[i], escapes.Replace(labels[i+1]))
	}
	if len(labels) > 0 {
		text.WriteString("}")
	}
	fmt.Fprintf(p.w, "%s%s%s %s\n", p.prefix, name, &text, number(value))
}

var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// Single writes a family of one value.
func (p Page) Single(name, kind, help string, value float64) {
	p.Family(name, kind, help)
	p.Sample(name, value)
}

// Flag is 1 for true.
func Flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Answer prepares the head of an answer with a page.
func Answer(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
}
