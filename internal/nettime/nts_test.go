package nettime

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// queryNTS asks these servers on a machine whose clock says noon.
func queryNTS(a *authority, servers ...*ntsServer) Query {
	q := Query{Now: at(noon), Roots: a.roots, Timeout: enough}
	for _, s := range servers {
		q.Servers = append(q.Servers, Server{Address: s.address, NTS: true})
	}
	return q
}

func TestNTS(t *testing.T) {
	ca := newAuthority(t)
	s := (&ntsServer{now: running(noon.Add(time.Hour))}).start(t, ca.year())
	a, took, err := ask(t, queryNTS(ca, s))
	if err != nil {
		t.Fatal(err)
	}
	wantOffset(t, a, time.Hour)
	if !a.Authenticated || !a.Servers[0].Authenticated() || a.Agreed != 1 || took > prompt {
		t.Errorf("took %s: %+v", took, a)
	}
	if want := s.address + " (NTS): 2026-11-23 1"; !strings.HasPrefix(a.Servers[0].String(), want) {
		t.Errorf("%q", a.Servers[0])
	}
}

func TestKeyExchangeRefuses(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	record := func(b []byte) func([]byte) []byte { return func([]byte) []byte { return b } }
	// with puts records before those of an honest server.
	with := func(kind uint16, body ...byte) func([]byte) []byte {
		return func(honest []byte) []byte { return append(appendRecord(nil, kind, body...), honest...) }
	}
	for name, c := range map[string]struct {
		server *ntsServer
		cert   tls.Certificate
		says   string
	}{
		"stranger's root":  {&ntsServer{}, other.year(), "signed by unknown authority"},
		"TLS 1.2":          {&ntsServer{tls: &tls.Config{MaxVersion: tls.VersionTLS12, NextProtos: []string{alpn}}}, ca.year(), "protocol version"},
		"no protocol name": {&ntsServer{tls: &tls.Config{}}, ca.year(), "does not speak the protocol"},
		"web server":       {&ntsServer{tls: &tls.Config{NextProtos: []string{"h2"}}}, ca.year(), "no application protocol"},

		"silence":         {&ntsServer{talk: hang}, ca.year(), "no answer"},
		"drip":            {&ntsServer{keys: record(appendRecord(nil, 99, make([]byte, 900)...)), talk: drip}, ca.year(), "no answer"},
		"endless cookies": {&ntsServer{talk: flood(appendRecord(nil, recCookie, make([]byte, 1000)...))}, ca.year(), "too much data"},
		"endless nothing": {&ntsServer{talk: flood(appendRecord(nil, 99))}, ca.year(), "too much data"},
		"nothing":         {&ntsServer{keys: record(nil)}, ca.year(), "ended early"},
		"half a record":   {&ntsServer{keys: record([]byte{0, 5, 0, 100, 1})}, ca.year(), "ended early"},
		"no end":          {&ntsServer{keys: func(b []byte) []byte { return b[:len(b)-4] }}, ca.year(), "ended early"},
		"huge record":     {&ntsServer{keys: record([]byte{0, 5, 255, 255})}, ca.year(), "65535 bytes"},
		"only the end":    {&ntsServer{keys: record(appendRecord(nil, recEnd|recCritical))}, ca.year(), "lacks the protocol"},
		"no cookie":       {&ntsServer{keys: func(b []byte) []byte { return append(b[:18:18], appendRecord(nil, recEnd|recCritical)...) }}, ca.year(), "or a cookie"},
		"empty cookie":    {&ntsServer{keys: with(recCookie)}, ca.year(), "empty cookie"},
		"error":           {&ntsServer{keys: with(recError|recCritical, 0, 1)}, ca.year(), "error 1"},
		"odd error":       {&ntsServer{keys: with(recError|recCritical, 0)}, ca.year(), "error -1"},
		"warning":         {&ntsServer{keys: with(recWarning|recCritical, 0, 7)}, ca.year(), "warning 7"},
		"other protocol":  {&ntsServer{keys: with(recProtocol|recCritical, 0x80, 1)}, ca.year(), "no protocol or algorithm"},
		"no protocol":     {&ntsServer{keys: with(recProtocol | recCritical)}, ca.year(), "no protocol or algorithm"},
		"other algorithm": {&ntsServer{keys: with(recAEAD|recCritical, 0, 30)}, ca.year(), "no protocol or algorithm"},
		"algorithm twice": {&ntsServer{keys: with(recAEAD|recCritical, 0, 15)}, ca.year(), "no protocol or algorithm"},
		"unknown, vital":  {&ntsServer{keys: with(0x4000 | recCritical)}, ca.year(), "unknown type 16384"},
		"port 0":          {&ntsServer{keys: with(recPort|recCritical, 0, 0)}, ca.year(), "port"},
		"port of a byte":  {&ntsServer{keys: with(recPort|recCritical, 1)}, ca.year(), "port"},
		"escape codes":    {&ntsServer{keys: with(recServer|recCritical, []byte("\x1b[2J")...)}, ca.year(), "cannot be one"},
		"empty server":    {&ntsServer{keys: with(recServer | recCritical)}, ca.year(), "cannot be one"},
		"server and port": {&ntsServer{keys: with(recServer|recCritical, []byte("127.0.0.1:123")...)}, ca.year(), "cannot be one"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := c.server
			s.now = at(noon)
			s.start(t, c.cert)
			began := time.Now()
			q := queryNTS(ca, s)
			if c.says == "no answer" {
				q.Timeout = 2 * time.Second
			}
			a, err := Ask(t.Context(), q)
			wantError(t, err, NoAnswer, c.says, "NTS key exchange failed")
			if !errors.Is(err, ErrKeyExchange) || a.Authenticated || s.questions() > 0 {
				t.Errorf("%+v, %v", a, err)
			}
			if took := time.Since(began); took > prompt || strings.ContainsRune(err.Error(), 0x1b) {
				t.Errorf("took %s: %q", took, err)
			}
		})
	}
}

