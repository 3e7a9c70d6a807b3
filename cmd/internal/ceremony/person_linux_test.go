package ceremony

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/keyfile"
	"github.com/phasebased/phase/internal/nettest"
)

// desk is a terminal with a test sitting at it: it answers each prompt as soon
// as the prompt was written.
type desk struct {
	t       *testing.T
	keys    *os.File // what the test types on
	tty     *os.File // what the program has for standard input
	answers []string
	busy    sync.WaitGroup // of typing

	mu    sync.Mutex
	shown bytes.Buffer // standard error
	echo  bytes.Buffer // what the terminal showed of what was typed
}

func newDesk(t *testing.T, answers ...string) *desk {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", fmt.Sprintf("no pseudo-terminals here: %v", err))
	}
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, keys: keys, tty: tty, answers: answers}
	watched := make(chan struct{})
	go func() { defer close(watched); d.watch() }()
	t.Cleanup(func() {
		d.busy.Wait()
		_ = tty.Close() // which ends the watch
		<-watched
		_ = keys.Close()
	})
	return d
}

// watch keeps what the terminal echoes.
func (d *desk) watch() {
	for buffer := make([]byte, 256); ; {
		n, err := d.keys.Read(buffer)
		d.mu.Lock()
		d.echo.Write(buffer[:n])
		d.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Write is standard error. A prompt is answered once echo is off or the line is
// being waited for; a terminal keeps what is typed early, so a moment is enough.
func (d *desk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shown.Write(p)
	if text := string(p); (strings.HasSuffix(text, ": ") || strings.HasSuffix(text, "[y/N] ")) && len(d.answers) > 0 {
		answer := d.answers[0]
		d.answers = d.answers[1:]
		d.busy.Go(func() { d.typeWhenReady(answer, strings.HasSuffix(text, ": ")) })
	}
	return len(p), nil
}

// typeWhenReady waits until the program has switched echo off.
func (d *desk) typeWhenReady(answer string, unseen bool) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		state, err := unix.IoctlGetTermios(int(d.tty.Fd()), unix.TCGETS)
		if err != nil || !unseen || state.Lflag&unix.ECHO == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	_, _ = d.keys.WriteString(answer + "\n")
}

func (d *desk) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.shown.String() + d.echo.String()
}

func (d *desk) person() *person {
	return &person{ctx: context.Background(), in: d.tty, err: d, keys: keyfile.Files{WorkFactor: 4}}
}

const words = "several words of a test"

func TestPassphraseIsTypedUnseen(t *testing.T) {
	d := newDesk(t, words, words)
	pass, err := d.person().newPassphrase("a.key")
	if err != nil || !pass.Equal(keyfile.NewPassphrase([]byte(words))) {
		t.Fatalf("%v, %v", pass, err)
	}
	if text := d.text(); !strings.Contains(text, "New passphrase for a.key") || !strings.Contains(text, "The same again") || strings.Contains(text, words) {
		t.Errorf("the terminal showed %q", text)
	}
}

func TestPassphraseIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		answers []string
		want    string
	}{
		"different": {[]string{words, words + "!"}, "the two passphrases differ"},
		"short":     {[]string{"short"}, "too short"},
		"empty":     {[]string{""}, "needs a passphrase"},
	} {
		d := newDesk(t, tt.answers...)
		if _, err := d.person().newPassphrase("a.key"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfirm(t *testing.T) {
	for answer, want := range map[string]bool{"y": true, "YES": true, "": false, "n": false, "yep": false, strings.Repeat("y", 80): false} {
		d := newDesk(t, answer)
		if err := d.person().confirm("Sign this?"); (err == nil) != want {
			t.Errorf("%.10q: %v", answer, err)
		}
	}
}

// TestConfirmThenPassphrase: what is typed at the second question is not
// swallowed by the first.
func TestConfirmThenPassphrase(t *testing.T) {
	d := newDesk(t, "y", words)
	p := d.person()
	if err := p.confirm("Sign this?"); err != nil {
		t.Fatal(err)
	}
	pass, err := p.passphrase("a.key")
	if err != nil || !pass.Equal(keyfile.NewPassphrase([]byte(words))) {
		t.Errorf("%v, %v", pass, err)
	}
}

// TestInterrupted: Ctrl-C ends a question, and the terminal echoes again.
func TestInterrupted(t *testing.T) {
	d := newDesk(t)
	p := d.person()
	ctx, cancel := context.WithCancel(context.Background())
	p.ctx = ctx
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := p.passphrase("a.key"); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("%v", err)
	}
	state, err := unix.IoctlGetTermios(int(d.tty.Fd()), unix.TCGETS)
	if err != nil || state.Lflag&unix.ECHO == 0 {
		t.Errorf("the terminal is left without echo, %v", err)
	}
	_, _ = d.keys.WriteString("\n") // lets the reader go
}

// TestQuit: so does Ctrl-\, with which impatient people end a program.
func TestQuit(t *testing.T) {
	d := newDesk(t)
	guard := make(chan os.Signal, 1) // the signal may come before anybody listens
	signal.Notify(guard, unix.SIGQUIT)
	defer signal.Stop(guard)
	stop, stopped := make(chan struct{}), make(chan struct{})
	defer func() { close(stop); <-stopped }()
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				_ = unix.Kill(os.Getpid(), unix.SIGQUIT)
			}
		}
	}()
	if _, err := d.person().passphrase("a.key"); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("%v", err)
	}
	state, err := unix.IoctlGetTermios(int(d.tty.Fd()), unix.TCGETS)
	if err != nil || state.Lflag&unix.ECHO == 0 {
		t.Errorf("the terminal is left without echo, %v", err)
	}
	_, _ = d.keys.WriteString("\n")
}

// TestInterruptedLate: Ctrl-C while the key is being opened signs nothing.
func TestInterruptedLate(t *testing.T) {
	settle(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := &person{ctx: ctx, in: strings.NewReader(""), err: new(bytes.Buffer)}
	if key, err := p.openKey("r1.key"); !errors.Is(err, errInterrupted) || key != nil {
		t.Errorf("%v", err)
	}
}

func TestNoTerminal(t *testing.T) {
	p := &person{ctx: context.Background(), in: strings.NewReader("y\n"), err: new(bytes.Buffer)}
	var usage UsageError
	if err := p.confirm("Sign this?"); !errors.As(err, &usage) || !strings.Contains(err.Error(), "--yes") {
		t.Errorf("confirm: %v", err)
	}
	if _, err := p.passphrase("a.key"); !errors.Is(err, keyfile.ErrNeedPassphrase) {
		t.Errorf("passphrase: %v", err)
	}
	p.passphraseFile = "-"
	p.in = strings.NewReader(words + "\n")
	if pass, err := p.passphrase("a.key"); err != nil || pass.Len() != len(words) {
		t.Errorf("from standard input: %v", err)
	}
}
