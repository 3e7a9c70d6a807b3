package sysinit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/nettest"
)

// pty opens a pseudo terminal: what a person holds, and the console's side.
func pty(t *testing.T) (person *os.File, console Console) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", fmt.Sprintf("no pseudo terminals here: %v", err))
	}
	t.Cleanup(func() { person.Close() })
	var n int
	err = Console{File: person}.control(func(fd int) (err error) {
		if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := openTTY(fmt.Sprintf("/dev/pts/%d", n))
	if err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", fmt.Sprintf("no pseudo terminals here: %v", err))
	}
	t.Cleanup(func() { f.Close() })
	return person, Console{Name: "pty", File: f}
}

func (c Console) modes(t *testing.T) uint32 {
	t.Helper()
	var local uint32
	err := c.control(func(fd int) error {
		termios, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			local = termios.Lflag
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return local
}

// waitPending waits until the terminal holds input that nobody has read.
func (c Console) waitPending(ctx context.Context, t *testing.T) {
	t.Helper()
	for pending := 0; pending == 0; {
		err := c.control(func(fd int) (err error) {
			pending, err = unix.IoctlGetInt(fd, unix.TIOCINQ)
			return err
		})
		if err != nil || ctx.Err() != nil {
			t.Fatal("the input never arrived", err)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestReadKeysFromAllConsoles(t *testing.T) {
	personA, a := pty(t)
	personB, b := pty(t)
	notTTY, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer notTTY.Close()
	before := a.modes(t)
	ctx, cancel := context.WithCancel(soon(t))
	if _, err := personA.Write([]byte("typed too early\n")); err != nil {
		t.Fatal(err)
	}
	a.waitPending(ctx, t)
	keys, ended := make(chan Key), make(chan struct{})
	wait := ReadKeys(ctx, []Console{a, {Name: "null", File: notTTY}, b}, keys)
	go func() {
		wait()
		close(ended)
	}()
	for i, person := range []*os.File{personA, personB, personA} {
		if _, err := person.Write([]byte{byte('r' + i)}); err != nil {
			t.Fatal(err)
		}
		var key Key
		select {
		case key = <-keys:
		case <-ctx.Done():
			t.Fatalf("key %d was never read", i)
		}
		if key.Byte != byte('r'+i) || (key.Echo == a.File) != (person == personA) {
			t.Errorf("key %q from the wrong console", key.Byte)
		}
	}
	if a.modes(t)&(unix.ICANON|unix.ECHO) != 0 {
		t.Error("the console still waits for whole lines, or echoes")
	}
	cancel()
	<-ended
	if a.modes(t) != before {
		t.Error("the terminal was not set back")
	}
	if _, _, err := ReadLine(ctx, keys, a.File, "", 10); !errors.Is(err, context.Canceled) {
		t.Errorf("ReadLine = %v", err)
	}
}

// TestReadersOneAfterTheOther: the end of one reader, whichever way it takes, is not
// the end of the next.
func TestReadersOneAfterTheOther(t *testing.T) {
	person, console := pty(t)
	limit := soon(t)
	for i := range 300 {
		ctx, cancel := context.WithCancel(limit)
		keys := make(chan Key)
		wait := ReadKeys(ctx, []Console{console}, keys)
		if _, err := person.Write([]byte("ab")); err != nil {
			t.Fatal(err)
		}
		select {
		case key := <-keys:
			if key.Byte != 'a' {
				t.Fatalf("reader %d has read %q", i, key.Byte)
			}
		case <-limit.Done():
			t.Fatalf("reader %d reads nothing", i)
		}
		cancel() // while it holds a key that nobody takes
		wait()
	}
}