func TestWrongName(t *testing.T) {
	ca := newAuthority(t)
	s := (&ntsServer{now: running(noon)}).start(t, ca.year())
	q := queryNTS(ca, s)
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	q.Servers[0].Address = "127.0.0.2:" + port
	l, err := net.Listen("tcp", q.Servers[0].Address) // the same certificate at another address
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := tls.NewListener(l, s.tls).Accept()
		if err == nil {
			s.exchange(c.(*tls.Conn))
			c.Close()
		}
	}()
	_, _, err = ask(t, q)
	wantError(t, err, NoAnswer, "NTS key exchange failed", "127.0.0.2")
}

// TestUnknownRecordsAreIgnored: as RFC 8915, section 4.1.1 wants it.
func TestUnknownRecordsAreIgnored(t *testing.T) {
	ca := newAuthority(t)
	s := (&ntsServer{now: running(noon), keys: func(b []byte) []byte { return append(appendRecord(nil, 0x4001, 1, 2, 3), b...) }}).start(t, ca.year())
	if a, _, err := ask(t, queryNTS(ca, s)); err != nil || !a.Authenticated {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestNamedServer: the key exchange may send us elsewhere, but in local mode
// only as far as the local network.
func TestNamedServer(t *testing.T) {
	ca := newAuthority(t)
	named := func(host string) *ntsServer {
		return (&ntsServer{now: running(noon), keys: func(b []byte) []byte { return append(appendRecord(nil, recServer|recCritical, []byte(host)...), b...) }}).start(t, ca.year())
	}
	for _, local := range []bool{true, false} {
		q := queryNTS(ca, named("127.0.0.1"))
		q.LocalOnly = local
		if a, _, err := ask(t, q); err != nil || !a.Authenticated {
			t.Errorf("local %v: %+v, %v", local, a, err)
		}
	}
	for _, host := range []string{"192.0.2.1", "2001:db8::1", "time.example.com"} {
		q := queryNTS(ca, named(host))
		q.LocalOnly = true
		a, _, err := ask(t, q)
		if !errors.Is(err, ErrNotLocal) {
			t.Errorf("%s: %+v, %v", host, a, err)
		}
	}
}

// forge is what somebody on the path may make of an answer: the lie is a year.
func forge(a ntsAnswer) []byte {
	p := bytes.Clone(a.header)
	put(p[32:], noon.AddDate(1, 0, 0))
	put(p[40:], noon.AddDate(1, 0, 0))
	return p
}

// forgeries are packets that no key of the session made. Each must be passed
// over.
func forgeries() map[string]func(a ntsAnswer) []byte {
	strange, _ := newAESSIV(make([]byte, sivKeySize))
	tail := func(body ...byte) func(ntsAnswer) []byte {
		return func(a ntsAnswer) []byte { return append(appendField(forge(a), extUniqueID, a.id), body...) }
	}
	m := map[string]func(a ntsAnswer) []byte{
		"header alone":           forge,
		"identifier alone":       tail(),
		"stranger's key":         func(a ntsAnswer) []byte { a.s2c = strange; return a.signed(forge(a)) },
		"honest fields, lie":     func(a ntsAnswer) []byte { return append(forge(a), a.packet()[headerLen:]...) },
		"no identifier":          func(a ntsAnswer) []byte { return withoutID(a, forge(a)) },
		"another identifier":     func(a ntsAnswer) []byte { a.id = make([]byte, 32); return a.packet() },
		"short identifier":       func(a ntsAnswer) []byte { a.id = a.id[:28]; return a.packet() },
		"two identifiers":        func(a ntsAnswer) []byte { return a.signed(appendField(bytes.Clone(a.header), extUniqueID, a.id)) },
		"field of 0 bytes":       tail(4, 4, 0, 0),
		"field of 3 bytes":       tail(4, 4, 0, 3),
		"field of 5 bytes":       tail(4, 4, 0, 5, 0),
		"field beyond the end":   tail(4, 4, 255, 252),
		"three bytes":            tail(4, 4, 0),
		"authenticator: empty":   tail(4, 4, 0, 4),
		"authenticator: 0 and 0": tail(4, 4, 0, 8, 0, 0, 0, 0),
		"authenticator: 1 and 0": tail(4, 4, 0, 12, 0, 1, 0, 0, 1, 0, 0, 0),
		"authenticator: 0 and 4": tail(4, 4, 0, 12, 0, 0, 0, 4, 1, 2, 3, 4),
		"authenticator: longest": tail(4, 4, 0, 12, 255, 255, 255, 255, 1, 2, 3, 4),
		"authenticator: 12 in":   tail(append([]byte{4, 4, 0, 44, 0, 12, 0, 24}, make([]byte, 36)...)...),
	}
	for _, n := range []int{0, 1, 4, 16, 33, 43, 47, headerLen, headerLen + 1, headerLen + 3, headerLen + 4, 84, 85, 87, 89, 92, 107, 108, 123, 124, 200} {
		m["bit flipped in byte "+three(n)] = func(a ntsAnswer) []byte {
			p := a.packet()
			p[n] ^= 0x10
			return p
		}
	}
	return m
}

func three(n int) string {
	return string([]byte{byte('0' + n/100), byte('0' + n/10%10), byte('0' + n%10)})
}

// withoutID is signed as it should be, but not tied to the question.
func withoutID(a ntsAnswer, header []byte) []byte {
	nonce := make([]byte, nonceLen)
	return appendAEAD(header, nonce, a.s2c.seal(nil, header, nonce))
}

func TestForgedAnswers(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.year()
	for name, f := range forgeries() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Such packets, and nothing genuine but the end of the wait.
			alone := (&ntsServer{now: running(noon), alter: func(a ntsAnswer) [][]byte { return [][]byte{f(a), f(a), nak(a, a.id)} }}).start(t, cert)
			a, err := Ask(t.Context(), queryNTS(ca, alone))
			wantError(t, err, NoAnswer, "NTS NAK")
			if !errors.Is(err, ErrNotAuthentic) || a.Authenticated {
				t.Errorf("%+v, %v", a, err)
			}
			// The same, and then the genuine one.
			before := (&ntsServer{now: running(noon.Add(time.Hour)), alter: func(a ntsAnswer) [][]byte { return [][]byte{f(a), a.packet()} }}).start(t, cert)
			a, err = Ask(t.Context(), queryNTS(ca, before))
			if err != nil || !a.Authenticated {
				t.Fatalf("the genuine answer after it: %+v, %v", a, err)
			}
			wantOffset(t, a, time.Hour)
		})
	}
}

