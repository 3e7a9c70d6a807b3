package version

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"
)

// A Build says what a program was made from.
type Build struct {
	Program  string   `json:"program"`
	Version  string   `json:"version"`
	Sources  string   `json:"sources,omitempty"` // date of the sources, as RFC 3339
	Commit   string   `json:"commit,omitempty"`  // of the sources, and "-dirty" where they were changed after it
	Go       string   `json:"go"`
	Platform string   `json:"platform"` // such as linux/amd64
	Modules  []Module `json:"modules"`
}

// A Module is a module of other projects that is in the program.
type Module struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Sum     string `json:"sum"`
}

// This describes the program that runs, by the name given.
func This(program string) Build {
	b := Build{
		Program: program, Version: Version, Commit: Commit,
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Modules: []Module{},
	}
	if seconds, err := strconv.ParseInt(Epoch, 10, 64); err == nil {
		b.Sources = time.Unix(seconds, 0).UTC().Format(time.RFC3339)
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		b.Modules = append(b.Modules, Module{m.Path, m.Version, m.Sum})
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && b.Commit == "" { // go build, without the Makefile
			b.Commit = s.Value
		}
	}
	return b
}

// Write writes b for people: version and date on the first line.
func (b Build) Write(w io.Writer) error {
	sources, commit := "an unknown day", "unknown"
	if at, err := time.Parse(time.RFC3339, b.Sources); err == nil {
		sources = at.Format(time.DateOnly)
	}
	if b.Commit != "" {
		commit = b.Commit
	}
	_, err := fmt.Fprintf(w, "%s %s (sources of %s)\ncommit    %s\nbuilt     with %s for %s\n", b.Program, b.Version, sources, commit, b.Go, b.Platform)
	return err
}
