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
// sits, and nobody on the serial line: the person reads the failure, opens a form
// and types the provider.
func TestScreenAndKeyboard(t *testing.T) {
	b := consoleBench(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*bootWithin)
	defer cancel()
	b.publish(b.release(1), "")
	b.medium(lab.ImageOptions{}) // before there is a provider that it could name
	b.serve()
	m := b.on(ctx, "machine", lab.BootOptions{Extra: screenAndKeyboard})
	if m.outcome.Failure == nil {
		t.Fatalf("the machine has found something:\n%s", calm(m.console))
	}
	b.shows(m.console, "s shell")
	failure := b.screenshot(ctx, m, "failure")
	b.presses(ctx, m, "u", "URL, such as")
	b.keys(ctx, m, "HTTP", "HTTP") // what is typed on one console is shown on all
	form := b.screenshot(ctx, m, "form")
	if !differ(failure, form) {
		t.Error("the screen did not change")
	}
	b.keys(ctx, m, "\x7f\x7f\x7f\x7f"+b.ports.Base()+"\r", "Discover")
	b.follow(ctx, m)
	b.verified(m.outcome, m.console)
}

// keys types on the keyboard and waits for what the serial line shows of it.
func (b *bench) keys(ctx context.Context, m *booted, text, shown string) {
	b.Helper()
	if err := m.machine.TypeKeys(ctx, text); err != nil {
		b.Fatal(err)
	}
	within, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := m.await(within, shown); err != nil {
		b.Fatalf("after %q the console does not show %q: %v\n%s", text, shown, err, strings.Join(m.machine.ConsoleTail(40), "\n"))
	}
}

// presses presses a key of the menu until something comes of it: on a busy host the
// kernel may not have taken the keyboard into use when the screen is there.
func (b *bench) presses(ctx context.Context, m *booted, key, shown string) {
	b.Helper()
	for {
		if err := m.machine.TypeKeys(ctx, key); err != nil {
			b.Fatal(err)
		}
		within, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := m.await(within, shown)
		cancel()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			b.Fatalf("nothing comes of %q: %v\n%s", key, err, strings.Join(m.machine.ConsoleTail(40), "\n"))
		}
	}
}

// screenshot takes what the screen shows, once it shows enough to be text. The
// picture is kept if PHASE_SCREENSHOTS names a folder.
func (b *bench) screenshot(ctx context.Context, m *booted, name string) image.Image {
	b.Helper()
	path := filepath.Join(b.run, name+".png")
	if folder := os.Getenv("PHASE_SCREENSHOTS"); folder != "" {
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

// textLines counts the rows of light characters on a dark ground: runs of rows of
// pixels that have light ones, with dark rows between them.
func textLines(p image.Image) (lines int) {
	bounds := p.Bounds()
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
