package term

import "strings"

// Prompt is a question at the end of the console, and what was typed after it so
// far. Other text may come at any time: it gets lines of its own, and the
// question is written again with the next key.
type Prompt struct {
	c     *Console
	text  string
	shown string // of what was typed, as it stands on the line
	ended bool
}

// promptLong is the width up to which a question stands before what is typed; a
// longer one gets lines of its own.
const promptLong = 50

// Prompt begins a question. There may be one at a time.
func (c *Console) Prompt(text string) *Prompt {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	p := &Prompt{c: c, text: "  " + c.text(text) + " "}
	if width(p.text) > promptLong {
		for _, line := range wrap(p.text, c.cfg.Width-2) {
			c.put("  " + line + "\n")
		}
		p.text = "  > "
	}
	p.begin()
	return p
}

// begin writes the question at the beginning of a line; c.mu is held.
func (p *Prompt) begin() {
	p.c.put(p.text)
	p.c.prompt, p.shown = p, ""
}

// Set shows what was typed altogether. Of what has no room on the line the end
// is shown.
func (p *Prompt) Set(typed string) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	if p.ended {
		return
	}
	if p.c.prompt != p {
		p.c.settle()
		p.begin()
	}
	to := p.window(p.c.text(typed))
	switch {
	case strings.HasPrefix(to, p.shown):
		p.c.put(to[len(p.shown):])
	case strings.HasPrefix(p.shown, to):
		p.c.put(erase(width(p.shown) - width(to)))
	default:
		p.c.put(erase(width(p.shown)) + to)
	}
	p.shown = to
}

// End ends the line.
func (p *Prompt) End() {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	if p.c.prompt == p {
		p.c.settle()
	}
	p.ended = true
}

// window is what of a text has room behind the question.
func (p *Prompt) window(text string) string {
	room := p.c.cfg.Width - width(p.text)
	if width(text) <= room {
		return text
	}
	runes := []rune(text)
	return "..." + string(runes[max(0, len(runes)-room+3):])
}

func erase(n int) string { return strings.Repeat("\b \b", n) }
