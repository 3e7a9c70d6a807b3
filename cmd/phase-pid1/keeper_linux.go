package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/phasebased/phase/internal/dialog"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/term"
)

// patient is how many ends of the program are answered without asking anybody.
const patient = 5

const (
	codeEnded  = "BOOT-091"
	flushLimit = 2 * time.Second
	wordsLimit = 2 * time.Second // for the last words, after the end
)

// pauses are how long is waited after an end: first, and twice as long each time,
// up to most; from the end on which a person is asked, again. A run that was
// longer than settled begins a new count.
type pauses struct{ first, most, settled, again time.Duration }

// keeper keeps one program running, for ever.
type keeper struct {
	log        *slog.Logger
	kernelLog  io.Writer
	supervisor *sysinit.Supervisor
	program    sysinit.Command
	pauses     pauses
	consoles   func() ([]sysinit.Console, error)
	killAll    func() error        // every process but this one
	protect    func(pid int) error // makes the program the first to be killed for memory
	reboot     func() error        // returns only on failure
	powerOff   func() error        // likewise

	ends int // in a row
	seen screen
}

// run starts the program, and what it takes after each end. It returns only if
// something here is wrong.
func (k *keeper) run() error {
	ctx := context.Background()
	for {
		began := time.Now()
		e := k.once(ctx)
		k.warn("kill what is left", k.killAll())
		if time.Since(began) > k.pauses.settled {
			k.ends = 0
		}
		k.ends++
		k.log.Error("phase-init ended", "how", e.how, "times", k.ends, "after", time.Since(began).Round(time.Millisecond))
		k.after(ctx, e)
	}
}

// ending is how a run ended.
type ending struct {
	how   string
	words []string // the first lines of what it said at its end
}

// once runs the program to its end.
func (k *keeper) once(ctx context.Context) ending {
	r, w, err := os.Pipe()
	if err != nil {
		return ending{how: err.Error()}
	}
	defer r.Close()
	words := &lastWords{log: k.kernelLog}
	program := k.program
	program.Files = []*os.File{nil, w, w}
	child, err := k.supervisor.Start(program)
	w.Close() // else its end would never show
	if err != nil {
		return ending{how: err.Error()}
	}
	k.warn("let it be killed first when memory is short", k.protect(child.PID))
	read := make(chan struct{})
	k.beside("last words", func() error {
		defer close(read)
		return words.readFrom(r)
	})
	exit, err := child.Wait(ctx)
	if err != nil {
		return ending{how: err.Error()}
	}
	select {
	case <-read:
	case <-time.After(wordsLimit): // a process that it has left holds the other end
	}
	return ending{how: exitName(exit), words: words.first()}
}

// after tells people, and waits until the program is to be started again.
func (k *keeper) after(ctx context.Context, e ending) {
	console := k.screen()
	keys, end := dialog.Read(ctx, k.seen.consoles, k.beside) // before a person sees which
	defer end()
	pause := min(k.pauses.first<<min(k.ends-1, 16), k.pauses.most)
	if k.ends < patient {
		console.Title("ERROR: the boot program has ended: " + e.how + "  [" + codeEnded + "]")
		for _, line := range e.words {
			console.Text(line)
		}
		console.Text(fmt.Sprintf("It is started again in %v. What it was doing begins anew.", pause))
	} else {
		pause = k.pauses.again
		console.Failure(k.failure(e, pause))
	}
	flush, cancel := context.WithTimeout(ctx, flushLimit)
	k.warn("show it", k.seen.out.Flush(flush))
	cancel()
	k.wait(ctx, console, keys, pause)
}

// failure is what a person is told when starting again does not help.
func (k *keeper) failure(e ending, pause time.Duration) term.Failure {
	return term.Failure{
		Title: "The boot program ends again and again", Code: codeEnded,
		Wrong: fmt.Sprintf("ERROR: phase-init has ended %d times, the last time: %s", k.ends, e.how),
		Tried: e.words,
		Do: []string{
			"This is a defect of Phase Boot, or of this machine's memory. Please report it with a photo of this screen.",
			"Another medium, or another release of it, may work.",
			keyLine(),
			fmt.Sprintf("Without a key it is tried again after %v.", pause),
		},
	}
}

// choice is a key that PID 1 itself answers.
type choice struct {
	key  byte
	text string
	do   func(*keeper) error // nil: nothing but to try again
}

func choices() []choice {
	return []choice{
		{'r', "try again", nil},
		{'b', "reboot", func(k *keeper) error { return k.reboot() }},
		{'p', "power off", func(k *keeper) error { return k.powerOff() }},
	}
}

func keyLine() string {
	line := "Keys:"
	for i, c := range choices() {
		if i > 0 {
			line += ","
		}
		line += fmt.Sprintf(" %c %s", c.key, c.text)
	}
	return line + "."
}

// wait ends with the key for another try, or by itself.
func (k *keeper) wait(ctx context.Context, console *term.Console, keys <-chan sysinit.Key, pause time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, pause)
	defer cancel()
	for {
		select {
		case key := <-keys:
			i := slices.IndexFunc(choices(), func(c choice) bool { return c.key == dialog.Lower(key.Byte) })
			if i < 0 || !dialog.Alone(ctx, keys, key) {
				continue
			}
			do := choices()[i].do
			if do == nil {
				return
			}
			if err := do(k); err != nil {
				console.Text("This did not work: " + err.Error())
			}
		case <-ctx.Done():
			return
		}
	}
}

// screen is all active consoles. A console that is stuck holds a goroutine, so
// they are opened again only when there are others.
type screen struct {
	consoles []sysinit.Console
	out      *sysinit.FanOut
	console  *term.Console
}

// screen sets the terminals as new, because the program that had them was cut
// short.
func (k *keeper) screen() *term.Console {
	consoles, err := k.consoles()
	k.warn("consoles", err)
	same := k.seen.console != nil && slices.EqualFunc(consoles, k.seen.consoles, func(a, b sysinit.Console) bool { return a.Name == b.Name })
	if same {
		closeAll(consoles)
	} else {
		if k.seen.out != nil {
			k.warn("consoles", k.seen.out.Close())
		}
		closeAll(k.seen.consoles)
		var outs []io.Writer
		for _, c := range consoles {
			outs = append(outs, c.File)
		}
		out := sysinit.NewFanOut(outs...)
		k.seen = screen{consoles, out, term.New(term.Config{Out: out, ASCII: true, Now: func() time.Duration { return 0 }})} // no steps are shown
	}
	for _, c := range k.seen.consoles {
		k.warn("console", c.Reset())
	}
	return k.seen.console
}

func closeAll(consoles []sysinit.Console) {
	for _, c := range consoles {
		c.File.Close()
	}
}
