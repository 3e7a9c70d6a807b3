package mdns

import (
	"bytes"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func mustName(t testing.TB, labels ...string) name {
	t.Helper()
	n, err := newName(labels...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sample has one of everything.
func sample(t testing.TB) *message {
	service := mustName(t, serviceLabels...)
	full := mustName(t, append([]string{`My box. Nr. 2 \ é`}, serviceLabels...)...)
	host := mustName(t, "box", "local")
	return &message{
		id: 7, flags: flagResponse | flagAuthoritative,
		questions: []question{{name: service, kind: typePTR, unicast: true}, {name: full, kind: typeANY}},
		answers:   []record{{name: service, kind: typePTR, ttl: 120, target: full}},
		authority: []record{{name: full, kind: typeSRV, flush: true, ttl: 120, priority: 1, load: 2, port: 8080, target: host}},
		further: []record{
			{name: full, kind: typeTXT, ttl: 4500, text: []string{"channel=stable", strings.Repeat("x", 255)}},
			{name: host, kind: typeA, ttl: 0, addr: netip.MustParseAddr("192.0.2.1")},
			{name: host, kind: typeAAAA, ttl: 1 << 31, addr: netip.MustParseAddr("fe80::1")},
		},
	}
}

func TestMessageRoundTrip(t *testing.T) {
	want := sample(t)
	raw := want.pack()
	got, err := parse(raw)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, want)
	}
	// Another implementation reads it likewise.
	var other dns.Msg
	if err := other.Unpack(raw); err != nil {
		t.Fatal(err)
	}
	if len(other.Question) != 2 || len(other.Answer) != 1 || len(other.Ns) != 1 || len(other.Extra) != 3 ||
		other.Ns[0].(*dns.SRV).Target != "box.local." || other.Extra[0].(*dns.TXT).Txt[0] != "channel=stable" || !other.Extra[1].(*dns.A).A.Equal([]byte{192, 0, 2, 1}) {
		t.Errorf("miekg/dns reads %v", &other)
	}
	for i := range raw {
		if _, err := parse(raw[:i]); err == nil {
			t.Errorf("accepted the first %d of %d bytes", i, len(raw))
		}
	}
}

func TestParseRefuses(t *testing.T) {
	head := func(counts ...byte) []byte {
		b := make([]byte, 12)
		for i, c := range counts {
			b[5+2*i] = c
		}
		return b
	}
	many := head()
	many[6] = 2 // 512 answers
	for what, raw := range map[string][]byte{
		"nothing":            nil,
		"short":              make([]byte, 11),
		"long":               make([]byte, maxMessage+1),
		"many":               many,
		"many questions":     head(maxQuestions + 1),
		"pointer to itself":  append(head(1), 0xc0, 12, 0, 12, 0, 1),
		"pointer forward":    append(head(1), 0xc0, 16, 0, 12, 0, 1, 0),
		"pointer cut":        append(head(1), 0xc0),
		"label type":         append(head(1), 0x40, 0, 0, 12, 0, 1),
		"pointers in circle": append(head(1), 1, 'a', 0xc0, 12, 0, 12, 0, 1),
		"long name":          append(append(head(1), bytes.Repeat([]byte("\x3f"+strings.Repeat("a", 63)), 4)...), 0, 0, 12, 0, 1),
		"A of 3 bytes":       append(head(0, 1), 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 3, 1, 2, 3),
		"TXT too long":       append(head(0, 1), 0, 0, 16, 0, 1, 0, 0, 0, 0, 0, 2, 5, 'a'),
		"PTR with a rest":    append(head(0, 1), 0, 0, 12, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0),
		"SRV of 3 bytes":     append(head(0, 1), 0, 0, 33, 0, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0),
		"record cut":         append(head(0, 1), 0, 0, 12, 0, 1, 0, 0, 0, 0, 0, 9, 0),
	} {
		if m, err := parse(raw); err == nil {
			t.Errorf("%s: %+v", what, m)
		}
	}
}

func TestNames(t *testing.T) {
	service := mustName(t, serviceLabels...)
	full := mustName(t, "A.b", "_PHASE-image", "_tcp", "LOCAL")
	if label, ok := full.below(service); !ok || label != "A.b" {
		t.Errorf("%q, %v", label, ok)
	}
	if full.String() != `A\.b._PHASE-image._tcp.LOCAL.` {
		t.Errorf("%s", full)
	}
	for _, n := range []name{service, "", "\x00", mustName(t, "a", "b", "_phase-image", "_tcp", "local"), mustName(t, "a", "_phase-image2", "_tcp", "local")} {
		if label, ok := n.below(service); ok {
			t.Errorf("%s: %q", n, label)
		}
	}
	for _, labels := range [][]string{{""}, {strings.Repeat("a", 64)}, {strings.Repeat("a", 63), strings.Repeat("a", 63), strings.Repeat("a", 63), strings.Repeat("a", 63)}} {
		if n, err := newName(labels...); err == nil {
			t.Errorf("%q", n)
		}
	}
}

// Whatever arrives is refused or understood: what was read and written again reads
// the same, and as another implementation reads it.
func FuzzParse(f *testing.F) {
	raw := sample(f).pack()
	f.Add(raw)
	f.Add(raw[:40])
	f.Add([]byte("\x00\x00\x84\x00\x00\x00\x00\x01\x00\x00\x00\x00\x01a\xc0\x0c\x00\x0c\x00\x01\x00\x00\x00\x78\x00\x02\xc0\x0c"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := parse(raw)
		if err != nil {
			return
		}
		again, err := parse(m.pack())
		if len(m.pack()) <= maxMessage && (err != nil || !reflect.DeepEqual(again, m)) {
			t.Errorf("%v\n got %+v\nwant %+v", err, again, m)
		}
		var other dns.Msg
		if other.Unpack(raw) == nil && len(other.Question) != len(m.questions) {
			t.Errorf("%d questions, miekg/dns reads %d", len(m.questions), len(other.Question))
		}
	})
}
