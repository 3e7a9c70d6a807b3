package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/phasebased/phase/internal/disks"
	"github.com/phasebased/phase/internal/stick"
	phaseterm "github.com/phasebased/phase/internal/term"
)

const writeHelp = `Writes a raw image to a USB stick or an SD card, reads every byte of it back from
the medium, and only then makes it one that starts: interrupted at any time, it
leaves a medium without a partition table. Before that, marks all over the medium
show whether it has the room that it claims. Everything that was on it is lost.

It refuses the disks of the running system always, and other built-in disks,
partitions and what is mounted or in use as well: phase image devices says which
device can be written to, and why others can not. Before it begins it shows what
the device is and what is on it, and asks for its name; a script, which nobody
can ask, gives the same word as --confirm. A built-in disk needs --fixed, and its
model instead of its name.

Exit status: 0 written and read back, 1 refused or failed, 2 wrong usage.`

// writeOptions are the flags of image write.
type writeOptions struct {
	stick.Options
	confirm string
	format  string
}

func newImageWrite() *cobra.Command {
	var o writeOptions
	cmd := &cobra.Command{
		Use: "write IMAGE DEVICE", Short: "Write an image to a stick, and read it back", Args: imageAndDevice,
		Long: writeHelp,
		Example: `  phase image devices
  sudo phase image write build/phase.img /dev/sdb
  sudo phase image write --confirm sdb --format json build/phase.img /dev/sdb`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(o.format); err != nil {
				return err
			}
			o.Image, o.Device = args[0], args[1]
			return o.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.confirm, "confirm", "", "the `word` that would be asked for, so that nobody is asked")
	flags.BoolVar(&o.Allow.Unmount, "unmount", false, "unmount what is mounted of the device first")
	flags.BoolVar(&o.Allow.Fixed, "fixed", false, "allow a built-in disk, if its model is confirmed")
	flags.BoolVar(&o.File, "file", false, "DEVICE is a file that stands for a stick, at least as large as the image")
	flags.StringVarP(&o.format, "format", "f", "text", "text or json, for what is said in the end")
	return cmd
}

func imageAndDevice(cmd *cobra.Command, args []string) error {
	if len(args) != 2 {
		return usageError{fmt.Errorf("needs an image and a device (see %s --help)", cmd.CommandPath())}
	}
	return nil
}

func checkFormat(format string) error {
	if format != "text" && format != "json" {
		return usageError{fmt.Errorf("--format %s: choose text or json", format)}
	}
	return nil
}

// written is what image write says in the end.
type written struct {
	Image  string `json:"image"`
	Device string `json:"device"`
	Digest string `json:"digest"`
	stick.Report
}

func (o *writeOptions) run(ctx context.Context, out io.Writer) error {
	plan, err := stick.Prepare(ctx, o.Options)
	if err != nil {
		return withCandidates(ctx, err)
	}
	defer plan.Close()
	console := newConsole(os.Stderr)
	showTarget(console, plan)
	if err := o.ask(ctx, plan.Disk); err != nil {
		return err
	}
	show := &writeProgress{console: console}
	report, err := plan.Write(ctx, show.set)
	show.end(err)
	if err != nil {
		return err
	}
	w := written{plan.Image.Path, plan.Disk.Path, report.Image.String(), report}
	if o.format == "json" {
		return writeJSON(out, w)
	}
	_, err = fmt.Fprintf(out, "%s holds %s: %s read back and compared, %s\n", phaseterm.Clean(w.Device), phaseterm.Clean(w.Image), phaseterm.Bytes(w.Bytes), w.Digest)
	return err
}

// showTarget says what will be lost.
func showTarget(console *phaseterm.Console, plan *stick.Plan) {
	d := plan.Disk
	console.Title(d.Path)
	pairs := []phaseterm.Pair{{Key: "device", Value: describeDisk(d)}}
	for i, line := range contents(d) {
		key := ""
		if i == 0 {
			key = "holds"
		}
		pairs = append(pairs, phaseterm.Pair{Key: key, Value: line})
	}
	pairs = append(pairs, phaseterm.Pair{Key: "becomes", Value: fmt.Sprintf("%s, %s", plan.Image.Path, phaseterm.Bytes(plan.Image.Size))})
	console.Pairs(pairs)
}

// describeDisk says which disk this is.
func describeDisk(d disks.Disk) string {
	words := []string{phaseterm.Bytes(d.Size), string(d.Bus)}
	if d.Title() != "" {
		words = append(words, d.Title())
	}
	if d.SerialTail() != "" {
		words = append(words, "serial number ends in "+d.SerialTail())
	}
	return strings.Join(words, ", ")
}

