package manual

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// sample is a program that describes itself well.
func sample() (root, leaf *cobra.Command) {
	run := func(*cobra.Command, []string) {}
	root = &cobra.Command{Use: "tool", Short: "Do things", Long: "Does things.\n\n  one  a\n  two  b\n\nExit status: 0 done."}
	group := &cobra.Command{Use: "group", Short: "A group", Long: "Text of <all>."}
	group.PersistentFlags().StringP("format", "f", "text", "text or json")
	leaf = &cobra.Command{Use: "leaf FILE", Short: "Short", Example: "  tool group leaf -f json x --out=\"a b\" \\\n    --many 3\n  cat x | tool group leaf - # comment --no-flag", Run: run}
	leaf.Flags().StringP("out", "o", "build", "`folder` to write a|b to")
	leaf.Flags().Int("many", 0, "how many")
	group.AddCommand(leaf)
	root.AddCommand(group, &cobra.Command{Use: "secret", Hidden: true, Run: run})
	return root, leaf
}

func TestFaults(t *testing.T) {
	root, _ := sample()
	if faults := Faults(root); len(faults) != 0 {
		t.Errorf("%q", faults)
	}
	for want, spoil := range map[string]func(root, leaf *cobra.Command){
		"tool: its text does not say what its exit status means": func(root, _ *cobra.Command) { root.Long = "Does things." },
		"begins with a capital":                                  func(_, leaf *cobra.Command) { leaf.Short = "short" },
		"wider than 80 columns":                                  func(root, _ *cobra.Command) { root.Long += "\n\n  " + strings.Repeat("x", 79) },
		"has no stop at its end":                                 func(_, leaf *cobra.Command) { leaf.Short = "Short." },
		"there is no example":                                    func(_, leaf *cobra.Command) { leaf.Example = "" },
		"unknown flag: --force":                                  func(_, leaf *cobra.Command) { leaf.Example = "  tool group leaf x --force" },
		"unknown shorthand flag: 'x'":                            func(_, leaf *cobra.Command) { leaf.Example = "  tool group leaf -x" },
		`invalid argument "some"`:                                func(_, leaf *cobra.Command) { leaf.Example = "  tool group leaf --many some" },
		"this only holds other commands":                         func(_, leaf *cobra.Command) { leaf.Example = "  sudo tool group x" },
		"--bare: no text":                                        func(_, leaf *cobra.Command) { leaf.Flags().Bool("bare", false, "") },
		"--stop: its text is one line":                           func(_, leaf *cobra.Command) { leaf.Flags().Bool("stop", false, "text.") },
		"--list: its text does not name the value":               func(_, leaf *cobra.Command) { leaf.Flags().StringArray("list", nil, "what; repeatable") },
		"--list: its text does not say that it is repeatable":    func(_, leaf *cobra.Command) { leaf.Flags().StringArray("list", nil, "`what`") },
		"--quiet: elsewhere it is -q as well":                    func(_, leaf *cobra.Command) { leaf.Flags().Bool("quiet", false, "text") },
	} {
		root, leaf := sample()
		spoil(root, leaf)
		if faults := Faults(root); !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, want) }) {
			t.Errorf("%q is not in %q", want, faults)
		}
	}
}

func TestMarkdown(t *testing.T) {
	root, _ := sample()
	page := string(Markdown(root))
	for _, want := range []string{
		"# tool\n\nDo things.\n\nDoes things.\n\n```text\none  a\ntwo  b\n```\n\nExit status",
		"| [tool group leaf](#tool-group-leaf) | Short |\n",
		"\n## tool group\n\nText of \\<all>.\n\n## tool group leaf\n\nShort.\n\n```text\ntool group leaf FILE [flags]\n```\n",
		"\n| flags | what |\n|---|---|\n| `--many int` | how many |\n| `-o, --out folder` | folder to write a\\|b to (default `build`) |\n",
		"\n| flags of the commands above | what |\n|---|---|\n| `-f, --format string` | text or json (default `text`) |\n",
		"\nExamples:\n\n```text\ntool group leaf -f json x --out=\"a b\" \\\n  --many 3\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	if strings.Contains(page, "secret") || strings.Contains(page, "--help") || strings.Contains(page, "\n\n\n") {
		t.Error(page)
	}
	single := &cobra.Command{Use: "single", Short: "One", Run: func(*cobra.Command, []string) {}}
	if got := string(Markdown(single)); !strings.HasSuffix(got, "# single\n\nOne.\n\n```text\nsingle\n```\n") {
		t.Error(got)
	}
}

func TestCompletion(t *testing.T) {
	root, _ := sample()
	for _, shell := range Shells() {
		script, err := Completion(root, shell)
		if err != nil || !strings.Contains(string(script), "tool") {
			t.Errorf("%s: %v", shell, err)
		}
		if !strings.Contains(CompletionPath(shell, "tool"), "tool") {
			t.Error(shell)
		}
	}
	if _, err := Completion(root, "csh"); err == nil {
		t.Error("csh")
	}
}
