// Package manual writes a command and all that is below it as one manual page, in
// the macros of man(7).
package manual

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Command is a hidden command that prints the page of the command that it is given
// to, for whoever packs the program.
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
	fmt.Fprintf(&p, ".SH SYNOPSIS\n.B %s\n[\\fIcommand\\fR] [\\fIoptions\\fR]\n", escape(name))
	if root.Long != "" {
		p.WriteString(".SH DESCRIPTION\n")
		p.text(root.Long)
	}
	p.WriteString(".SH COMMANDS\n")
	p.commands(root)
	p.WriteString(".SH SEE ALSO\nhttps://github.com/phasebased/phase\n")
	return []byte(p.String())
}

type page struct{ strings.Builder }

// commands writes what is below cmd, in its order.
func (p *page) commands(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if c.HasAvailableSubCommands() {
			p.commands(c)
			continue
		}
		fmt.Fprintf(p, ".SS %s\n", quote(c.UseLine()))
		text := c.Long
		if text == "" {
			text = c.Short
		}
		p.text(text)
		c.LocalFlags().VisitAll(p.flag)
		if c.Example != "" {
			fmt.Fprintf(p, ".PP\nExamples:\n.PP\n.nf\n%s\n.fi\n", lines(c.Example))
		}
	}
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
	fmt.Fprintf(p, "\n%s\n", lines(usage))
}

// text writes paragraphs.
func (p *page) text(s string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(s), "\n\n") {
		if i > 0 {
			p.WriteString(".PP\n")
		}
		fmt.Fprintln(p, lines(paragraph))
	}
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
