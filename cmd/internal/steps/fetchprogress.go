package steps

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	xterm "golang.org/x/term"

	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/term"
)

// lineEvery is the time between two lines of progress: a serial console must not
// be flooded, and a person must not think that all has stopped.
const lineEvery = 5 * time.Second

// fetchProgress shows how far an artifact is: as a bar, as lines, as JSON, or not
// at all.
type fetchProgress struct {
	out  io.Writer
	show func(fetch.Progress) // nil: nothing is shown

	console *term.Console // of bars
	bar     *term.Progress
	name    string
	begun   time.Time // when the artifact's first bytes were shown
	from    int64     // bytes that were there then
	line    time.Time // of the last line
	said    progressLine
}

func newFetchProgress(stderr io.Writer, o fetchOptions) *fetchProgress {
	p := &fetchProgress{out: stderr}
	kind := o.progress
	if kind == "auto" {
		kind = "lines"
		if file, ok := stderr.(*os.File); ok && xterm.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb" {
			kind = "bar"
		}
	}
	switch {
	case o.quiet || kind == "none":
	case kind == "bar":
		start := time.Now()
		p.console = term.New(term.Config{
			Out: stderr, Live: true, Color: o.color,
			ASCII: !strings.Contains(strings.ToLower(os.Getenv("LANG")), "utf"),
			Now:   func() time.Duration { return time.Since(start) },
		})
		p.show = p.asBar
	case kind == "json":
		p.show = p.asJSON
	default:
		p.show = p.asLine
	}
	return p
}

func (p *fetchProgress) asBar(now fetch.Progress) {
	if p.bar == nil || p.name != now.Name {
		p.end()
		p.bar, p.name = p.console.Progress(now.Name, now.Total), now.Name
	}
	p.bar.Set(now.Done)
}

// end takes the bar away.
func (p *fetchProgress) end() {
	if p.bar != nil {
		p.bar.End()
		p.bar = nil
	}
}

// asLine writes "rootfs: 40 %, 5.7 MB of 14.2 MB, 3.1 MB/s from 2 sources".
func (p *fetchProgress) asLine(now fetch.Progress) {
	at := time.Now()
	if p.name != now.Name || now.Done < p.from {
		p.name, p.begun, p.from, p.line = now.Name, at, now.Done, at
	}
	if at.Sub(p.line) < lineEvery || now.Done == now.Total {
		return
	}
	p.line = at
	rate := float64(now.Done-p.from) / at.Sub(p.begun).Seconds()
	text := fmt.Sprintf("%s: %d %%, %s of %s, %s/s", now.Name, now.Done*100/max(now.Total, 1), term.Bytes(now.Done), term.Bytes(now.Total), term.Bytes(int64(rate)))
	if now.Sources > 1 {
		text += fmt.Sprintf(" from %d sources", now.Sources)
	}
	fmt.Fprintln(p.out, text)
}

// progressLine is one line of JSON progress.
type progressLine struct {
	Name    string `json:"name"`
	Done    int64  `json:"done"`    // bytes
	Total   int64  `json:"total"`   // bytes
	Source  string `json:"source"`  // that gave the last bytes
	Sources int    `json:"sources"` // that are giving bytes at the moment
}

func (p *fetchProgress) asJSON(now fetch.Progress) {
	line := progressLine{now.Name, now.Done, now.Total, term.Clean(now.Source), now.Sources}
	raw, err := json.Marshal(line)
	if err == nil && line != p.said {
		p.said = line
		fmt.Fprintf(p.out, "%s\n", raw)
	}
}
