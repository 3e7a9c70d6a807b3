package main

import (
	"sync"
	"time"

	phaseterm "github.com/phasebased/phase/internal/term"
)

// unshown is how long something may take before its progress is shown.
const unshown = 2 * time.Second

// lateBar shows how far something is, if it takes long, also while it stands still. Its
// time begins with the first that is told. Safe for use by several goroutines; what is
// told after the end counts for nothing.
type lateBar struct {
	console *phaseterm.Console
	name    string

	mu    sync.Mutex
	done  int64
	bar   *phaseterm.Progress
	begun *time.Timer
	late  bool
}

func newLateBar(console *phaseterm.Console, name string) *lateBar {
	return &lateBar{console: console, name: name}
}

// set tells how many bytes are done; total is that of the first call.
func (b *lateBar) set(done, total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done = done; b.bar == nil {
		b.bar = b.console.Progress(b.name, total)
		b.begun = time.AfterFunc(unshown, b.show)
	}
	if b.late {
		b.bar.Set(done)
	}
}

func (b *lateBar) show() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.late = true
	b.bar.Set(b.done)
}

// end takes the bar away.
func (b *lateBar) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		b.begun.Stop()
		b.bar.End()
	}
}
