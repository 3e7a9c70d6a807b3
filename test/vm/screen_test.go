package vm_test

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/lab"
)

// screenAndKeyboard are a graphics card and a keyboard on USB.
var screenAndKeyboard = []string{"-device", "VGA", "-device", "qemu-xhci", "-device", "usb-kbd"}

// TestScreenAndKeyboard boots a machine at whose screen and USB keyboard a person
// sits: the person reads the failure, opens a form and types the provider, and sees
// the system that takes over.
func TestScreenAndKeyboard(t *testing.T) {
	b := consoleBench(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*bootWithin)
	defer cancel()
	r := b.release(1)
	r.Cmdline = "no_timer_check panic=30" // its consoles are those of the seed
	b.publish(r, "")
	b.medium(lab.ImageOptions{}) // before there is a provider that it could name
	b.serve()
	m := b.on(ctx, "machine", lab.BootOptions{Extra: screenAndKeyboard})
	if m.outcome.Failure == nil {
		t.Fatalf("the machine has found something:\n%s", calm(m.console))
	}
	b.shows(m.console, "s shell")
	failure := b.screenshot(ctx, m, "failure")
	b.plugged(ctx, m)
	b.keys(ctx, m, "u", "URL, such as")
	b.typed(ctx, m, "HTTP") // what is typed on one console is shown on all
	form := b.screenshot(ctx, m, "form")
	if !differ(failure, form) {
		t.Error("the screen did not change")
	}
	for _, left := range []string{"HTT", "HT", "H", ""} {
		b.key(ctx, m, "\x7f", left)
	}
	b.typed(ctx, m, b.ports.Base())
	b.keys(ctx, m, "\r", "Discover")
	b.follow(ctx, m)
	b.verified(m.outcome, m.console)
	system := b.screenshot(ctx, m, "system")
	// The kernel's lines begin in the first column, the seed's two further.
	if before, after := kernelLines(form), kernelLines(system); before > 4 || after < 10 {
		t.Errorf("the screen does not show the kernel that took over: %d lines of a kernel's before, %d after", before, after)
	}
}

// plugged waits until the kernel reads the keyboard: the bus of the keyboard comes
// up beside the boot, and what is typed before it does is lost. The kernel says this
// line after it has begun to read.
func (b *bench) plugged(ctx context.Context, m *booted) {
	b.Helper()
	b.types(ctx, m, "s", []answer{{"seed:/", "until dmesg | grep 'USB HID.*Keyboard'; do sleep 1; done; exit"}})
	b.menu(ctx, m)
}

// keys presses a key and waits for what the serial line shows of it.
func (b *bench) keys(ctx context.Context, m *booted, key, shown string) {
	b.Helper()
	if err := m.machine.TypeKeys(ctx, key); err != nil {
		b.Fatal(err)
	}
	b.await(ctx, m, shown)
}

// typed types a text into the line that was asked for last, each key when the one
// before it shows: a keyboard holds no more than 16 events for a machine that is busy.
func (b *bench) typed(ctx context.Context, m *booted, text string) {
	b.Helper()
	for i := range len(text) {
		b.key(ctx, m, text[i:i+1], text[:i+1])
	}
}

// key presses a key and waits until the line that was asked for shows what was typed
// altogether. About one key in a hundred that follows a picture of the screen at once
// never comes out of QEMU's keyboard: it is pressed again when it cannot come any more.
func (b *bench) key(ctx context.Context, m *booted, key, typed string) {
	b.Helper()
	shown := strings.TrimSpace(": " + typed)
	for range 3 {
		if err := m.machine.TypeKeys(ctx, key); err != nil {
			b.Fatal(err)
		}
		within, cancel := context.WithTimeout(ctx, 30*time.Second)
		_, err := m.machine.WaitConsoleAfter(within, m.seen, func(line string) bool { return strings.HasSuffix(line, shown) })
		cancel()
		if err == nil {
			return
		}
	}
	b.Fatalf("the line does not become %q; the console shows:\n%s", typed, strings.Join(m.machine.ConsoleTail(40), "\n"))
}

// screenshot takes what the screen shows, once it shows enough to be text. The
// picture is kept if PHASE_SCREENSHOTS names a folder.
func (b *bench) screenshot(ctx context.Context, m *booted, name string) image.Image {
	b.Helper()
	path := filepath.Join(b.run, name+".png")
	if folder := os.Getenv("PHASE_SCREENSHOTS"); folder != "" {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			b.Fatal(err)
		}
		path = filepath.Join(folder, name+".png")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if err := m.machine.Screendump(ctx, path); err != nil {
			b.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		picture, err := png.Decode(bytes.NewReader(data))
		if err != nil {
			b.Fatal(err)
		}
		if lines := textLines(picture); lines >= 10 {
			return picture
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			b.Fatalf("the screen shows no text: %s", path)
		}
	}
}

// textLines counts the rows of light characters on a dark ground.
func textLines(p image.Image) int { return linesIn(p, p.Bounds()) }

// kernelLines counts those that begin in the first column, where characters are 8
// pixels wide.
func kernelLines(p image.Image) int {
	first := p.Bounds()
	first.Max.X = first.Min.X + 8
	return linesIn(p, first)
}

// linesIn counts runs of rows of pixels that have light ones within bounds, with
// dark rows between them.
func linesIn(p image.Image, bounds image.Rectangle) (lines int) {
	inside := false
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		light := false
		for x := bounds.Min.X; x < bounds.Max.X && !light; x++ {
			light = color.GrayModel.Convert(p.At(x, y)).(color.Gray).Y > 96
		}
		if light && !inside {
			lines++
		}
		inside = light
	}
	return lines
}

func differ(a, b image.Image) bool {
	if a.Bounds() != b.Bounds() {
		return true
	}
	for y := a.Bounds().Min.Y; y < a.Bounds().Max.Y; y++ {
		for x := a.Bounds().Min.X; x < a.Bounds().Max.X; x++ {
			if a.At(x, y) != b.At(x, y) {
				return true
			}
		}
	}
	return false
}
