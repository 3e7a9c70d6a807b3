package sysinit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
)

// squash and erofs are the beginnings of images of 64 KiB.
func squash() []byte {
	b := make([]byte, 64<<10)
	copy(b, "hsqs")
	le := binary.LittleEndian
	le.PutUint32(b[12:], 256<<10)
	le.PutUint16(b[22:], 18)
	le.PutUint16(b[28:], 4)
	le.PutUint64(b[40:], 60000)
	return b
}

func erofs() []byte {
	b := make([]byte, 64<<10)
	le := binary.LittleEndian
	le.PutUint32(b[1024:], 0xE0F5E1E2)
	b[1024+12] = 12
	le.PutUint32(b[1024+36:], 16)
	return b
}

func TestImageType(t *testing.T) {
	for want, image := range map[string][]byte{"squashfs": squash(), "erofs": erofs()} {
		if got, err := ImageType(bytes.NewReader(image), int64(len(image))); err != nil || got != want {
			t.Errorf("%s: %q, %v", want, got, err)
		}
		if _, err := ImageType(bytes.NewReader(image), 50000); !errors.Is(err, ErrNoImage) {
			t.Errorf("%s longer than its device: %v", want, err)
		}
		if _, err := ImageType(bytes.NewReader(image[:1100]), int64(len(image))); !errors.Is(err, ErrNoImage) {
			t.Errorf("%s cut off: %v", want, err)
		}
		if _, err := ImageType(bytes.NewReader(image), -1); !errors.Is(err, ErrNoImage) {
			t.Errorf("%s of a negative size: %v", want, err)
		}
	}
	for name, change := range map[string]func(b []byte){
		"magic":          func(b []byte) { b[0] = 's' },
		"version":        func(b []byte) { b[28] = 3 },
		"minor version":  func(b []byte) { b[30] = 1 },
		"block size":     func(b []byte) { b[13] = 1 },
		"block log 11":   func(b []byte) { b[22] = 11; binary.LittleEndian.PutUint32(b[12:], 1<<11) },
		"block log 21":   func(b []byte) { b[22] = 21; binary.LittleEndian.PutUint32(b[12:], 1<<21) },
		"bytes used":     func(b []byte) { b[44] = 1 },
		"few bytes used": func(b []byte) { binary.LittleEndian.PutUint64(b[40:], 95) },
	} {
		b := squash()
		change(b)
		if got, err := ImageType(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrNoImage) {
			t.Errorf("squashfs with another %s: %q, %v", name, got, err)
		}
	}
	for name, change := range map[string]func(b []byte){
		"magic":       func(b []byte) { b[0] = 0 },
		"block bits":  func(b []byte) { b[12] = 8 },
		"block bits ": func(b []byte) { b[12] = 17 },
		"no blocks":   func(b []byte) { b[36] = 0 },
		"many blocks": func(b []byte) { b[36] = 17 },
		"most blocks": func(b []byte) { binary.LittleEndian.PutUint32(b[36:], 1<<32-1) },
	} {
		b := erofs()
		change(b[1024:])
		if got, err := ImageType(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrNoImage) {
			t.Errorf("EROFS with another %s: %q, %v", name, got, err)
		}
	}
	if _, err := ImageType(failing{}, 4096); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a device that gives nothing: %v", err)
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, io.ErrClosedPipe }

func TestExt4UUID(t *testing.T) {
	b := make([]byte, 4096)
	binary.LittleEndian.PutUint16(b[1024+0x38:], 0xEF53)
	for i := range 16 {
		b[1024+0x68+i] = byte(i + 0xa0)
	}
	if id, err := Ext4UUID(bytes.NewReader(b)); err != nil || id != "a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf" {
		t.Errorf("%q, %v", id, err)
	}
	b[1024+0x38]++
	if _, err := Ext4UUID(bytes.NewReader(b)); err == nil {
		t.Error("something else has an identifier")
	}
	if _, err := Ext4UUID(strings.NewReader("short")); err == nil {
		t.Error("a short device has an identifier")
	}
}

// FuzzSuperblocks: nothing panics, and what is taken for an image begins as one.
func FuzzSuperblocks(f *testing.F) {
	f.Add(squash()[:2048], int64(64<<10))
	f.Add(erofs()[:2048], int64(64<<10))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		kind, err := ImageType(bytes.NewReader(b), size)
		if (err == nil) != (kind == "squashfs" || kind == "erofs") || err == nil && size < 96 {
			t.Fatalf("%q, %v", kind, err)
		}
		if id, err := Ext4UUID(bytes.NewReader(b)); err == nil && len(id) != 36 {
			t.Fatal(id)
		}
	})
}
