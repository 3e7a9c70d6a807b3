// Package manual describes a program from its commands: as one manual page in the
// macros of man(7), as a page of Markdown, and as completions for shells. It also
// says what the description lacks.
package manual

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Command is a hidden command that prints the page of the program that it is given
// to, for whoever packs that.
func Command(date func() time.Time) *cobra.Command {
	return &cobra.Command{
		Use: "manual", Short: "Print this program's manual page", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(Page(cmd.Root(), date()))
			return err
		},
	}
}

// Page is the manual page of root, of section 1.
func Page(root *cobra.Command, date time.Time) []byte {
	var p page
	name := root.Name()
	fmt.Fprintf(&p, ".TH %s 1 %s \"Phase Boot\" \"User Commands\"\n", quote(strings.ToUpper(name)), quote(date.UTC().Format(time.DateOnly)))
	fmt.Fprintf(&p, ".SH NAME\n%s \\- %s\n", escape(name), escape(lower(root.Short)))
	p.WriteString(".SH SYNOPSIS\n")
	if shown(root) == nil {
		fmt.Fprintf(&p, ".B %s\n", escape(useLine(root)))
	} else {
		fmt.Fprintf(&p, ".B %s\n[\\fIcommand\\fR] [\\fIoptions\\fR]\n", escape(name))
	}
	if root.Long != "" {
		p.WriteString(".SH DESCRIPTION\n")
		p.text(root.Long)
	}
	if shown(root) == nil {
		p.WriteString(".SH OPTIONS\n")
		p.flags(root)
		if root.Example != "" {
			fmt.Fprintf(&p, ".SH EXAMPLES\n.nf\n%s\n.fi\n", lines(root.Example))
		}
	} else {
		p.WriteString(".SH COMMANDS\n")
		p.commands(root)
	}
	p.WriteString(".SH SEE ALSO\nhttps://github.com/phasebased/phase\n")
	return []byte(p.String())
}

// shown are the commands directly below cmd that people are told of.
func shown(cmd *cobra.Command) (below []*cobra.Command) {
	for _, c := range cmd.Commands() {
		if !c.Hidden && c.Name() != "help" && c.Name() != "completion" {
			below = append(below, c)
		}
	}
	return below
}

// useLine is how a command is called. Cobra says that there are flags once it has looked
// for those of the commands above.
func useLine(c *cobra.Command) string {
	c.InheritedFlags()
	return c.UseLine()
}

type page struct{ strings.Builder }

// commands writes what is below cmd, in its order. What only holds others is written
// where it says more than its name.
func (p *page) commands(cmd *cobra.Command) {
	for _, c := range shown(cmd) {
		group := shown(c) != nil
		if !group || c.Long != "" {
			p.command(c, group)
		}
		p.commands(c)
	}
}

func (p *page) command(c *cobra.Command, group bool) {
	title := useLine(c)
	if group {
		title = c.CommandPath() + " …"
	}
	fmt.Fprintf(p, ".SS %s\n", quote(title))
	text := c.Long
	if text == "" {
		text = c.Short
	}
	p.text(text)
	if group {
		return
	}
	p.flags(c)
	if c.Example != "" {
		fmt.Fprintf(p, ".PP\nExamples:\n.PP\n.nf\n%s\n.fi\n", lines(c.Example))
	}
}

// flags writes the command's own, and those of the commands above.
func (p *page) flags(c *cobra.Command) {
	c.LocalFlags().VisitAll(p.flag)
	c.InheritedFlags().VisitAll(p.flag)
}

func (p *page) flag(f *pflag.Flag) {
	if f.Hidden || f.Name == "help" {
		return
	}
	value, usage := pflag.UnquoteUsage(f)
	p.WriteString(".TP\n")
	if f.Shorthand != "" {
		fmt.Fprintf(p, "\\fB%s\\fR, ", escape("-"+f.Shorthand))
	}
	fmt.Fprintf(p, "\\fB%s\\fR", escape("--"+f.Name))
	if value != "" {
		fmt.Fprintf(p, " \\fI%s\\fR", escape(value))
	}
	if d := byDefault(f); d != "" {
		usage += " (default " + d + ")"
	}
	fmt.Fprintf(p, "\n%s\n", lines(usage))
}

// byDefault is a flag's default, "" for what a flag has that nobody gave one.
func byDefault(f *pflag.Flag) string {
	switch f.DefValue {
	case "", "0", "0s", "false", "[]", "<nil>":
		return ""
	}
	return strings.Trim(f.DefValue, "[]")
}

// text writes paragraphs. One with lines that are indented is laid out by hand, and
// stays as it is.
func (p *page) text(s string) {
	for i, paragraph := range paragraphs(s) {
		if i > 0 {
			p.WriteString(".PP\n")
		}
		if laidOut(paragraph) {
			fmt.Fprintf(p, ".nf\n%s\n.fi\n", lines(paragraph))
			continue
		}
		fmt.Fprintln(p, lines(paragraph))
	}
}

func paragraphs(s string) []string { return strings.Split(strings.Trim(s, "\n"), "\n\n") }

func laidOut(paragraph string) bool {
	return strings.HasPrefix(paragraph, " ") || strings.Contains(paragraph, "\n ")
}

// lines escapes lines, none of which is then a request: those begin with a stop or
// an apostrophe.
func lines(s string) string {
	var out []string
	for line := range strings.SplitSeq(strings.TrimRight(s, "\n"), "\n") {
		line = escape(line)
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			line = `\&` + line
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// escape keeps what roff would read otherwise. A hyphen is one that people copy.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
}

func quote(s string) string { return `"` + strings.ReplaceAll(escape(s), `"`, `\(dq`) + `"` }

// lower makes a sentence's beginning a phrase's.
func lower(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
