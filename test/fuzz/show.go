package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// show prints the table while results come in, then the failures in full.
func (r *runner) show(out io.Writer, groups [][]target, start time.Time) error {
	module := commonPath(groups)
	name := func(t target) string { return strings.TrimPrefix(t.String(), module) }
	width, count := len("target"), 0
	for _, group := range groups {
		for _, t := range group {
			width, count = max(width, len(name(t))), count+1
		}
	}
	fmt.Fprintf(out, "%-*s %6s %9s %6s %6s  result\n", width, "target", "seeds", "execs", "new", "time")
	var failed []outcome
	for o := range r.results {
		result := "ok"
		if o.err != nil {
			result, _, _ = strings.Cut("FAILED: "+o.err.Error(), "\n")
			failed = append(failed, o)
		}
		fmt.Fprintf(out, "%-*s %6d %9d %6d %5.1fs  %s\n", width, name(o.target), o.Seeds, o.execs, o.interesting, o.took.Seconds(), result)
	}
	explained := map[error]bool{} // targets of one package share a failed build
	for _, o := range failed {
		if !explained[o.err] {
			o.explain(out)
		}
		explained[o.err] = true
	}
	fmt.Fprintf(out, "%d targets in %.0f s, %d failed\n", count, time.Since(start).Seconds(), len(failed))
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d targets failed", len(failed), count)
	}
	return nil
}

// explain shows what a target said, where its input is and how to run it again.
func (o outcome) explain(out io.Writer) {
	fmt.Fprintf(out, "\n%s: %v\n", o.target, o.err)
	fmt.Fprint(out, tail(o.output, 40))
	if o.failing != "" {
		fmt.Fprintf(out, "failing input: %s\nrun it again:  go test -run='^%s$/^%s$' %s\n",
			relative(o.failing), o.Name, filepath.Base(o.failing), o.Package)
	}
	fmt.Fprintln(out)
}

// tail returns the last lines of s.
func tail(s string, n int) string {
	lines := strings.SplitAfter(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// relative shortens a path below the working directory.
func relative(path string) string {
	dir, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(dir, path); err == nil && !strings.HasPrefix(rel, "..") {
		return rel
	}
	return path
}

// commonPath is what all import paths begin with, up to a slash.
func commonPath(groups [][]target) string {
	common := groups[0][0].Package
	for _, group := range groups {
		for !strings.HasPrefix(group[0].Package, common) {
			common = common[:len(common)-1]
		}
	}
	return common[:strings.LastIndex(common, "/")+1]
}
