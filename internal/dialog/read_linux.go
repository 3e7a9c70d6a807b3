package dialog

import (
	"context"

	"github.com/phasebased/phase/internal/sysinit"
)

// Read reads plain keys, on all consoles, until end is called; what it needs runs
// by run, beside the caller. The caller must end it: the next question must not
// find this one's reader still there.
func Read(ctx context.Context, consoles []sysinit.Console, run func(name string, f func() error)) (keys <-chan sysinit.Key, end func()) {
	ctx, cancel := context.WithCancel(ctx)
	raw, plain := make(chan sysinit.Key), make(chan sysinit.Key)
	read, sorted := make(chan struct{}), make(chan struct{})
	wait := sysinit.ReadKeys(ctx, consoles, raw)
	run("keys", func() error {
		defer close(read)
		wait()
		return nil
	})
	run("plain keys", func() error {
		defer close(sorted)
		Plain(ctx, raw, plain)
		return nil
	})
	return plain, func() { cancel(); <-read; <-sorted }
}

// Lower is a key without Shift: keys are named by small letters.
func Lower(key byte) byte {
	if key >= 'A' && key <= 'Z' {
		key += 'a' - 'A'
	}
	return key
}
