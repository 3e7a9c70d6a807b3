package dialog

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/term"
)

// console is one console's identity; nothing is written to it.
type console struct{ io.Writer }

// person types at consoles, and sees what is shown.
type person struct {
	*testing.T
	keys   chan sysinit.Key
	screen strings.Builder
	asker  *Asker
}

func newPerson(t *testing.T) *person {
	p := &person{T: t, keys: make(chan sysinit.Key)}
	p.asker = &Asker{Keys: p.keys, Console: term.New(term.Config{Out: &p.screen, Now: func() time.Duration { return 0 }, ASCII: true})}
	return p
}

// types types a text at a console, as fast as it is taken.
func (p *person) types(on io.Writer, text string) {
	go func() {
		for i := range len(text) {
			select {
			case p.keys <- sysinit.Key{Byte: text[i], Echo: on}:
			case <-p.Context().Done():
				return
			}
		}
	}()
}

func (p *person) ask(q Question) (string, error) { return p.asker.Ask(p.Context(), q) }

func TestAsk(t *testing.T) {
	for name, c := range map[string]struct {
		q     Question
		typed string
		want  string
		err   error
		shown string
	}{
		"a line":     {Question{Text: "Name"}, "eth0\r", "eth0", nil, "Name: eth0\n"},
		"corrected":  {Question{Text: "Name"}, "ethx\x7f0\r", "eth0", nil, "\b \b0\n"},
		"begun anew": {Question{Text: "Name"}, "wlan\x15eth0\n", "eth0", nil, "\b \b\b \b\b \b\b \beth0\n"},
		"blanks":     {Question{Text: "Name"}, "  eth0 \r", "eth0", nil, ""},
		"default":    {Question{Text: "Name", Default: "eth0"}, "\r", "eth0", nil, "Name [eth0]: \n"},
		"too long":   {Question{Text: "Name", Max: 3}, "eth0\r", "eth", nil, "Name: eth\n"},
		"not ASCII":  {Question{Text: "Name"}, "a\xc3\xa9\x00\x07b\r", "ab", nil, "Name: ab\n"},
		"escape":     {Question{Text: "Name"}, "et\x1b", "", ErrLeft, ""},
		"control-C":  {Question{Text: "Name"}, "et\x03", "", ErrLeft, ""},
		"secret":     {Question{Text: "Key", Secret: true}, " sesame\x7f \r", " sesam ", nil, "Key: *******\b \b*\n"},
		"checked": {Question{Text: "Name", Check: func(s string) error {
			if s != "b" {
				return errors.New("not the one")
			}
			return nil
		}}, "a\rb\r", "b", nil, "Not the one\n  Name: b\n"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPerson(t)
				p.types(&console{}, c.typed)
				got, err := p.ask(c.q)
				if got != c.want || !errors.Is(err, c.err) {
					t.Errorf("%q, %v; want %q, %v", got, err, c.want, c.err)
				}
				if !strings.Contains(p.screen.String(), c.shown) {
					t.Errorf("shown %q, want %q in it", p.screen.String(), c.shown)
				}
				if c.q.Secret && strings.Contains(p.screen.String(), "es") {
					t.Error("a secret is shown")
				}
			})
		})
	}
}

func TestOneConsoleAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, a, b := newPerson(t), &console{}, &console{}
		p.types(a, "e")
		synctest.Wait()
		go func() {
			time.Sleep(time.Second)
			p.types(b, "x\r")
			time.Sleep(time.Second)
			p.types(a, "th0\r")
		}()
		if got, err := p.ask(Question{Text: "Name"}); got != "eth0" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		p.types(b, "no")
		p.types(a, "yes\r")
		if got, err := p.ask(Question{Text: "Next"}); got != "yes" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// The console that a key came from answers, whatever another one sends.
func TestNamedConsoleAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, a, b := newPerson(t), &console{}, &console{}
		p.asker.From = a
		p.types(b, "noise\r")
		synctest.Wait()
		p.types(a, "eth0\r")
		if got, err := p.ask(Question{Text: "Name"}); got != "eth0" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestAlone(t *testing.T) {
	a, b := &console{}, &console{}
	for name, c := range map[string]struct {
		on    io.Writer
		typed string
		pause time.Duration // before each
		want  bool
		took  time.Duration
	}{
		"nothing follows":  {a, "", 0, true, aloneFor},
		"Enter follows":    {a, "\r\n", 10 * time.Millisecond, true, aloneFor},
		"a slow next one":  {a, "x", 2 * aloneFor, true, aloneFor},
		"an echo":          {a, "b reboot", 4 * time.Millisecond, false, 8*4*time.Millisecond + aloneFor},
		"noise elsewhere":  {b, strings.Repeat("x", 40), 20 * time.Millisecond, true, aloneFor},
		"noise for ever":   {a, strings.Repeat("x", 4000), 20 * time.Millisecond, false, maxBurst},
		"and at full rate": {a, strings.Repeat("x", 4000), 0, false, aloneFor},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				keys := make(chan sysinit.Key)
				go func() {
					for i := range len(c.typed) {
						select {
						case <-time.After(c.pause):
						case <-ctx.Done():
							return
						}
						select {
						case keys <- sysinit.Key{Byte: c.typed[i], Echo: c.on}:
						case <-ctx.Done():
							return
						}
					}
				}()
				began := time.Now()
				if got := Alone(ctx, keys, sysinit.Key{Byte: 'r', Echo: a}); got != c.want {
					t.Errorf("%v, want %v", got, c.want)
				}
				if took := time.Since(began); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
			})
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if Alone(ctx, nil, sysinit.Key{}) {
		t.Error("when it is too late")
	}
}

func TestNobodyIsWaitedForForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPerson(t)
		began := time.Now()
		go func() {
			time.Sleep(DefaultIdle - time.Second)
			p.types(&console{}, "a") // begins the wait anew
		}()
		if _, err := p.ask(Question{Text: "Name"}); !errors.Is(err, ErrLeft) {
			t.Error(err)
		}
		if took := time.Since(began); took != 2*DefaultIdle-time.Second {
			t.Errorf("waited %v", took)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(io.EOF)
		if _, err := p.asker.Ask(ctx, Question{Text: "Name"}); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}

// plain is what Plain passes on of keys typed in one go, or with a pause.
func plain(t *testing.T, typed ...string) string {
	t.Helper()
	in, out := make(chan sysinit.Key), make(chan sysinit.Key)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go Plain(ctx, in, out)
	go func() {
		echo := &console{}
		for _, text := range typed {
			for i := range len(text) {
				in <- sysinit.Key{Byte: text[i], Echo: echo}
			}
			time.Sleep(2 * sequenceWithin)
		}
		cancel()
	}()
	var got []byte
	for {
		select {
		case key := <-out:
			got = append(got, key.Byte)
		case <-ctx.Done():
			return string(got)
		}
	}
}

func TestPlain(t *testing.T) {
	for name, c := range map[string]struct {
		typed []string
		want  string
	}{
		"letters":            {[]string{"rb", "p"}, "rbp"},
		"arrows":             {[]string{"\x1b[A\x1b[B", "\x1b[C", "x"}, "x"},
		"F1 of a VT100":      {[]string{"\x1bOPx"}, "x"},
		"F1 of Linux":        {[]string{"\x1b[[Ax"}, "x"},
		"F12":                {[]string{"\x1b[24~x"}, "x"},
		"with modifiers":     {[]string{"\x1b[1;5Bx"}, "x"},
		"Escape":             {[]string{"\x1b", "x"}, "\x1bx"},
		"Escape twice":       {[]string{"\x1b\x1b"}, "\x1b\x1b"},
		"Escape and [ later": {[]string{"\x1b", "[B"}, "\x1b[B"},
		"Escape and arrow":   {[]string{"\x1b\x1b[Bx"}, "\x1bx"},
		"with Alt":           {[]string{"\x1bx"}, "\x1bx"},
		"without end":        {[]string{"\x1b[" + strings.Repeat("1", maxSequence) + "x"}, "11x"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := plain(t, c.typed...); got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
			})
		})
	}
}

func TestPlainKeepsConsolesApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out := make(chan sysinit.Key), make(chan sysinit.Key, 8)
		ctx, cancel := context.WithCancel(t.Context())
		go Plain(ctx, in, out)
		a, b := &console{}, &console{}
		for _, key := range []sysinit.Key{{Byte: Escape, Echo: a}, {Byte: '[', Echo: b}, {Byte: Escape, Echo: b}, {Byte: '[', Echo: a}, {Byte: 'B', Echo: a}} {
			in <- key
		}
		time.Sleep(time.Second)
		cancel()
		if x, y := <-out, <-out; x != (sysinit.Key{Byte: '[', Echo: b}) || y != (sysinit.Key{Byte: Escape, Echo: b}) || len(out) > 0 {
			t.Errorf("%v, %v and %d more", x, y, len(out))
		}
	})
}

// FuzzPlain: nothing that is typed stops it, and what is passed on was typed.
func FuzzPlain(f *testing.F) {
	f.Fuzz(func(t *testing.T, typed []byte) {
		s := &sequence{}
		passed := 0
		for _, b := range typed {
			passed += len(s.feed(sysinit.Key{Byte: b}, time.Time{}))
		}
		if passed > len(typed) {
			t.Errorf("%d keys from %d", passed, len(typed))
		}
		for range maxSequence {
			s.feed(sysinit.Key{Byte: '1'}, time.Time{})
		}
		if got := s.feed(sysinit.Key{Byte: 'x'}, time.Time{}); len(got) != 1 || got[0].Byte != 'x' {
			t.Errorf("after %q keys are swallowed: %v", typed, got)
		}
	})
}
