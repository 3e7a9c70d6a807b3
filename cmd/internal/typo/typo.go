// Package typo tells people which command or flag they may have meant.
package typo

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// far is how many letters may be wrong, missing or too many.
const far = 2

// Command refuses arguments of a command that only holds others: it says which of
// them was likely meant. Without arguments it returns nil.
func Command(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return fmt.Errorf("unknown command %q%s", args[0], meant(args[0], names, ""))
}

// Flag adds to the error of a flag that does not exist which one was likely meant.
func Flag(cmd *cobra.Command, err error) error {
	hint := ""
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "" {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, f.Name)
			}
		})
		hint = meant(unknown.GetSpecifiedName(), names, "--")
	}
	return fmt.Errorf("%w%s", err, hint)
}

// Alias lets a flag of a command have another name too, which scripts may use. It is
// called once for a command, which has one such name at most.
func Alias(cmd *cobra.Command, other, name string) {
	cmd.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, given string) pflag.NormalizedName {
		if given == other {
			given = name
		}
		return pflag.NormalizedName(given)
	})
}

// meant is a question after those of names that are closest to word, "" where none is
// close.
func meant(word string, names []string, prefix string) string {
	var best []string
	least := min(far, max(len(word)-1, 1))
	for _, name := range names {
		d := distance(strings.ToLower(word), name)
		if len(word) > far && strings.HasPrefix(name, strings.ToLower(word)) {
			d = min(d, far) // somebody's abbreviation
		}
		switch {
		case d < least:
			least, best = d, nil
			fallthrough
		case d == least:
			best = append(best, prefix+name)
		}
	}
	if len(best) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(best, " or ") + "?"
}

// distance is how many letters have to be put in, left out, replaced, or exchanged
// with the next one to make b of a (optimal string alignment).
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(x)][len(y)]
}
