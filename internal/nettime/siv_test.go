package nettime

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSIVVectors are those of RFC 5297, appendix A.
func TestSIVVectors(t *testing.T) {
	for name, c := range map[string]struct {
		key, plaintext, sealed string
		ad                     []string
	}{
		"A.1, deterministic": {
			key: "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
			ad:  []string{"101112131415161718191a1b1c1d1e1f2021222324252627"}, plaintext: "112233445566778899aabbccddee",
			sealed: "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c",
		},
		"A.2, with a nonce": {
			key: "7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f",
			ad: []string{"00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100", "102030405060708090a0",
				"09f911029d74e35bd84156c5635688c0"},
			plaintext: "7468697320697320736f6d6520706c61696e7465787420746f20656e6372797074207573696e67205349562d414553",
			sealed:    "7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d",
		},
	} {
		s, err := newAESSIV(unhex(t, c.key))
		if err != nil {
			t.Fatal(err)
		}
		var ad [][]byte
		for _, a := range c.ad {
			ad = append(ad, unhex(t, a))
		}
		sealed := s.seal(unhex(t, c.plaintext), ad...)
		if !bytes.Equal(sealed, unhex(t, c.sealed)) {
			t.Errorf("%s: sealed to %x", name, sealed)
		}
		plaintext, err := s.open(sealed, ad...)
		if err != nil || !bytes.Equal(plaintext, unhex(t, c.plaintext)) {
			t.Errorf("%s: opened to %x, %v", name, plaintext, err)
		}
	}
}

func TestSIVRefuses(t *testing.T) {
	s, err := newAESSIV(make([]byte, sivKeySize))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, 15, 16, 17, 100} {
		ad, nonce := []byte("header"), []byte("nonce")
		sealed := s.seal(make([]byte, size), ad, nonce)
		if _, err := s.open(sealed, ad, nonce); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		for bit := range len(sealed) * 8 {
			bad := bytes.Clone(sealed)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := s.open(bad, ad, nonce); err == nil {
				t.Errorf("%d bytes: opened with bit %d flipped", size, bit)
			}
		}
		for name, other := range map[string][][]byte{
			"header": {[]byte("Header"), nonce}, "nonce": {ad, []byte("Nonce")}, "order": {nonce, ad}, "no nonce": {ad}, "nothing": {},
		} {
			if _, err := s.open(sealed, other...); err == nil {
				t.Errorf("%d bytes: opened with another %s", size, name)
			}
		}
		if _, err := s.open(sealed[:min(len(sealed)-1, 15)], ad, nonce); err == nil {
			t.Errorf("%d bytes: opened when cut", size)
		}
	}
	for _, size := range []int{0, 16, 31, 33, 64} {
		if _, err := newAESSIV(make([]byte, size)); err == nil {
			t.Errorf("a key of %d bytes was taken", size)
		}
	}
}
