package typo

import (
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func tool() *cobra.Command {
	root := &cobra.Command{Use: "tool", Args: Command, SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error { return nil }}
	root.SetFlagErrorFunc(Flag)
	run := func(*cobra.Command, []string) error { return nil }
	image := &cobra.Command{Use: "image", RunE: run}
	image.Flags().String("channel", "", "")
	image.Flags().BoolP("verbose", "v", false, "")
	image.Flags().Bool("secret", false, "")
	_ = image.Flags().MarkHidden("secret")
	root.AddCommand(image, &cobra.Command{Use: "doctor", RunE: run}, &cobra.Command{Use: "hidden", Hidden: true, RunE: run})
	return root
}

func TestMeant(t *testing.T) {
	for line, want := range map[string]string{
		"iamge":               `unknown command "iamge"; did you mean image?`,
		"Image":               `unknown command "Image"; did you mean image?`,
		"doc":                 `unknown command "doc"; did you mean doctor?`,
		"hiden":               `unknown command "hiden"`,
		"x":                   `unknown command "x"`,
		"image --chanel x":    "unknown flag: --chanel; did you mean --channel?",
		"image --chan x":      "unknown flag: --chan; did you mean --channel?",
		"image --secre":       "unknown flag: --secre",
		"image --elsewhere x": "unknown flag: --elsewhere",
		"image -x":            "unknown shorthand flag: 'x' in -x",
	} {
		root := tool()
		root.SetArgs(strings.Fields(line))
		if err := root.Execute(); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
	if err := Command(tool(), nil); err != nil {
		t.Error(err)
	}
	cause := errors.New("cause")
	if err := Flag(tool(), cause); !errors.Is(err, cause) {
		t.Error(err)
	}
}

func TestDistance(t *testing.T) {
	for pair, want := range map[[2]string]int{
		{"", ""}: 0, {"a", ""}: 1, {"", "ab"}: 2, {"image", "iamge"}: 1, {"demo", "dmeo"}: 1,
		{"kitten", "sitting"}: 3, {"é", "e"}: 1,
	} {
		if got := distance(pair[0], pair[1]); got != want {
			t.Errorf("%q and %q: %d, want %d", pair[0], pair[1], got, want)
		}
	}
}

// TestAlias: scripts may go on using the other name of a flag.
func TestAlias(t *testing.T) {
	for _, name := range []string{"--out", "--output", "-o"} {
		var out string
		cmd := &cobra.Command{Use: "tool", RunE: func(*cobra.Command, []string) error { return nil }}
		cmd.Flags().StringVarP(&out, "out", "o", "", "")
		Alias(cmd, "output", "out")
		cmd.SetArgs([]string{name, "x"})
		if err := cmd.Execute(); err != nil || out != "x" {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
}