// contents says what is on a disk now, a line for each partition and what is mounted
// of it.
func contents(d disks.Disk) []string {
	var out []string
	for _, p := range d.Partitions {
		words := []string{p.Name, phaseterm.Bytes(p.Size)}
		if p.FileSystem != "" {
			words = append(words, p.FileSystem)
		}
		if label := strings.TrimSpace(p.FSLabel + " " + p.Label); label != "" {
			words = append(words, fmt.Sprintf("%q", label))
		}
		for _, u := range d.Uses {
			if u.Node == p.Name && u.Kind == disks.Mounted {
				words = append(words, "at "+u.What)
			}
		}
		out = append(out, strings.Join(words, "  "))
	}
	if len(out) == 0 {
		return []string{holds(d)}
	}
	return out
}

// ask lets a person type the word for the device, or compares the one given.
func (o *writeOptions) ask(ctx context.Context, d disks.Disk) error {
	word := stick.Word(d)
	answer := o.confirm
	if answer == "" {
		if !term.IsTerminal(int(os.Stdin.Fd())) {
			return &stick.Error{Reason: stick.NotConfirmed, Path: d.Path, Text: fmt.Sprintf("was not confirmed: there is no terminal to ask at; --confirm %q would confirm it", word)}
		}
		fmt.Fprintf(os.Stderr, "\n  All of that is lost. Type %s to write, or anything else to leave it: ", phaseterm.Clean(word))
		var err error
		if answer, err = readAnswer(ctx, os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr)
			return &stick.Error{Reason: stick.NotConfirmed, Path: d.Path, Text: "was left as it is: nobody confirmed it"}
		}
	}
	if answer != word {
		return &stick.Error{Reason: stick.NotConfirmed, Path: d.Path, Text: fmt.Sprintf("was left as it is: %.40q is not %q", answer, word)}
	}
	return nil
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1024

// readAnswer reads a line. Who interrupts it gets no answer; the reading goroutine
// ends with the program.
func readAnswer(ctx context.Context, in io.Reader) (string, error) {
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		text, err := bufio.NewReader(io.LimitReader(in, maxAnswer)).ReadString('\n')
		got <- answer{strings.TrimSpace(text), err}
	}()
	select {
	case a := <-got:
		return a.text, a.err
	case <-ctx.Done():
		return "", context.Canceled
	}
}

// writeProgress shows the phases of writing on standard error: each with a bar while
// it runs, and a line when it is over.
type writeProgress struct {
	console *phaseterm.Console
	phase   stick.Phase
	begun   time.Time
	total   int64
	step    *phaseterm.Step
	bar     *phaseterm.Progress
}

func (p *writeProgress) set(phase stick.Phase, done, total int64) {
	if phase != p.phase {
		p.finish()
		p.phase, p.total, p.begun = phase, total, time.Now()
		p.step = p.console.Step(string(phase))
		if phase == stick.Writing || phase == stick.Reading {
			p.bar = p.console.Progress(string(phase), total)
		}
	}
	if p.bar != nil && done > 0 {
		p.bar.Set(done)
	}
}

// finish ends the line of a phase.
func (p *writeProgress) finish() {
	if p.step == nil {
		return
	}
	note := ""
	if p.bar != nil {
		p.bar.End()
		note = phaseterm.Bytes(p.total)
		if took := time.Since(p.begun); took > time.Second {
			note += fmt.Sprintf(" in %.1f s, %s/s", took.Seconds(), phaseterm.Bytes(int64(float64(p.total)/took.Seconds())))
		}
	}
	p.step.Done(note)
	p.step, p.bar = nil, nil
}

// end ends the last line, as one of success or failure.
func (p *writeProgress) end(err error) {
	if err == nil || p.step == nil {
		p.finish()
		return
	}
	if p.bar != nil {
		p.bar.End()
	}
	p.step.Fail("")
}

// candidatesError is a refusal with what could be written to instead.
type candidatesError struct {
	error
	candidates []string
}

func (e *candidatesError) Error() string {
	if len(e.candidates) == 0 {
		return e.error.Error() + "\nno device of this machine can be written to as it is; phase image devices says why"
	}
	return e.error.Error() + "\ncan be written to: " + strings.Join(e.candidates, "; ")
}

func (e *candidatesError) Unwrap() error { return e.error }

// withCandidates adds them to what was refused about a device.
func withCandidates(ctx context.Context, err error) error {
	var e *stick.Error
	if !errors.As(err, &e) || e.Reason > stick.Replaced {
		return err
	}
	found, listErr := disks.List(ctx)
	if listErr != nil {
		return err // which is what matters
	}
	c := &candidatesError{error: err}
	for _, d := range found {
		if stick.Check(d, "", 0, stick.Allow{}) == nil {
			c.candidates = append(c.candidates, d.Path+" ("+describeDisk(d)+")")
		}
	}
	return c
}
