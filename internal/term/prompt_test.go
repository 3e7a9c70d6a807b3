package term

import (
	"strings"
	"testing"
	"time"
)

// screen is what a terminal shows of text with backspaces.
func screen(text string) string {
	var out []rune
	for _, r := range text {
		if r == '\b' {
			out = out[:len(out)-1]
			continue
		}
		out = append(out, r)
	}
	return string(out)
}

func newPrompt(text string) (*Prompt, *Console, *strings.Builder) {
	var out strings.Builder
	c := New(Config{Out: &out, Now: func() time.Duration { return 0 }, ASCII: true})
	return c.Prompt(text), c, &out
}

func TestPrompt(t *testing.T) {
	p, _, out := newPrompt("Gateway:")
	for _, typed := range []string{"1", "10", "1", "192", "192.\x1b[2J"} {
		p.Set(typed)
	}
	p.End()
	p.Set("late")
	if got := strings.ReplaceAll(screen(out.String()), " ", "_"); got != "__Gateway:_192.?[2J\n" {
		t.Errorf("%q", got)
	}
}

func TestPromptIsBegunAgainAfterOtherText(t *testing.T) {
	p, c, out := newPrompt("Gateway:")
	p.Set("10")
	c.Line("eth0: link is up")
	p.Set("10.")
	p.End()
	want := "  Gateway: 10\n             eth0: link is up\n  Gateway: 10.\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPromptEndsOnItsOwnLine(t *testing.T) {
	p, c, out := newPrompt("Gateway:")
	p.Set("x")
	c.Step("Network").Done("")
	p.End()
	if got := out.String(); strings.Count(got, "\n") != 2 || strings.HasSuffix(got, "\n\n") {
		t.Errorf("%q", got)
	}
}

func TestPromptStaysWithinTheWidth(t *testing.T) {
	for _, text := range []string{"URL:", strings.Repeat("a long question ", 6), strings.Repeat("x", 100)} {
		p, _, out := newPrompt(text)
		typed := ""
		for i := range 300 {
			typed += string(rune('a' + i%26))
			p.Set(typed)
		}
		for len(typed) > 0 {
			typed = typed[:len(typed)-1]
			p.Set(typed)
			for line := range strings.SplitSeq(screen(out.String()), "\n") {
				if len(strings.TrimRight(line, " ")) > DefaultWidth {
					t.Fatalf("a line of %d columns: %q", len(line), line)
				}
			}
		}
		last := out.String()[strings.LastIndex(out.String(), "\n")+1:]
		if got := strings.TrimRight(screen(last), " "); got != "  URL:" && got != "  >" {
			t.Errorf("left on the line: %q", got)
		}
	}
}
