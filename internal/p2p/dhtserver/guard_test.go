package dhtserver

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

func TestFrames(t *testing.T) {
	message := func(n int) []byte {
		return append(binary.AppendUvarint(nil, uint64(n)), make([]byte, n)...)
	}
	for name, tt := range map[string]struct {
		stream []byte
		ok     bool
	}{
		"nothing":           {nil, true},
		"empty messages":    {make([]byte, 10), true},
		"two messages":      {append(message(3), message(300)...), true},
		"as long as may be": {message(maxRequest), true},
		"one longer":        {message(maxRequest + 1), false},
		"second too long":   {append(message(5), message(maxRequest+1)...), false},
		"endless length":    {bytes.Repeat([]byte{0x80}, 8), false},
		"2^64":              {[]byte(strings.Repeat("\xff", 9) + "\x01"), false},
	} {
		for _, step := range []int{1, 2, 7, 1 << 20} {
			var f frames
			var err error
			for rest := tt.stream; len(rest) > 0 && err == nil; rest = rest[min(step, len(rest)):] {
				err = f.pass(rest[:min(step, len(rest))])
			}
			if (err == nil) != tt.ok {
				t.Errorf("%s in steps of %d: %v", name, step, err)
			}
		}
	}
}

// However a stream is cut into reads, the guard decides the same.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{3, 1, 2, 3, 0, 0x80, 0x80, 0x02}, byte(1))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff"), byte(2))
	f.Add(append(binary.AppendUvarint(nil, maxRequest), 1, 2, 3), byte(7))
	f.Fuzz(func(t *testing.T, stream []byte, step byte) {
		var whole, parts frames
		wholeErr := whole.pass(stream)
		var err error
		n := max(1, int(step))
		for rest := stream; len(rest) > 0 && err == nil; rest = rest[min(n, len(rest)):] {
			err = parts.pass(rest[:min(n, len(rest))])
		}
		if (err == nil) != (wholeErr == nil) {
			t.Errorf("in one piece %v, in steps of %d %v", wholeErr, n, err)
		}
		if err == nil && whole != parts {
			t.Errorf("states differ: %+v and %+v", whole, parts)
		}
		if whole.body > maxRequest {
			t.Errorf("lets %d bytes in", whole.body)
		}
	})
}
