// Command table writes figures of the benchmark as a table in Markdown, with a word
// on each goal:
//
//	go run ./test/bench/table build/bench.json
//	go run ./test/bench/table docs/performance.json
//
// The second file holds the figures that docs/performance.md shows; a test holds the
// page to it. Exit status: 0 written, 1 not, 2 wrong usage.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// figure is one line of build/bench.json.
type figure struct {
	Name      string  `json:"name"`
	Value     float64 `json:"value"` // 0: not recorded
	Unit      string  `json:"unit"`
	Reference float64 `json:"reference"` // 0: none, or not recorded
	Ratio     float64 `json:"ratio"`     // 0: none
	Goal      string  `json:"goal"`      // such as "ratio <= 0.5" or "<= 40 MB"; empty: none
}

func main() {
	if len(os.Args) != 2 || strings.HasPrefix(os.Args[1], "-") {
		fmt.Fprintln(os.Stderr, "usage: table FILE.json")
		os.Exit(2)
	}
	text, err := table(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
	fmt.Print(text)
}

func table(file string) (string, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var figures []figure
	if err := json.Unmarshal(raw, &figures); err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	var b strings.Builder
	b.WriteString("| what | value | reference | ratio | goal | met? |\n|---|---|---|---|---|---|\n")
	for _, f := range figures {
		met, err := f.met()
		if err != nil {
			return "", fmt.Errorf("%s: %q: %w", file, f.Name, err)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", f.Name, number(f.Value, f.Unit), number(f.Reference, f.Unit),
			number(f.Ratio, ""), orDash(readable(f.Goal)), met)
	}
	return b.String(), nil
}

// number shows three digits at least, and a dash for what is not there.
func number(v float64, unit string) string {
	if v == 0 {
		return "–"
	}
	digits := 2
	switch {
	case v >= 100:
		digits = 0
	case v >= 10:
		digits = 1
	case v < 0.1:
		digits = 3
	}
	return strings.TrimSpace(strconv.FormatFloat(v, 'f', digits, 64) + " " + unit)
}

func readable(goal string) string {
	return strings.NewReplacer("<=", "≤", ">=", "≥").Replace(goal)
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// met compares a figure with its goal.
func (f figure) met() (string, error) {
	if f.Goal == "" {
		return "–", nil
	}
	goal, ofRatio := strings.CutPrefix(f.Goal, "ratio ")
	words := strings.Fields(goal)
	if len(words) < 2 {
		return "", fmt.Errorf("the goal %q is not understood", f.Goal)
	}
	bound, err := strconv.ParseFloat(words[1], 64)
	if err != nil {
		return "", fmt.Errorf("the goal %q is not understood", f.Goal)
	}
	is := f.Value
	if ofRatio {
		is = f.Ratio
	}
	holds := false
	switch words[0] {
	case "<=":
		holds = is <= bound
	case "<":
		holds = is < bound
	case ">=":
		holds = is >= bound
	default:
		return "", fmt.Errorf("the goal %q is not understood", f.Goal)
	}
	switch {
	case is == 0:
		return "not recorded", nil
	case holds:
		return "yes", nil
	}
	return "**no**", nil
}
