package mdns

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
)

// Limits of a message. RFC 6762, section 17, allows 9000 bytes with all headers;
// the number of entries is ours.
const (
	maxMessage   = 9000
	maxQuestions = 64
	maxRecords   = 256
	maxStrings   = 64 // in one TXT record
)

// Record types (RFC 1035, 2782, 3596) and what else is needed of the wire form.
const (
	typeA    = 1
	typePTR  = 12
	typeTXT  = 16
	typeAAAA = 28
	typeSRV  = 33
	typeANY  = 255

	classIN = 1
	topBit  = 1 << 15 // of a class: cache flush in records, unicast wanted in questions

	flagResponse      = 1 << 15
	flagAuthoritative = 1 << 10
	maskOpcode        = 15 << 11
	maskRcode         = 15
)

var errMessage = errors.New("malformed DNS message")

// message is a DNS message (RFC 1035, section 4) as far as multicast DNS uses it.
type message struct {
	id                          uint16
	flags                       uint16
	questions                   []question
	answers, authority, further []record
}

func (m *message) response() bool { return m.flags&flagResponse != 0 }

type question struct {
	name    name
	kind    uint16
	unicast bool
}

// asks reports whether q wants records of that name and type.
func (q question) asks(n name, kind uint16) bool {
	return (q.kind == kind || q.kind == typeANY) && q.name.fold() == n.fold()
}

// record is one of the five types that service discovery needs.
type record struct {
	name  name
	kind  uint16
	flush bool
	ttl   uint32 // seconds

	target         name // PTR, SRV
	priority, load uint16
	port           uint16 // SRV
	text           []string
	addr           netip.Addr // A, AAAA
}

// data is the record's content without compression, for comparison.
func (r record) data() []byte {
	switch r.kind {
	case typePTR:
		return []byte(r.target)
	case typeSRV:
		b := binary.BigEndian.AppendUint16(nil, r.priority)
		b = binary.BigEndian.AppendUint16(b, r.load)
		b = binary.BigEndian.AppendUint16(b, r.port)
		return append(b, r.target...)
	case typeTXT:
		if len(r.text) == 0 {
			return []byte{0} // RFC 6763, section 6.1
		}
		var b []byte
		for _, s := range r.text {
			b = append(append(b, byte(len(s))), s...)
		}
		return b
	}
	return r.addr.AsSlice()
}

// compareProbes orders the records that two hosts want for one name (RFC 6762,
// section 8.2).
func compareProbes(a, b []record) int {
	order := func(x, y record) int {
		return cmp.Or(cmp.Compare(x.kind, y.kind), bytes.Compare(x.data(), y.data()))
	}
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, order)
	slices.SortFunc(b, order)
	return slices.CompareFunc(a, b, order)
}

// decoder reads a message from its beginning to its end.
type decoder struct {
	msg []byte
	off int
}

// parse reads a message. Records of other types and classes are left out, and
// bytes behind the message are ignored, as every resolver does.
func parse(msg []byte) (*message, error) {
	if len(msg) < 12 || len(msg) > maxMessage {
		return nil, errMessage
	}
	d := &decoder{msg: msg}
	m := &message{id: d.uint16(), flags: d.uint16()}
	counts := [4]int{int(d.uint16()), int(d.uint16()), int(d.uint16()), int(d.uint16())}
	if counts[0] > maxQuestions || counts[1]+counts[2]+counts[3] > maxRecords {
		return nil, errMessage
	}
	for range counts[0] {
		q, err := d.question()
		if err != nil {
			return nil, err
		}
		m.questions = append(m.questions, q)
	}
	for i, section := range []*[]record{&m.answers, &m.authority, &m.further} {
		for range counts[i+1] {
			r, wanted, err := d.record()
			if err != nil {
				return nil, err
			}
			if wanted {
				*section = append(*section, r)
			}
		}
	}
	return m, nil
}

func (d *decoder) left() int { return len(d.msg) - d.off }

// uint16 reads two bytes; the caller has made sure that they are there.
func (d *decoder) uint16() uint16 {
	d.off += 2
	return binary.BigEndian.Uint16(d.msg[d.off-2:])
}

func (d *decoder) question() (q question, err error) {
	if q.name, err = d.name(); err != nil {
		return q, err
	}
	if d.left() < 4 {
		return q, errMessage
	}
	q.kind = d.uint16()
	class := d.uint16()
	q.unicast = class&topBit != 0
	if class &^= topBit; class != classIN && class != 255 {
		q.kind = 0 // nothing of ours
	}
	return q, nil
}

