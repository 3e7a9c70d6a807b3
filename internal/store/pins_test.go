package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
)

// filled is a store with blobs of 1000 bytes, the first used longest ago.
func filled(t *testing.T, n int) (*Store, []blob.Digest) {
	t.Helper()
	s := open(t, t.TempDir(), Limit{})
	var all []blob.Digest
	for i := range n {
		d := put(t, s, strings.Repeat(string(rune('a'+i)), 1000))
		when := time.Now().Add(time.Duration(i-n) * time.Hour)
		if err := os.Chtimes(s.Path(d), when, when); err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return s, all
}

func has(s *Store, all []blob.Digest) (text string) {
	for i, d := range all {
		if s.Has(d) {
			text += string(rune('a' + i))
		}
	}
	return text
}

func pin(t *testing.T, s *Store, name string, digests ...blob.Digest) {
	t.Helper()
	if err := s.Pin(name, digests); err != nil {
		t.Fatal(err)
	}
}

func TestProtects(t *testing.T) {
	s, all := filled(t, 3)
	pin(t, s, "last-good", all[0], all[1])
	pin(t, s, "booting", all[2])
	for _, test := range []struct {
		blobs []blob.Digest
		want  bool
	}{
		{all[:2], true},
		{all[1:2], true},
		{all[2:], true},
		{all, false}, // all are protected, but not by one pin that ends as a whole
		{[]blob.Digest{all[0], blob.Of([]byte("not there"))}, false},
	} {
		if got := s.Protects(test.blobs); got != test.want {
			t.Errorf("%v: %v", test.blobs, got)
		}
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), pinDir, "last-good"), []byte("nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s.Protects(all[:2]) {
		t.Error("a pin that cannot be read is said to protect")
	}
}

func TestPinsProtect(t *testing.T) {
	s, all := filled(t, 4)
	pin(t, s, "last-good", all[0])
	pin(t, s, "booting", all[1], all[0], all[1], blob.Of([]byte("not there")))
	other := open(t, s.Dir(), Limit{Bytes: 4000}) // as another process would
	put(t, other, strings.Repeat("x", 1500))
	if got := has(s, all); got != "ab" {
		t.Errorf("left %q", got)
	}
	var full *FullError
	if _, err := other.Create(blob.Of([]byte("y")), 2500); !errors.As(err, &full) || full.Protected != 2000 {
		t.Errorf("more than beside the pins fits: %v", err)
	}
	report, err := s.GC(context.Background(), Limit{Bytes: 1000})
	if !errors.As(err, &full) || full.Need != 0 || full.Hint() == "" || report.Used != 2000 || len(report.Blobs) != 1 || report.Freed != 1500 {
		t.Errorf("%+v, %v", report, err)
	}
	pins, err := s.Pins()
	if err != nil || len(pins) != 2 || len(pins["booting"]) != 3 || !reflect.DeepEqual(pins["last-good"], all[:1]) {
		t.Errorf("%v, %v", pins, err)
	}
	for range 2 {
		if err := s.Unpin("booting"); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.GC(context.Background(), Limit{Bytes: 1000}); err != nil || has(s, all) != "a" {
		t.Errorf("after Unpin: %q, %v", has(s, all), err)
	}
	pin(t, s, "last-good", all[3]) // replaces
	if _, err := s.GC(context.Background(), Limit{Bytes: 500}); err != nil || has(s, all) != "" {
		t.Errorf("after another pin: %q, %v", has(s, all), err)
	}
}

func TestPinRefusals(t *testing.T) {
	s, all := filled(t, 1)
	for _, name := range []string{"", "-a", "../x", "a/b", "A", "a b", ".", "..", "a.b", "é", strings.Repeat("x", 65), "a\x00", ".durable-x"} {
		if err := s.Pin(name, all); err == nil {
			t.Errorf("pin %q was taken", name)
		}
		if err := s.Unpin(name); err == nil {
			t.Errorf("unpin %q was taken", name)
		}
	}
	many := make([]blob.Digest, maxPinned+1)
	for i := range many {
		many[i] = blob.Of([]byte(fmt.Sprint(i)))
	}
	for _, digests := range [][]blob.Digest{nil, {{}}, many} {
		if err := s.Pin("name", digests); !errors.Is(err, errPin) {
			t.Errorf("%d digests: %v", len(digests), err)
		}
	}
	if _, err := os.Stat(filepath.Join(s.Dir(), pinDir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refusal left something: %v", err)
	}
	pin(t, s, "full", many[1:]...)
	for i := range maxPins - 1 {
		pin(t, s, fmt.Sprint("pin-", i), all...)
	}
	if err := s.Pin("one-more", all); err == nil || !strings.Contains(err.Error(), "64 pins") {
		t.Errorf("one pin more: %v", err)
	}
	pin(t, s, "full", all...)
}

// TestUnreadablePinsProtect: whoever cannot tell what a pin protects removes
// nothing, and says which file it is.
func TestUnreadablePinsProtect(t *testing.T) {
	good, err := formatPin([]blob.Digest{blob.Of([]byte("1")), blob.Of([]byte("2"))})
	if err != nil {
		t.Fatal(err)
	}
	content := func(text string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), 0o644) }
	}
	secret := filepath.Join(t.TempDir(), "secret")
	os.WriteFile(secret, good, 0o644)
	for name, plant := range map[string]func(path string) error{
		"empty":         content(""),
		"zeros":         content(strings.Repeat("\x00", len(good))),
		"header alone":  content(pinHeader),
		"without end":   content(string(good[:len(good)-digestLine-len(pinEnd)])),
		"cut":           content(string(good[:len(good)-1])),
		"bit flipped":   content(strings.Replace(string(good), "a", "b", 1)),
		"other version": content(strings.Replace(string(good), "pins 1", "pins 2", 1)),
		"text":          content("sha256:x\n"),
		"huge":          content(string(good) + strings.Repeat("x", 1<<20)),
		"twice":         content(string(good) + string(good)),
		"directory":     func(path string) error { return os.Mkdir(path, 0o755) },
		"symbolic link": func(path string) error { return os.Symlink(secret, path) },
	} {
		s, all := filled(t, 3)
		pin(t, s, "last-good", all[0])
		path := filepath.Join(s.Dir(), pinDir, "other")
		if err := plant(path); err != nil {
			t.Fatal(err)
		}
		checkProtected(t, name, s, all, path)
		// Its owner can always write it again, or end it.
		if name == "directory" {
			continue
		}
		pin(t, s, "other", all[1])
		if _, err := s.GC(context.Background(), Limit{Bytes: 2500}); err != nil || has(s, all) != "ab" {
			t.Errorf("%s, then written again: %q, %v", name, has(s, all), err)
		}
	}
	// Nor does a file of a name that no pin has, or a folder that is none.
	s, all := filled(t, 3)
	pin(t, s, "last-good", all[0])
	os.Rename(filepath.Join(s.Dir(), pinDir, "last-good"), filepath.Join(s.Dir(), pinDir, "LAST~1"))
	checkProtected(t, "another name", s, all, filepath.Join(s.Dir(), pinDir, "LAST~1"))
	os.RemoveAll(filepath.Join(s.Dir(), pinDir))
	os.Symlink(t.TempDir(), filepath.Join(s.Dir(), pinDir))
	checkProtected(t, "linked folder", s, all, filepath.Join(s.Dir(), pinDir))
	if err := s.Pin("x", all); err == nil {
		t.Error("pinned through a link")
	}
	if err := s.Unpin("x"); err == nil {
		t.Error("unpinned through a link")
	}
}

