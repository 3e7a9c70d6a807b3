// Package term writes the calm console: one line per step with its time, a
// progress bar or a line each ten percent, a failure screen, a timeline table.
//
// The same boot is watched on a VGA text screen, on a serial line, in a log
// file and in CI. So nothing is assumed of the output: a bar that rewrites its
// line (Live), colour, and characters beyond ASCII are each asked for by the
// caller. No line is longer than Width unless it holds a hash or a path that
// cannot be broken readably.
//
// Much of what is shown comes from strangers: error texts, URLs, names from the
// network. Every text is passed through Clean, so that none of it can move the
// cursor, change colours or forge a second line.
//
// A Console reads no clock of its own and keeps no output: Now is a function.
package term

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// DefaultWidth is used when Config.Width is 0. A VGA screen has 80 columns;
// four are left so that no terminal wraps by itself.
const DefaultWidth = 76

// minWidth leaves room for the columns of steps and tables.
const minWidth = 64

// Config describes one output. Out and Now are required.
type Config struct {
	// Out receives whole pieces of text, each in one Write. Write errors are
	// ignored: there is nowhere to tell them.
	Out io.Writer
	// Now is the time since boot that a step's line shows.
	Now func() time.Duration
	// Width is the number of columns, 64 or more; 0 means DefaultWidth.
	Width int
	// ASCII replaces every other character, for VGA text screens.
	ASCII bool
	// Color allows ANSI colours. The caller has looked at NO_COLOR.
	Color bool
	// Live allows a line to be rewritten with carriage return. Off for serial
	// logs and files.
	Live bool
}

// Console writes one boot's story. It is safe for use by several goroutines.
type Console struct {
	cfg Config

	mu   sync.Mutex
	open *Step // the step whose line has no newline yet
	live bool  // a bar stands on the current line

	prompt *Prompt // whose line has no newline yet
}

// New makes a Console; it writes nothing yet.
func New(cfg Config) *Console {
	if cfg.Width == 0 {
		cfg.Width = DefaultWidth
	}
	cfg.Width = max(cfg.Width, minWidth)
	return &Console{cfg: cfg}
}

// Header writes the first lines: what this is, and below it what it will do.
func (c *Console) Header(title, subtitle string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	c.put("\n  " + c.paint(bold, c.text(title)) + "\n")
	for _, line := range wrap(c.text(subtitle), c.cfg.Width-2) {
		c.put("  " + line + "\n")
	}
	c.put("\n")
}

// Line writes a text as a note under the steps, wrapped.
func (c *Console) Line(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	c.note(c.text(text))
}

// Text writes a line of a document: from the margin, wrapped. A line that begins
// with blanks keeps some of them.
func (c *Console) Text(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	text = c.text(text)
	indent := "  " + strings.Repeat(" ", min(8, len(text)-len(strings.TrimLeft(text, " "))))
	for _, line := range wrap(text, c.cfg.Width-len(indent)) {
		c.put(strings.TrimRight(indent+line, " ") + "\n")
	}
}

// note writes a clean text below the names of the steps, or further left if a
// hash or URL in it needs the room; c.mu is held.
func (c *Console) note(text string) {
	indent := noteIndent
	if longest(text) > c.cfg.Width-len(indent) {
		indent = "    "
	}
	for _, line := range wrap(text, c.cfg.Width-len(indent)) {
		c.put(indent + line + "\n")
	}
}

// Linef is Line with formatting.
func (c *Console) Linef(format string, args ...any) { c.Line(fmt.Sprintf(format, args...)) }

// Title writes a heading over a block.
func (c *Console) Title(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	c.put("\n  " + c.paint(bold, c.text(text)) + "\n")
}

// Pair is one line of a block: a key and a value.
type Pair struct{ Key, Value string }

// Pairs writes a block with the values in one column.
func (c *Console) Pairs(pairs []Pair) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	keys := 0
	for _, p := range pairs {
		keys = max(keys, width(c.text(p.Key)))
	}
	for _, p := range pairs {
		key, value := pad(c.text(p.Key), keys), c.text(p.Value)
		if longest(value) > c.cfg.Width-4-keys {
			c.put("  " + c.paint(dim, strings.TrimRight(key, " ")) + "\n")
			for _, line := range wrap(value, c.cfg.Width-4) {
				c.put("    " + line + "\n")
			}
			continue
		}
		for _, line := range wrap(value, c.cfg.Width-4-keys) {
			c.put(strings.TrimRight("  "+c.paint(dim, key)+"  "+line, " ") + "\n")
			key = strings.Repeat(" ", keys)
		}
	}
}

const noteIndent = "             "

// settle ends an unfinished line, so that other text starts on its own; c.mu
// is held.
func (c *Console) settle() {
	switch {
	case c.prompt != nil:
		c.put("\n")
		c.prompt = nil
	case c.live:
		c.put("\r" + strings.Repeat(" ", c.cfg.Width) + "\r")
		c.live = false
	case c.open != nil && c.cfg.Live:
		c.put("\r" + strings.Repeat(" ", c.cfg.Width) + "\r")
		c.open = nil
	case c.open != nil:
		c.put("\n")
		c.open = nil
	}
}

func (c *Console) put(s string) { _, _ = io.WriteString(c.cfg.Out, s) }

type color string

const (
	bold  color = "\x1b[1m"
	dim   color = "\x1b[2m"
	red   color = "\x1b[1;31m"
	green color = "\x1b[32m"
	reset       = "\x1b[0m"
)

func (c *Console) paint(col color, s string) string {
	if !c.cfg.Color || strings.TrimSpace(s) == "" {
		return s
	}
	return string(col) + s + reset
}
