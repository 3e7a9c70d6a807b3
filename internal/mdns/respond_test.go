package mdns

import (
	"net/netip"
	"testing"
	"time"
)

func responderOn(t *testing.T, number int) (*responder, *port) {
	t.Helper()
	r, err := newResponder(Announcement{Host: "box", Query: stable, Version: 7, Port: 8080})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.take(number); err != nil {
		t.Fatal(err)
	}
	p := &port{link: eth0}
	r.ports = []*port{p}
	return r, p
}

func asking(port uint16, m *message) packet {
	return packet{data: m.pack(), from: netip.AddrPortFrom(netip.MustParseAddr("192.168.1.5"), port), link: eth0}
}

// When questions are answered, and which.
func TestAnswersWhen(t *testing.T) {
	service := mustName(t, serviceLabels...)
	host := mustName(t, "PLASMD-box", "local")
	now := time.Now()
	for what, tt := range map[string]struct {
		m       *message
		last    time.Duration // since something was told to all
		want    need
		atMost  time.Duration
		atLeast time.Duration
	}{
		"providers":      {&message{questions: []question{{name: service, kind: typePTR}}}, time.Hour, needPTR, 120 * time.Millisecond, 20 * time.Millisecond},
		"host":           {&message{questions: []question{{name: host, kind: typeA}}}, time.Hour, needAddrs, 0, 0},
		"too soon":       {&message{questions: []question{{name: host, kind: typeA}}}, 300 * time.Millisecond, needAddrs, 700 * time.Millisecond, 700 * time.Millisecond},
		"a probe":        {&message{questions: []question{{name: host, kind: typeANY}}, authority: []record{{name: host, kind: typeA, addr: netip.MustParseAddr("192.168.1.5")}}}, 300 * time.Millisecond, needAddrs, 0, 0},
		"not ours":       {&message{questions: []question{{name: mustName(t, "x", "local"), kind: typeANY}}}, time.Hour, 0, 0, 0},
		"other type":     {&message{questions: []question{{name: host, kind: 13}}}, time.Hour, 0, 0, 0},
		"known":          {&message{questions: []question{{name: service, kind: typePTR}}, answers: []record{{name: service, kind: typePTR, ttl: 60, target: mustName(t, append([]string{"plasmd-box"}, serviceLabels...)...)}}}, time.Hour, 0, 0, 0},
		"nearly too old": {&message{questions: []question{{name: service, kind: typePTR}}, answers: []record{{name: service, kind: typePTR, ttl: 59, target: mustName(t, append([]string{"plasmd-box"}, serviceLabels...)...)}}}, time.Hour, needPTR, 120 * time.Millisecond, 20 * time.Millisecond},
	} {
		r, p := responderOn(t, 1)
		p.multicast = now.Add(-tt.last)
		r.hear(asking(5353, tt.m), now)
		if p.pending != tt.want {
			t.Errorf("%s: pending %b, want %b", what, p.pending, tt.want)
		} else if wait := p.due.Sub(now); p.pending != 0 && (wait > tt.atMost || wait < tt.atLeast) {
			t.Errorf("%s: in %v", what, wait)
		}
	}
}

func TestConflicts(t *testing.T) {
	r, _ := responderOn(t, 1)
	for what, tt := range map[string]struct {
		say  record
		want bool
	}{
		"our service elsewhere":   {record{name: r.instance, kind: typeSRV, ttl: 120, port: 8080, target: mustName(t, "x", "local")}, true},
		"on another port":         {record{name: r.instance, kind: typeSRV, ttl: 120, port: 8081, target: r.host}, true},
		"what we say":             {record{name: r.instance, kind: typeSRV, ttl: 120, port: 8080, target: r.host}, false},
		"other text":              {record{name: r.instance, kind: typeTXT, ttl: 120, text: []string{"x"}}, false},
		"our host elsewhere":      {record{name: r.host, kind: typeA, ttl: 120, addr: netip.MustParseAddr("192.168.1.5")}, true},
		"our own address":         {record{name: r.host, kind: typeA, ttl: 120, addr: netip.MustParseAddr("192.168.1.9")}, false},
		"somebody's goodbye":      {record{name: r.host, kind: typeA, ttl: 0, addr: netip.MustParseAddr("192.168.1.5")}, false},
		"somebody else's service": {record{name: r.service, kind: typePTR, ttl: 120, target: mustName(t, "x", "local")}, false},
	} {
		if got := r.conflicts([]record{tt.say}); got != tt.want {
			t.Errorf("%s: %v", what, got)
		}
	}
	// A neighbour that contests every name makes us slower, not busier.
	begin := time.Now()
	for range 100 {
		r.hear(packet{
			data: (&message{flags: flagResponse, answers: []record{{name: r.instance, kind: typeSRV, ttl: 120, port: 1, target: r.host}}}).pack(),
			from: netip.MustParseAddrPort("192.168.1.5:5353"), link: eth0,
		}, begin)
	}
	if r.renamed != 100 || r.number != 101 || r.ports[0].at.Sub(begin) < conflictRest {
		t.Errorf("renamed %d times to %s, next probe in %v", r.renamed, r.instance, r.ports[0].at.Sub(begin))
	}
}

