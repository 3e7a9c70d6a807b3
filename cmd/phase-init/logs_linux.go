package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/phasebased/phase/internal/dialog"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/timeline"
)

// pageLines is how much of a log is shown at once: a screen has 25 lines, and
// long ones take more than one.
const pageLines = 18

// showLogs shows what this boot knows of itself, a page at a time.
func (s *seed) showLogs(ctx context.Context, f forms, _ *hand) error {
	for {
		f.console.Title("Logs (Escape leaves)")
		f.console.Pairs([]term.Pair{
			{Key: " 1  stages", Value: "what this try has done so far, and how long it took"},
			{Key: " 2  messages", Value: "what Phase Boot has told the kernel's log"},
			{Key: " 3  kernel", Value: "all of the kernel's log"},
		})
		n, err := f.number(ctx, "Which", "2", 3)
		if err != nil {
			return err
		}
		if n == 1 {
			s.system.Console.Timeline(rows(s.system.Timeline.Stages()))
			continue
		}
		log, err := sysinit.KernelLog()
		if err != nil {
			return err
		}
		if err := f.page(ctx, logLines(log, n == 2)); err != nil {
			return err
		}
	}
}

// rows is a timeline as a table.
func rows(stages []timeline.Stage) (rows []term.Row) {
	for _, s := range stages {
		row := term.Row{Name: s.Name, Group: s.Kernel, Start: s.Start, Took: s.End - s.Start}
		if s.Err != "" {
			row.Note = "failed"
		}
		rows = append(rows, row)
	}
	return rows
}

// ownLines are those of this project's programs in the kernel's log.
var ownLines = []string{"phase: ", "phase-pid1: "}

// logLines takes the kernel's log apart, without the levels, and without the date
// in our own lines: the kernel's time stands before it.
func logLines(log string, own bool) (lines []string) {
	for line := range strings.Lines(log) {
		line = strings.TrimSuffix(line, "\n")
		if _, rest, ok := strings.Cut(line, ">"); ok && strings.HasPrefix(line, "<") {
			line = rest
		}
		stamp, text, _ := strings.Cut(line, "] ")
		ours := strings.HasPrefix(text, ownLines[0]) || strings.HasPrefix(text, ownLines[1])
		if own && !ours {
			continue
		}
		if ours {
			name, rest, _ := strings.Cut(text, ": ")
			if strings.HasPrefix(rest, "time=") {
				_, rest, _ = strings.Cut(rest, " ")
			}
			line = stamp + "] " + name + ": " + rest
		}
		lines = append(lines, line)
	}
	return lines
}

// page shows lines, the last ones first: they tell most.
func (f forms) page(ctx context.Context, lines []string) error {
	at := max(0, len(lines)-pageLines)
	for {
		end := min(at+pageLines, len(lines))
		for _, line := range lines[at:end] {
			f.console.Text(line)
		}
		text := fmt.Sprintf("Lines %d to %d of %d (o older, n newer, Enter: back)", min(at+1, len(lines)), end, len(lines))
		answer, err := f.ask.Ask(ctx, dialog.Question{Text: text, Check: oneOf("", "o", "n")})
		switch {
		case err != nil:
			return err
		case answer == "":
			return nil
		case answer == "o":
			at = max(0, at-pageLines)
		default:
			at = min(at+pageLines, max(0, len(lines)-pageLines))
		}
	}
}
