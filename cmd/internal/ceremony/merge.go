package ceremony

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

func newMerge() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "merge FILE FILE…", Short: "Put the signatures of copies that were signed separately into one file",
		Args: arguments(2, 0, "a second copy"),
		Long: `Takes copies of one root, manifest or pointer that different people signed on
their own machines, and writes one file with all their signatures. The copies
must say exactly the same. Whether the signatures count is not judged here.`,
		Example: `  phase release merge from-alice/1.root.json from-bob/1.root.json --out 1.root.json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return needFlag(cmd, "--out", "the file to write")
			}
			all, err := openDocument(args[0])
			if err != nil {
				return err
			}
			for _, file := range args[1:] {
				next, err := openDocument(file)
				if err != nil {
					return err
				}
				if err := all.draft.Merge(next.draft); err != nil {
					return fmt.Errorf("%s and %s: %w", args[0], file, err)
				}
			}
			return writeMerged(cmd, all, args, out)
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "`file` to write; may be one of the copies")
	return cmd
}

// writeMerged replaces one of the copies, or makes a new file.
func writeMerged(cmd *cobra.Command, all document, copies []string, out string) error {
	data, err := all.draft.Bytes()
	if err != nil {
		return err
	}
	write := writeNew
	if slices.Contains(copies, out) {
		write = replace
	}
	if err := write(out, data); err != nil {
		return err
	}
	return table(cmd.OutOrStdout(), append([]string{
		fmt.Sprintf("%s\t%s with %s", out, all.draft.Object(), plural(int64(len(all.draft.KeyIDs())), "signature")),
	}, digestRows(all.draft)...))
}