// TestReplay: yesterday's answer, genuine and signed, answers no new question.
func TestReplay(t *testing.T) {
	ca := newAuthority(t)
	var old []byte
	s := (&ntsServer{now: running(noon), alter: func(a ntsAnswer) [][]byte {
		if a.number == 1 {
			old = a.packet()
			return nil // lost, so that there is a second question
		}
		repeated := bytes.Clone(old)
		copy(repeated[24:32], a.header[24:32]) // even with the right origin
		return [][]byte{old, repeated}
	}}).start(t, ca.year())
	q := queryNTS(ca, s)
	q.Timeout = 3 * time.Second
	a, _, err := ask(t, q)
	if !errors.Is(err, ErrNotAuthentic) || s.questions() != 2 {
		t.Errorf("asked %d times: %+v, %v", s.questions(), a, err)
	}
}

// TestBehindTheAuthenticator: fields there are not covered, and not read.
func TestBehindTheAuthenticator(t *testing.T) {
	ca := newAuthority(t)
	s := (&ntsServer{now: running(noon), alter: func(a ntsAnswer) [][]byte { return [][]byte{append(a.packet(), 1, 2, 3)} }}).start(t, ca.year())
	if a, _, err := ask(t, queryNTS(ca, s)); err != nil || !a.Authenticated {
		t.Errorf("%+v, %v", a, err)
	}
}

// nak is a server's word that it does not know the key.
func nak(a ntsAnswer, id []byte) []byte {
	p := bytes.Clone(a.header)
	p[1] = 0
	copy(p[12:], "NTSN")
	return appendField(p, extUniqueID, id)
}

