package fuel

import (
	"errors"
	"fmt"
)

// ErrModule says that a module cannot be metered: it is malformed, or has
// something that this package does not know. Errors wrap it and say what.
var ErrModule = errors.New("the module cannot be metered")

// ErrTooBig says that a module is larger, or more intricate, than what is
// compiled here in bounded time. Errors that wrap it wrap ErrModule as well.
var ErrTooBig = fmt.Errorf("%w: it is too big", ErrModule)

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrModule, fmt.Sprintf(format, args...))
}

func tooBig(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrTooBig, fmt.Sprintf(format, args...))
}

// reader passes over the binary format. Reading beyond the end gives zeros and
// marks it as failed.
type reader struct {
	data   []byte
	at     int
	failed bool
}

func (r *reader) more() bool { return r.at < len(r.data) && !r.failed }

func (r *reader) byte() byte {
	if r.at >= len(r.data) {
		r.failed = true
		return 0
	}
	r.at++
	return r.data[r.at-1]
}

// take returns n bytes of the module itself.
func (r *reader) take(n uint32) []byte {
	if uint64(n) > uint64(len(r.data)-r.at) {
		r.failed = true
		return nil
	}
	r.at += int(n)
	return r.data[r.at-int(n) : r.at]
}

// u32 reads LEB128 of at most 32 bits (section 5.2.2).
func (r *reader) u32() uint32 {
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		b := r.byte()
		v |= uint64(b&0x7f) << shift
		if b&0x80 == 0 {
			if v > 1<<32-1 {
				r.failed = true
			}
			return uint32(v)
		}
	}
	r.failed = true
	return 0
}

// signed passes over a signed LEB128 of at most bits bits.
func (r *reader) signed(bits int) {
	for range (bits + 6) / 7 {
		if r.byte()&0x80 == 0 {
			return
		}
	}
	r.failed = true
}

func appendU32(out []byte, v uint32) []byte {
	for v >= 0x80 {
		out = append(out, byte(v)|0x80)
		v >>= 7
	}
	return append(out, byte(v))
}

func appendS64(out []byte, v int64) []byte {
	for {
		b := byte(v) & 0x7f
		v >>= 7
		if v == 0 && b&0x40 == 0 || v == -1 && b&0x40 != 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}
