package manual

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"
)

// Shells are those that can complete what people type.
func Shells() []string { return []string{"bash", "zsh", "fish"} }

// CompletionPath is where a shell's package of Debian looks, below /usr/share, for what
// other packages bring to complete a program's arguments.
func CompletionPath(shell, program string) string {
	switch shell {
	case "bash":
		return "bash-completion/completions/" + program
	case "zsh":
		return "zsh/vendor-completions/_" + program
	}
	return "fish/vendor_completions.d/" + program + ".fish"
}

// Completion is the file that belongs there.
func Completion(root *cobra.Command, shell string) ([]byte, error) {
	var script bytes.Buffer
	var err error
	switch shell {
	case "bash":
		err = root.GenBashCompletionV2(&script, true)
	case "zsh":
		err = root.GenZshCompletion(&script)
	case "fish":
		err = root.GenFishCompletion(&script, true)
	default:
		err = fmt.Errorf("no completions for the shell %q", shell)
	}
	return script.Bytes(), err
}

// Complete tells shells what the flags take that mean the same in every command, where
// the command has not said it itself.
func Complete(root *cobra.Command) {
	for _, c := range append([]*cobra.Command{root}, below(root)...) {
		for name, choices := range map[string][]string{
			"format":  {"text", "json"},
			"arch":    {"x86_64", "arm64"},
			"channel": {"stable", "testing", "nightly"},
		} {
			if f := c.LocalFlags().Lookup(name); f != nil && f.Value.Type() == "string" {
				// An error says that the command did say it.
				_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp))
			}
		}
	}
}
