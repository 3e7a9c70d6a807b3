package dialog

import (
	"context"
	"io"
	"time"

	"github.com/phasebased/phase/internal/sysinit"
)

// Keys that this package knows by name.
const (
	Escape = 0x1b
	CtrlC  = 0x03
)

// sequenceWithin is how soon after Escape the rest of a sequence follows: a
// serial line of 2400 baud needs 4 ms for each byte, a person 100 for two keys.
const sequenceWithin = 50 * time.Millisecond

// maxSequence bounds what is taken for one sequence, in bytes.
const maxSequence = 16

// Plain passes keys on until ctx ends, without those that send a sequence
// (arrows, F1): down is Escape, [ and B, and B may reboot the machine. An Escape
// that nothing follows is passed on.
func Plain(ctx context.Context, in <-chan sysinit.Key, out chan<- sysinit.Key) {
	consoles := map[io.Writer]*sequence{}
	for {
		var late <-chan time.Time
		var waiting io.Writer
		for echo, s := range consoles {
			if s.state == begun && (waiting == nil || s.since.Before(consoles[waiting].since)) {
				waiting, late = echo, time.After(time.Until(s.since.Add(sequenceWithin)))
			}
		}
		var pass []sysinit.Key
		select {
		case <-ctx.Done():
			return
		case <-late:
			consoles[waiting].state = none
			pass = []sysinit.Key{{Byte: Escape, Echo: waiting}}
		case key := <-in:
			if consoles[key.Echo] == nil {
				consoles[key.Echo] = &sequence{}
			}
			pass = consoles[key.Echo].feed(key, time.Now())
		}
		for _, key := range pass {
			select {
			case out <- key:
			case <-ctx.Done():
				return
			}
		}
	}
}

// sequence is how far one console is within a key that sends several bytes
// (ECMA-48 for "ESC [", VT100 for "ESC O").
type sequence struct {
	state state
	since time.Time // when begun
	bytes int
}

type state int

const (
	none   state = iota
	begun        // after Escape
	single       // after Escape O: one byte follows
	params       // after Escape [: up to a byte from @ to ~
)

// feed takes a key and returns those that are certain now.
func (s *sequence) feed(key sysinit.Key, now time.Time) []sysinit.Key {
	s.bytes++
	switch {
	case s.state == begun && key.Byte == '[':
		s.state = params
	case s.state == begun && key.Byte == 'O':
		s.state = single
	case s.state == begun && key.Byte == Escape:
		s.since, s.bytes = now, 1
		return []sysinit.Key{key}
	case s.state == begun:
		s.state = none
		return []sysinit.Key{{Byte: Escape, Echo: key.Echo}, key}
	case s.state == single:
		s.state = none
	case s.state == params:
		if key.Byte >= '@' && key.Byte <= '~' && !(key.Byte == '[' && s.bytes == 3) || s.bytes >= maxSequence {
			s.state = none
		}
	case key.Byte == Escape:
		s.state, s.since, s.bytes = begun, now, 1
	default:
		return []sysinit.Key{key}
	}
	return nil
}

const (
	// aloneFor is how long nothing follows a key that stands alone: shorter than a
	// person needs for the next, longer than any line needs for a byte.
	aloneFor = 100 * time.Millisecond
	// maxBurst bounds the wait for the end of what does follow.
	maxBurst = time.Second
)

// Alone reports whether a key was typed by itself: nothing but Enter follows it on
// its console at once. What a serial line sends that is noise, a login's greeting,
// or what was written on it come back, does not, and must not reboot a machine.
// Alone waits for the end of such a burst, for at most a second; what is typed
// meanwhile is dropped.
func Alone(ctx context.Context, keys <-chan sysinit.Key, key sysinit.Key) bool {
	alone := true
	quiet, limit := time.NewTimer(aloneFor), time.NewTimer(maxBurst)
	defer quiet.Stop()
	defer limit.Stop()
	for {
		select {
		case next := <-keys:
			if next.Echo == key.Echo && next.Byte != '\r' && next.Byte != '\n' {
				alone = false
				quiet.Reset(aloneFor)
			}
		case <-quiet.C:
			return alone
		case <-limit.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}