func (d *decoder) record() (r record, wanted bool, err error) {
	if r.name, err = d.name(); err != nil {
		return r, false, err
	}
	if d.left() < 10 {
		return r, false, errMessage
	}
	r.kind = d.uint16()
	class := d.uint16()
	r.flush = class&topBit != 0
	r.ttl = uint32(d.uint16())<<16 | uint32(d.uint16())
	size := int(d.uint16())
	if d.left() < size {
		return r, false, errMessage
	}
	end := d.off + size
	if class&^topBit != classIN {
		d.off = end
		return r, false, nil
	}
	if wanted, err = d.content(&r, end); err != nil {
		return r, false, err
	}
	if wanted && d.off != end {
		return r, false, errMessage
	}
	d.off = end
	return r, wanted, nil
}

// content reads what a record says, up to end.
func (d *decoder) content(r *record, end int) (wanted bool, err error) {
	size := end - d.off
	switch r.kind {
	case typeA, typeAAAA:
		if want := map[uint16]int{typeA: 4, typeAAAA: 16}[r.kind]; size != want {
			return false, errMessage
		}
		r.addr, _ = netip.AddrFromSlice(d.msg[d.off:end])
		d.off = end
	case typePTR:
		r.target, err = d.name()
	case typeSRV:
		if size < 7 {
			return false, errMessage
		}
		r.priority, r.load, r.port = d.uint16(), d.uint16(), d.uint16()
		r.target, err = d.name()
	case typeTXT:
		r.text, err = d.strings(end)
	default:
		return false, nil
	}
	return err == nil, err
}

func (d *decoder) strings(end int) (out []string, err error) {
	for d.off < end {
		next := d.off + 1 + int(d.msg[d.off])
		if next > end || len(out) == maxStrings {
			return nil, errMessage
		}
		if next > d.off+1 { // empty strings say nothing
			out = append(out, string(d.msg[d.off+1:next]))
		}
		d.off = next
	}
	return out, nil
}

// name reads a name with its compression (RFC 1035, section 4.1.4). Every pointer
// must lead further back than the one before, so that reading ends.
func (d *decoder) name() (name, error) {
	var out []byte
	at, limit, after := d.off, d.off, -1
	for {
		if at >= len(d.msg) {
			return "", errName
		}
		c := int(d.msg[at])
		switch {
		case c == 0:
			if after < 0 {
				after = at + 1
			}
			d.off = after
			return name(append(out, 0)), nil
		case c < 64:
			if at+1+c > len(d.msg) || len(out)+1+c+1 > 255 {
				return "", errName
			}
			out = append(out, d.msg[at:at+1+c]...)
			at += 1 + c
		case c >= 192 && at+1 < len(d.msg):
			to := (c&63)<<8 | int(d.msg[at+1])
			if to >= limit {
				return "", errName
			}
			if after < 0 {
				after = at + 2
			}
			at, limit = to, to
		default:
			return "", errName
		}
	}
}

// encoder writes a message.
type encoder struct {
	msg  []byte
	seen map[name]int // where a name, or the end of one, stands already
}

// pack writes a message. What we send is far below its limits.
func (m *message) pack() []byte {
	e := &encoder{seen: map[name]int{}}
	for _, n := range []int{int(m.id), int(m.flags), len(m.questions), len(m.answers), len(m.authority), len(m.further)} {
		e.uint16(uint16(n))
	}
	for _, q := range m.questions {
		e.name(q.name)
		e.uint16(q.kind)
		e.class(q.unicast)
	}
	for _, section := range [][]record{m.answers, m.authority, m.further} {
		for _, r := range section {
			e.record(r)
		}
	}
	return e.msg
}

func (e *encoder) uint16(v uint16) { e.msg = binary.BigEndian.AppendUint16(e.msg, v) }

func (e *encoder) class(top bool) {
	if top {
		e.uint16(classIN | topBit)
		return
	}
	e.uint16(classIN)
}

// record writes one record. Names inside SRV records are not compressed: simple
// resolvers, which are answered in the same form, need not expect it.
func (e *encoder) record(r record) {
	e.name(r.name)
	e.uint16(r.kind)
	e.class(r.flush)
	e.msg = binary.BigEndian.AppendUint32(e.msg, r.ttl)
	e.uint16(0)
	begin := len(e.msg)
	if r.kind == typePTR {
		e.name(r.target)
	} else {
		e.msg = append(e.msg, r.data()...)
	}
	binary.BigEndian.PutUint16(e.msg[begin-2:], uint16(len(e.msg)-begin))
}

func (e *encoder) name(n name) {
	for len(n) > 1 {
		if at, ok := e.seen[n]; ok {
			e.uint16(192<<8 | uint16(at))
			return
		}
		if len(e.msg) < 1<<14 {
			e.seen[n] = len(e.msg)
		}
		e.msg = append(e.msg, n[:1+int(n[0])]...)
		n = n[1+int(n[0]):]
	}
	e.msg = append(e.msg, 0)
}
