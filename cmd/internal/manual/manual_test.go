package manual

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func TestPage(t *testing.T) {
	root := &cobra.Command{Use: "tool", Short: "Do things"}
	group := &cobra.Command{Use: "group", Short: "A group"}
	run := func(*cobra.Command, []string) {}
	leaf := &cobra.Command{Use: "leaf FILE", Short: "Short", Long: "One.\n.TH forged\n\n'Two \\ three", Example: "  tool group leaf x\n", Run: run}
	leaf.Flags().StringP("out", "o", "", "`folder` to write to")
	leaf.Flags().Bool("quiet", false, "say nothing")
	group.AddCommand(leaf)
	root.AddCommand(group, &cobra.Command{Use: "secret", Hidden: true, Run: run}, Command(func() time.Time { return time.Unix(0, 0) }))
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs([]string{"manual"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	for _, want := range []string{
		".TH \"TOOL\" 1 \"1970\\-01\\-01\"", "tool \\- do things\n", ".SS \"tool group leaf FILE [flags]\"\n", "\nOne.\n\\&.TH forged\n.PP\n\\&'Two \\e three\n",
		".TP\n\\fB\\-o\\fR, \\fB\\-\\-out\\fR \\fIfolder\\fR\nfolder to write to\n", "\\fB\\-\\-quiet\\fR\nsay nothing\n", "  tool group leaf x\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	if strings.Contains(page, "secret") || strings.Contains(page, "manual") || strings.Contains(page, "\n.TH forged") {
		t.Error(page)
	}
}
