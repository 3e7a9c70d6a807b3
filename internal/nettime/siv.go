package nettime

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
)

// errOpen is all that is ever said about a ciphertext that does not open.
var errOpen = errors.New("the authenticator does not fit")

// sivKeySize is that of AEAD_AES_SIV_CMAC_256: two AES-128 keys.
const sivKeySize = 32

// aesSIV is AES-SIV (RFC 5297) with AES-128: deterministic authenticated
// encryption in which the authenticator is also the initial counter.
type aesSIV struct {
	mac cipher.Block // the first half of the key
	ctr cipher.Block // the second half
}

func newAESSIV(key []byte) (*aesSIV, error) {
	if len(key) != sivKeySize {
		return nil, aes.KeySizeError(len(key))
	}
	mac, err := aes.NewCipher(key[:sivKeySize/2])
	if err != nil {
		return nil, err
	}
	ctr, err := aes.NewCipher(key[sivKeySize/2:])
	if err != nil {
		return nil, err
	}
	return &aesSIV{mac, ctr}, nil
}

// seal returns the 16-byte authenticator and the encrypted plaintext behind it.
// The last element of ad is the nonce, if there is one (RFC 5297, section 3).
func (s *aesSIV) seal(plaintext []byte, ad ...[]byte) []byte {
	v := s.s2v(plaintext, ad)
	out := make([]byte, aes.BlockSize+len(plaintext))
	copy(out, v[:])
	s.xor(out[aes.BlockSize:], plaintext, v)
	return out
}

// open returns the plaintext, or errOpen.
func (s *aesSIV) open(sealed []byte, ad ...[]byte) ([]byte, error) {
	if len(sealed) < aes.BlockSize {
		return nil, errOpen
	}
	v := block(sealed[:aes.BlockSize])
	plaintext := make([]byte, len(sealed)-aes.BlockSize)
	s.xor(plaintext, sealed[aes.BlockSize:], v)
	if want := s.s2v(plaintext, ad); subtle.ConstantTimeCompare(want[:], v[:]) != 1 {
		return nil, errOpen
	}
	return plaintext, nil
}

// xor is the counter mode of RFC 5297, section 2.5: two bits of the counter are
// cleared.
func (s *aesSIV) xor(dst, src []byte, v block) {
	v[8] &= 0x7f
	v[12] &= 0x7f
	cipher.NewCTR(s.ctr, v[:]).XORKeyStream(dst, src)
}

// block is one block of AES, read as an element of GF(2^128).
type block [aes.BlockSize]byte

// double multiplies by x (RFC 5297, section 2.3), in constant time.
func (b block) double() block {
	carry := b[0] >> 7
	for i := range b {
		b[i] <<= 1
		if i+1 < len(b) {
			b[i] |= b[i+1] >> 7
		}
	}
	b[len(b)-1] ^= byte(subtle.ConstantTimeSelect(int(carry), 0x87, 0))
	return b
}

func (b block) add(c block) block {
	subtle.XORBytes(b[:], b[:], c[:])
	return b
}

// s2v is RFC 5297, section 2.4.
func (s *aesSIV) s2v(plaintext []byte, ad [][]byte) block {
	d := s.cmac(make([]byte, aes.BlockSize))
	for _, a := range ad {
		d = d.double().add(s.cmac(a))
	}
	if len(plaintext) < aes.BlockSize {
		d = d.double().add(pad(plaintext))
		return s.cmac(d[:])
	}
	t := append([]byte(nil), plaintext...)
	tail := t[len(t)-aes.BlockSize:]
	subtle.XORBytes(tail, tail, d[:])
	return s.cmac(t)
}

// cmac is AES-CMAC (RFC 4493).
func (s *aesSIV) cmac(m []byte) block {
	var zero, x block
	s.mac.Encrypt(zero[:], zero[:])
	k1 := zero.double()
	for len(m) > aes.BlockSize {
		x = x.add(block(m[:aes.BlockSize]))
		s.mac.Encrypt(x[:], x[:])
		m = m[aes.BlockSize:]
	}
	if len(m) == aes.BlockSize {
		x = x.add(block(m[:aes.BlockSize])).add(k1)
	} else {
		x = x.add(pad(m)).add(k1.double())
	}
	s.mac.Encrypt(x[:], x[:])
	return x
}

// pad is a one bit and zeros behind fewer than 16 bytes.
func pad(m []byte) (b block) {
	copy(b[:], m)
	b[len(m)] = 0x80
	return b
}
