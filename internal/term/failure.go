package term

import "strings"

// Failure is what a person is told when a boot stops.
type Failure struct {
	Title string   // one line: "The boot stopped: no network"
	Code  string   // "NET-003"; may be empty
	Wrong string   // what went wrong
	Tried []string // what was tried, one line each
	Do    []string // what you can do, the best first
}

// Failure writes the failure screen.
func (c *Console) Failure(f Failure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	rule := strings.Repeat("-", c.cfg.Width-2)
	title := c.text(f.Title)
	if f.Code != "" {
		title += "  [" + c.text(f.Code) + "]"
	}
	c.put("\n  " + rule + "\n")
	for _, line := range wrap(title, c.cfg.Width-2) {
		c.put("  " + c.paint(red, line) + "\n")
	}
	c.section("What went wrong", []string{f.Wrong}, "")
	c.section("What was tried", f.Tried, "- ")
	c.section("What you can do", f.Do, "- ")
	c.put("  " + rule + "\n\n")
}

// section writes a heading and its points; c.mu is held.
func (c *Console) section(heading string, points []string, mark string) {
	if len(points) == 0 {
		return
	}
	c.put("\n  " + c.paint(bold, heading) + "\n")
	for _, point := range points {
		lead := "  " + mark
		for _, line := range wrap(c.text(point), c.cfg.Width-len(lead)) {
			c.put(lead + line + "\n")
			lead = strings.Repeat(" ", len(lead))
		}
	}
}
