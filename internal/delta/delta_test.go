package delta

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func noise(seed uint64, n int) []byte {
	rng := rand.NewChaCha8([32]byte{byte(seed)})
	b := make([]byte, n)
	rng.Read(b)
	return b
}

func TestRoundTrip(t *testing.T) {
	big := noise(1, 1<<20)
	moved := bytes.Join([][]byte{big[500_001:], []byte("new"), big[:300_000]}, nil)
	for name, c := range map[string]struct{ old, new []byte }{
		"equal":   {big, big},
		"moved":   {big, moved},
		"grown":   {moved, append(bytes.Clone(moved), big...)},
		"emptied": {big, nil},
		"first":   {nil, big},
		"nothing": {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var patch, got bytes.Buffer
			if err := Make(&patch, bytes.NewReader(c.old), int64(len(c.old)), bytes.NewReader(c.new), int64(len(c.new))); err != nil {
				t.Fatal(err)
			}
			if err := Apply(&got, bytes.NewReader(c.old), int64(len(c.old)), &patch, int64(len(c.new))); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), c.new) {
				t.Error("the result differs")
			}
		})
	}
}
