package manual

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Markdown is the page of root among those of the reference: what a program and each
// command below it is for, takes and knows, in the program's own words. What it says
// depends on the program only, not on the machine.
func Markdown(root *cobra.Command) []byte {
	var m markdown
	fmt.Fprintf(&m, "<!-- Made from the program by `make reference`; a test compares them. -->\n# %s\n\n", root.Name())
	commands := below(root)
	if len(commands) == 0 {
		m.body(root)
		return m.bytes()
	}
	m.text(describe(root))
	m.WriteString("| command | what it does |\n|---|---|\n")
	for _, c := range commands {
		if shown(c) == nil {
			fmt.Fprintf(&m, "| [%s](#%s) | %s |\n", c.CommandPath(), strings.ReplaceAll(c.CommandPath(), " ", "-"), cell(c.Short))
		}
	}
	for _, c := range commands {
		if shown(c) == nil || c.Long != "" {
			fmt.Fprintf(&m, "\n## %s\n\n", c.CommandPath())
			m.body(c)
		}
	}
	return m.bytes()
}

// bytes is the page, with single empty lines only.
func (m *markdown) bytes() []byte {
	return []byte(strings.TrimRight(strings.ReplaceAll(m.String(), "\n\n\n", "\n\n"), "\n") + "\n")
}

// below are all commands below cmd that people are told of, each before its own.
func below(cmd *cobra.Command) (all []*cobra.Command) {
	for _, c := range shown(cmd) {
		all = append(append(all, c), below(c)...)
	}
	return all
}

// describe is what a command says of itself: both texts, where the second does not
// stand for the first.
func describe(c *cobra.Command) string {
	if c.Long == "" {
		return c.Short + "."
	}
	if !c.HasParent() {
		return c.Short + ".\n\n" + c.Long
	}
	return c.Long
}

type markdown struct{ strings.Builder }

// body is a command without its heading.
func (m *markdown) body(c *cobra.Command) {
	m.text(describe(c))
	if shown(c) != nil {
		return
	}
	fmt.Fprintf(m, "```text\n%s\n```\n", useLine(c))
	m.flags("Flags", c.LocalFlags())
	m.flags("Flags of the commands above", c.InheritedFlags())
	if c.Example != "" {
		fmt.Fprintf(m, "\nExamples:\n\n```text\n%s\n```\n", unindent(c.Example))
	}
}

func (m *markdown) flags(title string, set *pflag.FlagSet) {
	head := "\n| " + strings.ToLower(title[:1]) + title[1:] + " | what |\n|---|---|\n"
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		m.WriteString(head)
		head = ""
		value, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		fmt.Fprintf(m, "| `%s` | %s", strings.ReplaceAll(strings.TrimSpace(name+" "+value), "|", `\|`), cell(usage))
		if d := byDefault(f); d != "" {
			fmt.Fprintf(m, " (default `%s`)", d)
		}
		m.WriteString(" |\n")
	})
}

// text writes paragraphs. One that is laid out by hand stays as it is.
func (m *markdown) text(s string) {
	for _, paragraph := range paragraphs(s) {
		if laidOut(paragraph) {
			fmt.Fprintf(m, "```text\n%s\n```\n\n", unindent(paragraph))
			continue
		}
		fmt.Fprintf(m, "%s\n\n", literal(paragraph))
	}
}

// unindent takes away what all lines begin with.
func unindent(s string) string {
	lines := strings.Split(strings.Trim(s, "\n"), "\n")
	least := len(s)
	for _, line := range lines {
		if line != "" {
			least = min(least, len(line)-len(strings.TrimLeft(line, " ")))
		}
	}
	for i, line := range lines {
		lines[i] = line[min(least, len(line)):]
	}
	return strings.Join(lines, "\n")
}

// literal is text that Markdown is not to read otherwise.
func literal(s string) string {
	return strings.NewReplacer(`\`, `\\`, "<", `\<`, "*", `\*`, "`", "\\`").Replace(s)
}

// cell is text in a table.
func cell(s string) string { return strings.ReplaceAll(literal(s), "|", `\|`) }
