// Pictures makes the terminal pictures and screenshots of the pages anew, from the real
// programs: `make pictures` does it, before a release and after what people see changed.
//
//	go run ./test/pictures            all of them
//	go run ./test/pictures demo       some
//	go run ./test/pictures -fill      none, and write the pages anew from those there are
//
// A terminal picture is what a program wrote, as it is in docs/pictures/NAME.txt. A page
// shows a part of it in the block behind a line that says which:
//
//	<!-- picture demo: from "Phase Boot" to "Hand over" -->
//
// A screenshot is taken by a test that looks at the same screen, of a machine or of a
// browser. Nothing here is drawn or corrected by hand, and a test holds the blocks to the
// files. Figures are those of the machine that made them.
//
// Exit status: 0 made, 1 failed, 2 wrong usage.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"image/png"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

// folder is where the pictures are kept.
const folder = "docs/pictures"

// A picture is made by a command, typed in the root of the sources.
type picture struct {
	name    string
	command []string
	shots   map[string]string // screenshots that the command takes, by the name they are kept under; none: keep what it writes
}

// pictures are all of them.
func pictures() []picture {
	return []picture{
		{name: "demo", command: []string{"build/bin/phase", "demo"}},
		{name: "refusal", command: []string{"build/bin/phase", "demo", "--tamper", "kernel"}},
		{
			name:    "status-page",
			command: []string{"go", "test", "-count=1", "-run", "^TestNode$", "./test/page"},
			shots:   map[string]string{"status-page": "node"},
		},
		{
			name:    "screen",
			command: []string{"go", "test", "-count=1", "-timeout", "40m", "-run", "^TestScreenAndKeyboard$", "./test/vm"},
			shots:   map[string]string{"screen-failure": "failure", "screen-form": "form"},
		},
	}
}

func main() {
	fillOnly := flag.Bool("fill", false, "make none, and write the pages anew from those there are")
	flag.Usage = func() { fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./test/pictures [-fill] [NAME…]") }
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	chosen, err := choose(flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "pictures:", err)
		os.Exit(2)
	}
	if *fillOnly {
		chosen = nil
	}
	if err := run(ctx, chosen); err != nil {
		fmt.Fprintln(os.Stderr, "pictures:", err)
		os.Exit(1)
	}
}

// choose are the pictures that were named, all if none was.
func choose(names []string) (chosen []picture, err error) {
	all := pictures()
	if len(names) == 0 {
		return all, nil
	}
	for _, name := range names {
		before := len(chosen)
		for _, p := range all {
			if p.name == name {
				chosen = append(chosen, p)
			}
		}
		if len(chosen) == before {
			return nil, fmt.Errorf("there is no picture %s", name)
		}
	}
	return chosen, nil
}

func run(ctx context.Context, chosen []picture) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, p := range chosen {
		fmt.Fprintf(os.Stderr, "%s: %s\n", p.name, strings.Join(p.command, " "))
		if err := p.make(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return fillPages()
}

// fillPages writes the pictures into all pages that show them.
func fillPages() error {
	pages, err := pageNames(".")
	if err != nil {
		return err
	}
	for _, page := range pages {
		if err := fill(page); err != nil {
			return err
		}
	}
	return nil
}

// make runs the command and keeps what it shows.
func (p picture) make(ctx context.Context) error {
	shots, err := os.MkdirTemp("", "phase-pictures-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(shots)
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, p.command[0], p.command[1:]...)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Env = append(os.Environ(), "PHASE_SCREENSHOTS="+shots, "PHASE_REQUIRE_TOOLS=1", "NO_COLOR=1")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w\n%s", err, said.String())
	}
	if len(p.shots) == 0 {
		return os.WriteFile(filepath.Join(folder, p.name+".txt"), trim(said.Bytes()), 0o644)
	}
	for name, shot := range p.shots {
		if err := keep(filepath.Join(shots, shot+".png"), filepath.Join(folder, name+".png")); err != nil {
			return err
		}
	}
	return nil
}

// keep packs a screenshot as small as it gets.
func keep(from, to string) error {
	raw, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	shot, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	var small bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, shot); err != nil {
		return err
	}
	return os.WriteFile(to, small.Bytes(), 0o644)
}

// trim takes blanks from the ends of lines, which no terminal shows.
func trim(text []byte) []byte {
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		b.WriteString(strings.TrimRight(line, " \r\n") + "\n")
	}
	return []byte(strings.TrimRight(b.String(), "\n") + "\n")
}

// fill writes the pictures into the page that shows them.
func fill(page string) error {
	raw, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	filled, err := filledIn(string(raw), folder)
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	if filled == string(raw) {
		return nil
	}
	return os.WriteFile(page, []byte(filled), 0o644)
}
