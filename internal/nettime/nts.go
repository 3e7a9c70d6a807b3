package nettime

import (
	"bytes"
	"crypto/aes"
	"crypto/rand"
	"encoding/binary"
	"errors"
)

// Extension fields of an NTP packet, RFC 8915, section 5.
const (
	extUniqueID = 0x0104
	extCookie   = 0x0204
	extAEAD     = 0x0404

	nonceLen = 16
)

// question is one authenticated question. As an extension of a query it adds
// what the server needs; the answer is judged by the dialogue, before anything
// else reads it.
type question struct {
	session *session
	cookie  []byte
	id      [32]byte // comes back in the answer, and ties it to this question
}

// question takes the next cookie; the last one is used again, which tells an
// observer no more than the address of this machine does within seconds.
func (s *session) question() (*question, error) {
	q := &question{session: s, cookie: s.cookies[0]}
	if len(s.cookies) > 1 {
		s.cookies = s.cookies[1:]
	}
	_, err := rand.Read(q.id[:])
	return q, err
}

// ProcessQuery appends identifier, cookie and authenticator to the header.
func (q *question) ProcessQuery(b *bytes.Buffer) error {
	p := appendField(b.Bytes(), extUniqueID, q.id[:])
	p = appendField(p, extCookie, q.cookie)
	var nonce [nonceLen]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return err
	}
	p = appendAEAD(p, nonce[:], q.session.c2s.seal(nil, p, nonce[:]))
	_, err := b.Write(p[b.Len():])
	return err
}

// ProcessResponse has nothing to do: see dialogue.Read.
func (q *question) ProcessResponse([]byte) error { return nil }

// appendField appends an extension field, its body padded to four bytes.
func appendField(p []byte, kind uint16, body []byte) []byte {
	padded := (len(body) + 3) &^ 3
	p = binary.BigEndian.AppendUint16(p, kind)
	p = binary.BigEndian.AppendUint16(p, uint16(4+padded))
	p = append(p, body...)
	return append(p, make([]byte, padded-len(body))...)
}

// appendAEAD appends the authenticator over all of p; both lengths must be
// multiples of four.
func appendAEAD(p, nonce, sealed []byte) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(nonce)))
	body = binary.BigEndian.AppendUint16(body, uint16(len(sealed)))
	body = append(body, nonce...)
	return appendField(p, extAEAD, append(body, sealed...))
}

// refused reports whether an answer is the server's word that it does not know
// the key: a kiss "NTSN" with our identifier. Nothing authenticates it.
func (q *question) refused(p []byte) bool {
	if p[1] != 0 || string(p[12:16]) != "NTSN" {
		return false
	}
	f, err := readFields(p)
	return err == nil && bytes.Equal(f.id, q.id[:])
}

// verify reports whether the server that exchanged the keys made this answer
// to this question. What stands behind the authenticator is not covered by it,
// and nobody reads it.
func (q *question) verify(p []byte) error {
	f, err := readFields(p)
	switch {
	case err != nil:
		return err
	case f.sealed == nil || !bytes.Equal(f.id, q.id[:]):
		return errOpen
	}
	_, err = q.session.s2c.open(f.sealed, f.covered, f.nonce)
	return err
}

// fields are the extension fields that matter, up to the authenticator.
type fields struct {
	id            []byte
	covered       []byte // what the authenticator is about: all before it
	nonce, sealed []byte // nil without an authenticator
}

var errFields = errors.New("malformed extension fields")

// readFields reads the extension fields of a packet of at least 48 bytes, as
// RFC 7822 lays them out. It fails where a length is wrong or an identifier
// is there twice.
func readFields(p []byte) (fields, error) {
	var f fields
	for rest := p[headerLen:]; len(rest) > 0; {
		if len(rest) < 4 {
			return f, errFields
		}
		kind, n := be16(rest), be16(rest[2:])
		if n < 4 || n%4 != 0 || n > len(rest) {
			return f, errFields
		}
		body := rest[4:n]
		switch {
		case kind == extUniqueID && f.id != nil:
			return f, errFields
		case kind == extUniqueID:
			f.id = body
		case kind == extAEAD:
			f.covered = p[:len(p)-len(rest)]
			return f, f.readAEAD(body)
		}
		rest = rest[n:]
	}
	return f, nil
}

func (f *fields) readAEAD(body []byte) error {
	if len(body) < 4 {
		return errFields
	}
	nonce, sealed := be16(body), be16(body[2:])
	body = body[4:]
	padded := (nonce + 3) &^ 3
	if nonce == 0 || sealed < aes.BlockSize || padded+sealed > len(body) {
		return errFields
	}
	f.nonce, f.sealed = body[:nonce], body[padded:padded+sealed]
	return nil
}
