// Package blobwire is what two nodes say to each other to pass on stretches of a
// blob over a stream, where no HTTP connection comes about between them.
//
// A stream carries one request of RequestSize bytes and one answer, a Status
// alone or StatusOK followed by what was asked for: of a read exactly its bytes, of
// the question where a blob is to be had a Place. Everything has a fixed form and
// size; what deviates from it is refused, so that neither end ever has to allocate
// what the other announces. Numbers are big-endian.
//
// Nothing here is trusted: who reads checks the bytes against digests that were
// signed for.
package blobwire

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/phasebased/phase/blob"
)

// Protocol is the name under which streams are opened.
const Protocol = "/phase/blob/1.0.0"

const (
	// RequestSize is the length of a request: kind, digest, offset and length.
	RequestSize = 1 + 32 + 8 + 8
	// PlaceSize is the length of a Place: size and port.
	PlaceSize = 8 + 2
	// MaxLength is how much one request may ask for, in bytes.
	MaxLength = 4 << 20
)

// Kind says what a request is for.
type Kind byte

const (
	// Where asks whether the other end has a blob, and where else it gives it.
	Where Kind = 1
	// Read asks for a stretch of a blob.
	Read Kind = 2
)

// Status is the first byte of an answer.
type Status byte

// What an answer can begin with.
const (
	StatusOK        Status = 0
	StatusAbsent    Status = 1 // the blob is not here
	StatusBeyond    Status = 2 // the stretch does not lie within the blob
	StatusBusy      Status = 3 // later, or elsewhere
	StatusMalformed Status = 4 // that was no request
)

func (s Status) String() string {
	switch s {
	case StatusOK:
		return "ok"
	case StatusAbsent:
		return "does not have the blob"
	case StatusBeyond:
		return "says that the part lies beyond the blob's end"
	case StatusBusy:
		return "is busy"
	case StatusMalformed:
		return "does not understand the request"
	}
	return fmt.Sprintf("answers with the unknown status %d", byte(s))
}

// A Request is what is asked of the other end.
type Request struct {
	Kind   Kind
	Blob   blob.Digest
	Offset int64 // bytes; 0 of Where
	Length int64 // bytes, 1 to MaxLength; 0 of Where
}

// ErrMalformed says that bytes are no request.
var ErrMalformed = errors.New("malformed request for a blob")

// check says why r is none that can be sent or answered.
func (r Request) check() error {
	switch {
	case r.Blob.IsZero():
		return fmt.Errorf("%w: no digest", ErrMalformed)
	case r.Kind == Where && r.Offset == 0 && r.Length == 0:
		return nil
	case r.Kind != Read:
		return fmt.Errorf("%w: kind %d with offset %d and length %d", ErrMalformed, r.Kind, r.Offset, r.Length)
	case r.Offset < 0 || r.Length < 1 || r.Length > MaxLength || r.Offset+r.Length < 0:
		return fmt.Errorf("%w: %d bytes at %d", ErrMalformed, r.Length, r.Offset)
	}
	return nil
}

// Marshal is the request as it is sent.
func (r Request) Marshal() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	sum, err := hex.DecodeString(r.Blob.Hex())
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, RequestSize), byte(r.Kind))
	out = append(out, sum...)
	out = binary.BigEndian.AppendUint64(out, uint64(r.Offset))
	return binary.BigEndian.AppendUint64(out, uint64(r.Length)), nil
}

// Parse reads a request that a stranger sent. It fails with ErrMalformed.
func Parse(raw []byte) (Request, error) {
	if len(raw) != RequestSize {
		return Request{}, fmt.Errorf("%w: %d bytes", ErrMalformed, len(raw))
	}
	r := Request{
		Kind:   Kind(raw[0]),
		Blob:   blob.FromSum([32]byte(raw[1:33])),
		Offset: int64(binary.BigEndian.Uint64(raw[33:41])),
		Length: int64(binary.BigEndian.Uint64(raw[41:49])),
	}
	if err := r.check(); err != nil {
		return Request{}, err
	}
	return r, nil
}

// A Place says how a blob is to be had from who was asked.
type Place struct {
	Size int64 // of the blob, in bytes
	// Port is where HTTP is spoken, at the address at which the question was
	// answered, so that nobody can name another machine; 0: nowhere.
	Port uint16
}

// ErrPlace says that bytes are no Place.
var ErrPlace = errors.New("malformed answer about a blob")

// Marshal is the place as it is sent.
func (p Place) Marshal() []byte {
	out := binary.BigEndian.AppendUint64(make([]byte, 0, PlaceSize), uint64(p.Size))
	return binary.BigEndian.AppendUint16(out, p.Port)
}

// ParsePlace reads a Place that a stranger sent. It fails with ErrPlace.
func ParsePlace(raw []byte) (Place, error) {
	if len(raw) != PlaceSize {
		return Place{}, fmt.Errorf("%w: %d bytes", ErrPlace, len(raw))
	}
	p := Place{Size: int64(binary.BigEndian.Uint64(raw)), Port: binary.BigEndian.Uint16(raw[8:])}
	if p.Size < 0 {
		return Place{}, fmt.Errorf("%w: size %d", ErrPlace, p.Size)
	}
	return p, nil
}