func checkProtected(t *testing.T, name string, s *Store, all []blob.Digest, path string) {
	t.Helper()
	var unreadable *PinError
	_, err := s.GC(context.Background(), Limit{Bytes: 1500})
	if !errors.As(err, &unreadable) || unreadable.Path != path || !strings.Contains(unreadable.Hint(), path) {
		t.Errorf("%s: GC: %v", name, err)
	}
	limited := open(t, s.Dir(), Limit{Bytes: 3500})
	if _, err := limited.Create(blob.Of([]byte("x")), 1000); !errors.As(err, &unreadable) {
		t.Errorf("%s: Create: %v", name, err)
	}
	if w, err := limited.Create(blob.Of([]byte("x")), 400); err != nil {
		t.Errorf("%s: there is room, but: %v", name, err)
	} else {
		w.Abort()
	}
	if got := has(s, all); got != "abc" {
		t.Errorf("%s: left %q", name, got)
	}
	if _, err := s.Pins(); !errors.As(err, &unreadable) {
		t.Errorf("%s: Pins: %v", name, err)
	}
	if list, err := s.List(); err != nil || len(list) != 3 {
		t.Errorf("%s: List: %v, %v", name, list, err)
	}
}

func TestTooManyPinFiles(t *testing.T) {
	s, all := filled(t, 1)
	pin(t, s, "one", all...)
	for i := range maxPins {
		os.WriteFile(filepath.Join(s.Dir(), pinDir, fmt.Sprint("x", i)), nil, 0o644)
	}
	checkErr := func(err error) {
		var unreadable *PinError
		if !errors.As(err, &unreadable) {
			t.Errorf("%v", err)
		}
	}
	_, err := s.GC(context.Background(), Limit{Bytes: 10})
	checkErr(err)
	checkErr(s.Pin("one-more", all))
}

// What an interrupted Pin leaves is no pin and goes with the next Open.
func TestInterruptedPin(t *testing.T) {
	s, all := filled(t, 2)
	pin(t, s, "one", all[0])
	left := filepath.Join(s.Dir(), pinDir, ".durable-HALF")
	os.WriteFile(left, []byte(pinHeader), 0o644)
	if _, err := s.GC(context.Background(), Limit{Bytes: 1000}); err != nil || has(s, all) != "a" {
		t.Errorf("%q, %v", has(s, all), err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func FuzzParsePin(f *testing.F) {
	good, _ := formatPin([]blob.Digest{blob.Of([]byte("1")), blob.Of([]byte("2"))})
	f.Add(good)
	f.Fuzz(func(t *testing.T, text []byte) {
		digests, err := parsePin(text)
		if err != nil {
			return
		}
		again, err := formatPin(digests)
		if err != nil || string(again) != string(text) {
			t.Fatalf("%q reads as %v and is written as %q, %v", text, digests, again, err)
		}
	})
}
