package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/internal/term"
)

// cacheList is what phase cache ls says; its JSON form is for programs.
type cacheList struct {
	Dir         string        `json:"dir"`
	Bytes       int64         `json:"bytes"` // of all that follows, as it counts against a limit
	Blobs       []cacheBlob   `json:"blobs"`
	Parts       []cachePart   `json:"parts"`
	Quarantined []cacheRotten `json:"quarantined"`
}

type cacheBlob struct {
	Digest string    `json:"digest"`
	Size   int64     `json:"size"`
	Used   time.Time `json:"used"`
	Pins   []string  `json:"pins,omitempty"`
	PartOf []string  `json:"part_of,omitempty"`
}

type cachePart struct {
	Digest  string    `json:"digest"`
	Size    int64     `json:"size"`    // of the whole blob
	OnDisk  int64     `json:"on_disk"` // bytes that the medium holds of it
	Used    time.Time `json:"used"`
	Writing bool      `json:"writing"`
	PartOf  []string  `json:"part_of,omitempty"`
}

type cacheRotten struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
}

func (l *cacheList) addBlob(b store.Info, partOf []string) {
	l.Bytes += b.Size
	l.Blobs = append(l.Blobs, cacheBlob{b.Digest.String(), b.Size, b.Used.UTC(), b.Pins, partOf})
}

func (l *cacheList) addPart(p store.PartialInfo, partOf []string) {
	l.Bytes += p.Size
	l.Parts = append(l.Parts, cachePart{p.Digest.String(), p.Size, p.OnDisk, p.Used.UTC(), p.Writing, partOf})
}

func (l *cacheList) addRotten(r store.Rotten) {
	l.Bytes += r.Size
	l.Quarantined = append(l.Quarantined, cacheRotten(r))
}

// short is enough of a digest for a person.
func short(digest string) string { return strings.TrimPrefix(digest, "sha256:")[:12] }

func (l *cacheList) text(out io.Writer) error {
	pinned, blobBytes, rottenBytes := 0, int64(0), int64(0)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(l.Blobs)+len(l.Parts) > 0 {
		fmt.Fprintln(t, "DIGEST\tSIZE\tLAST USED (UTC)\tPINNED BY\tPART OF")
	}
	row := func(digest, size string, used time.Time, pins string, partOf []string) {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", short(digest), size, used.Format(time.DateTime), pins, term.Clean(strings.Join(partOf, ", ")))
	}
	for _, b := range l.Blobs {
		row(b.Digest, term.Bytes(b.Size), b.Used, strings.Join(b.Pins, ", "), b.PartOf)
		blobBytes += b.Size
		if len(b.Pins) > 0 {
			pinned++
		}
	}
	for _, p := range l.Parts {
		state := "(not whole)"
		if p.Writing {
			state = "(arriving)"
		}
		row(p.Digest, term.Bytes(min(p.OnDisk, p.Size))+" of "+term.Bytes(p.Size), p.Used, state, p.PartOf)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range l.Quarantined {
		rottenBytes += r.Size
		fmt.Fprintf(out, "rotten: %s\n", term.Clean(r.Path))
	}
	_, err := fmt.Fprintf(out, "%s, %s (%d pinned); %s; %s in quarantine (%s): %s in %s\n",
		count(len(l.Blobs), "blob"), term.Bytes(blobBytes), pinned, count(len(l.Parts), "part"),
		count(len(l.Quarantined), "file"), term.Bytes(rottenBytes), term.Bytes(l.Bytes), term.Clean(l.Dir))
	return err
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// cacheVerified is what phase cache verify says.
type cacheVerified struct {
	Dir      string         `json:"dir"`
	Blobs    int            `json:"blobs"`
	Bytes    int64          `json:"bytes"` // that were read
	Findings []cacheFinding `json:"findings"`
}

type cacheFinding struct {
	Digest  string `json:"digest"`
	Size    int64  `json:"size"`
	Problem string `json:"problem"`
	Moved   string `json:"moved,omitempty"` // where it is now
	Left    string `json:"left,omitempty"`  // why it is still in its place
}

func newCacheVerified(dir string, report store.VerifyReport) cacheVerified {
	v := cacheVerified{Dir: dir, Blobs: report.Blobs, Bytes: report.Bytes, Findings: []cacheFinding{}}
	for _, f := range report.Findings {
		found := cacheFinding{Digest: f.Digest.String(), Size: f.Size, Problem: f.Err.Error(), Moved: f.Moved}
		if f.Left != nil {
			found.Left = f.Left.Error()
		}
		v.Findings = append(v.Findings, found)
	}
	return v
}

func (v cacheVerified) text(out io.Writer) error {
	for _, f := range v.Findings {
		done := "moved to " + f.Moved + "; it is fetched again when it is needed"
		if f.Moved == "" {
			done = "left in its place: " + f.Left
		}
		if _, err := fmt.Fprintf(out, "%s\n  %s\n  %s\n", f.Digest, term.Clean(f.Problem), term.Clean(done)); err != nil {
			return err
		}
	}
	verdict := "all right"
	if n := len(v.Findings); n > 0 {
		verdict = fmt.Sprintf("%d not right", n)
	}
	_, err := fmt.Fprintf(out, "%s, %s read: %s\n", count(v.Blobs, "blob"), term.Bytes(v.Bytes), verdict)
	return err
}

// cacheCollected is what phase cache gc says.
type cacheCollected struct {
	Dir   string   `json:"dir"`
	Blobs []string `json:"blobs"` // digests of what was removed
	Parts []string `json:"parts"`
	Files int      `json:"files"` // others that were removed: abandoned, or in quarantine
	Freed int64    `json:"freed"`
	Left  int64    `json:"left"`
}

func newCacheCollected(dir string, report store.Report) cacheCollected {
	c := cacheCollected{Dir: dir, Blobs: []string{}, Parts: []string{}, Files: report.Files, Freed: report.Freed, Left: report.Used}
	for _, b := range report.Blobs {
		c.Blobs = append(c.Blobs, b.Digest.String())
	}
	for _, p := range report.Parts {
		c.Parts = append(c.Parts, p.Digest.String())
	}
	return c
}

func (c cacheCollected) text(out io.Writer) error {
	for _, d := range c.Blobs {
		fmt.Fprintf(out, "removed %s\n", d)
	}
	for _, d := range c.Parts {
		fmt.Fprintf(out, "removed the part of %s\n", d)
	}
	_, err := fmt.Fprintf(out, "removed %s, %s and %s: %s; %s are left\n", count(len(c.Blobs), "blob"),
		count(len(c.Parts), "part"), count(c.Files, "other file"), term.Bytes(c.Freed), term.Bytes(c.Left))
	return err
}

func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