// Of two who probe for one name at the same time exactly one gives way.
func TestProbeTie(t *testing.T) {
	a, pa := responderOn(t, 1)
	b, pb := responderOn(t, 1)
	b.say.Port = 8081
	b.ports[0].link.addrs = []netip.Prefix{netip.MustParsePrefix("192.168.1.5/24")}
	const here, there = "192.168.1.9", "192.168.1.5"
	for what, spoil := range map[string]func(){
		"other port":         func() {},
		"other address only": func() { b.say.Port = 8080 },
		"other text":         func() { a.say.Version = 9 },
	} {
		spoil()
		ma, err1 := parse(a.probe(pa).pack())
		mb, err2 := parse(b.probe(pb).pack())
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		al, bl := a.loses(pa, mb, netip.MustParseAddr(there)), b.loses(pb, ma, netip.MustParseAddr(here))
		if al == bl {
			t.Errorf("%s: a loses %v, b loses %v", what, al, bl)
		}
		if a.loses(pa, ma, netip.MustParseAddr(here)) || b.loses(pb, mb, netip.MustParseAddr(there)) {
			t.Errorf("%s: gives way to itself", what)
		}
	}
	// Our own probe on another interface of ours, where other text is told.
	elsewhere := &port{link: link{index: 3, device: "eth1", addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.9/24")}}}
	a.ports = append(a.ports, elsewhere)
	a.say.P2P = []string{"/ip4/10.0.0.9/tcp/1/p2p/" + peerID, "/ip4/192.168.1.9/tcp/1/p2p/" + peerID}
	for _, pair := range [][2]*port{{pa, elsewhere}, {elsewhere, pa}} {
		m, err := parse(a.probe(pair[1]).pack())
		if err != nil || a.loses(pair[0], m, pair[1].addrs[0].Addr()) {
			t.Errorf("gives way to itself across interfaces, %v", err)
		}
	}
}

func TestLegacyAnswer(t *testing.T) {
	r, p := responderOn(t, 1)
	m := &message{id: 4711, questions: []question{{name: r.service, kind: typePTR}}}
	a := r.legacy(p, m, needPTR)
	if a.id != 4711 || len(a.questions) != 1 || len(a.answers) != 1 || len(a.further) == 0 {
		t.Errorf("%+v", a)
	}
	for _, rec := range append(a.answers, a.further...) {
		if rec.ttl != legacyTTL || rec.flush {
			t.Errorf("%+v", rec)
		}
	}
}

// A flood of questions is answered once a second for all, and a bounded number of
// times for single hosts.
func TestQuestionFlood(t *testing.T) {
	r, p := responderOn(t, 1)
	r.conn = &conn{} // without a socket: nothing is sent
	now := time.Now()
	p.multicast = now.Add(-time.Millisecond)
	for i := range 1000 {
		r.hear(asking(uint16(10000+i), &message{questions: []question{{name: r.service, kind: typePTR}}}), now)
		r.hear(asking(5353, &message{questions: []question{{name: r.service, kind: typePTR, unicast: true}}}), now)
		r.hear(asking(5353, &message{questions: []question{{name: r.service, kind: typePTR}}}), now)
	}
	if r.unicasts != maxUnicast {
		t.Errorf("%d answers to single hosts", r.unicasts)
	}
	if wait := p.due.Sub(now); p.pending != needPTR || wait < answerEvery-10*time.Millisecond {
		t.Errorf("pending %b in %v", p.pending, wait)
	}
	r.act(p, p.due)
	if p.pending != 0 || !p.multicast.Equal(p.due) {
		t.Errorf("pending %b after the answer", p.pending)
	}
}
