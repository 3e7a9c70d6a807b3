package release

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/phasebased/phase/blob"
)

// NotesName is the file with the notes, among the media.
const NotesName = "RELEASE-NOTES.md"

// Notes is what people are told of a release. Equal notes give equal bytes.
type Notes struct {
	Version string    // of the product
	Time    time.Time // of its sources
	Changes string    // Markdown; "": none
	Systems []NotesSystem
	Files   []NotesFile // to download
}

// NotesSystem is the release for one architecture.
type NotesSystem struct {
	Channel, Arch string
	Number        int64       // manifest_version
	Manifest      blob.Digest // of its signed payload
	Kernel        string      // release, as in uname -r
}

// NotesFile is a file to download.
type NotesFile struct {
	Name, About string
	Size        int64 // bytes
	SHA256      blob.Digest
}

// Markdown is the file.
func (n Notes) Markdown() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# Phase Boot %s\n\nSources of %s.\n", n.Version, n.Time.UTC().Format(time.DateOnly))
	if n.Changes != "" {
		fmt.Fprintf(&b, "\n## Changes\n%s\n", strings.TrimSpace(n.Changes))
	}
	if len(n.Systems) > 0 {
		fmt.Fprint(&b, "\n## What machines boot\n| channel | architecture | release | kernel | manifest |\n|---|---|---|---|---|\n")
	}
	for _, s := range n.Systems {
		fmt.Fprintf(&b, "| %s | %s | %d | %s | `%s` |\n", s.Channel, s.Arch, s.Number, s.Kernel, s.Manifest)
	}
	if len(n.Files) > 0 {
		fmt.Fprint(&b, "\n## Downloads\n")
		fmt.Fprint(&b, "| file | what it is | bytes |\n|---|---|---|\n")
	}
	files := slices.Clone(n.Files)
	slices.SortFunc(files, func(a, b NotesFile) int { return strings.Compare(a.Name, b.Name) })
	for _, f := range files {
		fmt.Fprintf(&b, "| %s | %s | %d |\n", f.Name, f.About, f.Size)
	}
	if len(files) > 0 {
		fmt.Fprint(&b, "\nSHA-256, as in `SHA256SUMS`, which is signed:\n\n```\n")
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, f := range files {
			fmt.Fprintf(w, "%s\t%s\n", f.SHA256.Hex(), f.Name)
		}
		_ = w.Flush() // to a strings.Builder
		fmt.Fprint(&b, "```\n")
	}
	return []byte(b.String())
}

// Changes returns the section of a changelog in Markdown that is about a version:
// the lines below the heading of level two that begins with it, also as
// "[version]" or with a comma behind. It is "" if there is none.
func Changes(log, version string) string {
	var section strings.Builder
	inside := false
	for line := range strings.Lines(log) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			word := strings.Trim(strings.Fields(title + " ?")[0], "[],:")
			inside = word == version || word == "v"+version
			continue
		}
		if inside {
			section.WriteString(line)
		}
	}
	return strings.TrimSpace(section.String())
}