func TestNAK(t *testing.T) {
	ca := newAuthority(t)
	server := func(id func(a ntsAnswer) []byte) *ntsServer {
		return (&ntsServer{now: running(noon), alter: func(a ntsAnswer) [][]byte { return [][]byte{nak(a, id(a))} }}).start(t, ca.year())
	}
	_, took, err := ask(t, queryNTS(ca, server(func(a ntsAnswer) []byte { return a.id })))
	wantError(t, err, NoAnswer, "NTS NAK")
	if took > prompt {
		t.Errorf("took %s", took)
	}
	q := queryNTS(ca, server(func(ntsAnswer) []byte { return make([]byte, 32) }))
	q.Timeout = 2 * time.Second
	_, _, err = ask(t, q)
	if !errors.Is(err, ErrNotAuthentic) || strings.Contains(err.Error(), "NAK") {
		t.Errorf("a stranger's NAK: %v", err)
	}
}

// TestAuthenticLies: the signature is right, the content is not usable.
func TestAuthenticLies(t *testing.T) {
	ca := newAuthority(t)
	for name, lie := range map[string]func(p []byte){
		"stratum 16":       func(p []byte) { p[1] = 16 },
		"not synchronised": func(p []byte) { p[0] |= 0xc0 },
		"kiss":             func(p []byte) { p[1] = 0; copy(p[12:], "DENY") },
		"held":             func(p []byte) { put(p[32:], noon.Add(-time.Hour)) },
		"no time":          func(p []byte) { clear(p[32:]) },
		"far from root":    func(p []byte) { binary.BigEndian.PutUint32(p[8:], 20<<16) },
	} {
		s := (&ntsServer{now: running(noon), alter: func(a ntsAnswer) [][]byte { lie(a.header); return [][]byte{a.packet()} }}).start(t, ca.year())
		a, took, err := ask(t, queryNTS(ca, s))
		if !errors.Is(err, ErrUnusable) || took > prompt {
			t.Errorf("%s: took %s: %+v, %v", name, took, a, err)
		}
	}
}

// TestAuthenticatedWins: whatever plain servers say, and how ever many.
func TestAuthenticatedWins(t *testing.T) {
	ca := newAuthority(t)
	q := queryNTS(ca, (&ntsServer{now: running(noon.Add(time.Minute))}).start(t, ca.year()), (&ntsServer{now: running(noon.Add(time.Minute))}).start(t, ca.year()))
	for range 3 {
		q.Servers = append(q.Servers, Server{Address: serve(t, noon.AddDate(1, 0, 0), nil).Addr()})
	}
	a, _, err := ask(t, q)
	if err != nil || !a.Authenticated || a.Agreed != 2 || a.Usable != 2 {
		t.Fatalf("%+v, %v", a, err)
	}
	wantOffset(t, a, time.Minute)
}

// TestPatience: NTS is blocked somewhere; plain servers agree at once.
func TestPatience(t *testing.T) {
	ca := newAuthority(t)
	blocked := (&ntsServer{now: running(noon), talk: hang}).start(t, ca.year())
	q := queryNTS(ca, blocked)
	q.Patience = time.Second
	q.Servers = append(q.Servers, Server{Address: serve(t, noon.Add(time.Hour), nil).Addr()})
	a, took, err := ask(t, q)
	if err != nil || a.Authenticated || took < time.Second || took > prompt || !errors.Is(a.Servers[0].Err, ErrNotWaited) {
		t.Fatalf("took %s: %+v, %v", took, a, err)
	}
	wantOffset(t, a, time.Hour)
}

// TestLoneAuthenticated: one of two asked answers; that is no quorum, but a
// forged majority cannot speak against it.
func TestLoneAuthenticated(t *testing.T) {
	ca := newAuthority(t)
	good := (&ntsServer{now: running(noon.Add(time.Minute))}).start(t, ca.year())
	bad := (&ntsServer{now: running(noon), keys: func([]byte) []byte { return nil }}).start(t, ca.year())
	a, _, err := ask(t, queryNTS(ca, good, bad))
	if err != nil || a.Authenticated {
		t.Errorf("alone: %+v, %v", a, err)
	}
	wantOffset(t, a, time.Minute)

	q := queryNTS(ca, good, bad)
	for range 3 {
		q.Servers = append(q.Servers, Server{Address: serve(t, noon.AddDate(1, 0, 0), nil).Addr()})
	}
	_, _, err = ask(t, q)
	wantError(t, err, NoAgreement, "2027-", "2026-11-23 12:0")

	q = queryNTS(ca, good, bad)
	q.Servers = append(q.Servers, Server{Address: serve(t, noon.Add(time.Minute), nil).Addr()})
	a, _, err = ask(t, q)
	if err != nil || a.Authenticated || a.Agreed != 2 {
		t.Errorf("with plain ones that agree: %+v, %v", a, err)
	}
}
