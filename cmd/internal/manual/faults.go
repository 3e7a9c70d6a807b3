package manual

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// letters are the flags that have a letter in every command that has them, because
// people type them often and expect it.
var letters = map[string]string{"format": "f", "verbose": "v", "quiet": "q", "yes": "y", "out": "o", "key": "k", "manifest": "m"}

// Faults says what the program's help lacks or gets wrong, one sentence each: a command
// without a text or an example, an example that names no command or flag of the
// program, a flag without a text or with another letter than elsewhere.
func Faults(root *cobra.Command) (faults []string) {
	fault := func(c *cobra.Command, format string, args ...any) {
		faults = append(faults, c.CommandPath()+": "+fmt.Sprintf(format, args...))
	}
	if !strings.Contains(root.Long, "Exit status: ") {
		fault(root, "its text does not say what its exit status means")
	}
	for _, c := range append([]*cobra.Command{root}, below(root)...) {
		if !regexp.MustCompile(`^[A-Z].*[^.]$`).MatchString(c.Short) {
			fault(c, "the short text begins with a capital and has no stop at its end: %q", c.Short)
		}
		if shown(c) == nil && c.Example == "" {
			fault(c, "there is no example")
		}
		if line := laidOutTooWide(c); line != "" {
			fault(c, "a line of its text is wider than %d columns: %q", columns, line)
		}
		for _, words := range calls(root.Name(), c.Example) {
			if problem := misuse(root, words); problem != "" {
				fault(c, "the example %q: %s", strings.Join(words, " "), problem)
			}
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if problem := flagFault(f); problem != "" && f.Name != "help" {
				fault(c, "--%s: %s", f.Name, problem)
			}
		})
	}
	return faults
}

func flagFault(f *pflag.Flag) string {
	value, usage := pflag.UnquoteUsage(f)
	switch letter := letters[f.Name]; {
	case usage == "":
		return "no text"
	case strings.HasSuffix(usage, ".") || strings.Contains(usage, "\n") || strings.Contains(usage, "  "):
		return "its text is one line, without a stop at its end"
	case f.Value.Type() == "stringArray" && !strings.Contains(usage, "repeatable"):
		return "its text does not say that it is repeatable"
	case value == "stringArray":
		return "its text does not name the value"
	case letter != "" && f.Shorthand != letter && f.Value.Type() != "stringSlice":
		return "elsewhere it is -" + letter + " as well"
	}
	return ""
}

// calls are the lines of an example that call the program, as words: without what
// stands before it, and behind a pipe or a comment sign.
func calls(program, example string) (all [][]string) {
	for line := range strings.SplitSeq(strings.ReplaceAll(example, "\\\n", " "), "\n") {
		for part := range strings.SplitSeq(line, "|") {
			words := strings.Fields(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(part, "QUOTED"))
			if end := slices.Index(words, "#"); end >= 0 {
				words = words[:end]
			}
			if at := slices.Index(words, program); at >= 0 {
				all = append(all, words[at:])
			}
		}
	}
	return all
}

// misuse says what the program would not take in a call, "" for nothing. It leaves the
// call's flags set.
func misuse(root *cobra.Command, words []string) string {
	c, rest, err := root.Find(words[1:])
	if err == nil && shown(c) != nil && c != root {
		return "this only holds other commands"
	}
	if err == nil {
		err = c.ParseFlags(rest)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}
