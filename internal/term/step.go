package term

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	nameWidth = 12                 // of a step's or an artifact's name
	stepWidth = 13 + nameWidth + 1 // of a step's line before its result
)

// Step is one line: when the step began, its name, and how it ended.
type Step struct {
	c     *Console
	name  string
	start time.Duration
	once  sync.Once
}

// Step begins a step. Its line can be seen at once, so that a step that hangs
// has a name; the line is completed by Done or Fail, or begun again if other
// text came between.
func (c *Console) Step(name string) *Step {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	s := &Step{c: c, name: c.text(name), start: c.cfg.Now()}
	c.put(s.head())
	c.open = s
	return s
}

// Done ends the step's line with what came out of it. Only the first of Done
// and Fail counts.
func (s *Step) Done(note string) { s.end(green, "ok", note) }

// Fail ends the step's line with what went wrong; Failure tells the rest.
func (s *Step) Fail(note string) { s.end(red, "failed", note) }

func (s *Step) end(col color, word, note string) {
	s.once.Do(func() {
		c := s.c
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.open != s || c.live {
			c.settle()
			c.put(s.head())
		}
		c.open = nil
		line := strings.Repeat(" ", stepWidth-width(s.head())) + c.paint(col, word)
		note = c.text(note)
		if stepWidth+width(word)+2+width(note) <= c.cfg.Width {
			c.put(strings.TrimRight(line+"  "+note, " ") + "\n")
			return
		}
		c.put(line + "\n")
		c.note(note)
	})
}

// head is the part before the result: "  [  2.14 s] network".
func (s *Step) head() string {
	return fmt.Sprintf("  [%s] %s", padLeft(seconds(s.start), 8), cut(s.name, nameWidth))
}

// seconds writes a time with two digits after the point: "2.14 s".
func seconds(d time.Duration) string {
	return fmt.Sprintf("%.2f s", d.Seconds())
}
