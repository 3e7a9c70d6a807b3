package nettime

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

var in2040 = time.Date(2040, 2, 29, 12, 0, 0, 0, time.UTC)

// TestCertificateDates: the time that a server gives is what its certificates
// are judged by; the machine's clock decides nothing.
func TestCertificateDates(t *testing.T) {
	ca := newAuthority(t)
	from, until := noon.AddDate(0, -6, 0), noon.AddDate(0, 6, 0)
	cert := ca.server(from, until)
	clocks := []time.Time{{}, time.Unix(0, 0), from.Add(-time.Minute), noon, until.Add(time.Minute), in2040, time.Date(2290, 1, 1, 0, 0, 0, 0, time.UTC)}
	for name, c := range map[string]struct {
		gives, floor time.Time
		kind         error // nil: the answer counts
		says         string
	}{
		"no floor":             {gives: noon},
		"floor before it":      {gives: noon, floor: from.AddDate(-3, 0, 0)},
		"floor in its life":    {gives: noon, floor: noon.Add(-time.Minute)},
		"just begun":           {gives: from.Add(time.Minute)},
		"about to end":         {gives: until.Add(-time.Minute), floor: until.Add(-time.Hour)},
		"before it began":      {gives: from.Add(-time.Minute), kind: ErrDates, says: "expired or is not yet valid"},
		"after its end":        {gives: until.Add(time.Minute), kind: ErrDates, says: "expired or is not yet valid"},
		"years after":          {gives: in2040, kind: ErrDates, says: "expired or is not yet valid"},
		"below the floor":      {gives: noon, floor: noon.Add(time.Minute), kind: ErrDates, says: "2026-11-23T12:01:00Z, which has passed"},
		"ended before floor":   {gives: noon, floor: until.Add(time.Second), kind: ErrKeyExchange, says: "expired or is not yet valid"},
		"right, ended earlier": {gives: in2040, floor: in2040.AddDate(-1, 0, 0), kind: ErrKeyExchange, says: "expired or is not yet valid"},
	} {
		s := (&ntsServer{now: running(c.gives)}).start(t, cert)
		for _, now := range clocks {
			q := queryNTS(ca, s)
			q.Now, q.Floor = at(now), c.floor
			a, _, err := ask(t, q)
			switch {
			case c.kind == nil && (err != nil || !a.Authenticated || a.Now().Sub(s.now()).Abs() > near):
				t.Errorf("%s, clock %s: %+v, %v", name, now, a, err)
			case c.kind != nil:
				wantError(t, err, NoAnswer, c.says)
				if !errors.Is(err, c.kind) || a.Authenticated || errors.Is(c.kind, ErrKeyExchange) && s.questions() > 0 {
					t.Errorf("%s, clock %s: %+v, %v", name, now, a, err)
				}
			}
		}
	}
}

// TestUnverifiedChains: dates may wait for the server's word, nothing else does.
func TestUnverifiedChains(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	from, until := noon.AddDate(0, -6, 0), noon.AddDate(0, 6, 0)
	alone := ca.below(from, until).server(from, until)
	alone.Certificate = alone.Certificate[:1]
	leaf := ca.server(from, until)
	forged := &authority{t: t, key: leaf.PrivateKey.(*ecdsa.PrivateKey), cert: leaf.Leaf, above: ca}
	for name, c := range map[string]struct {
		cert tls.Certificate
		says string
	}{
		"stranger's root":          {other.server(from, until), "unknown authority"},
		"signed by itself":         {(&authority{t: t}).server(from, until), "unknown authority"},
		"signed by a server":       {forged.server(from, until), "cannot sign this kind of certificate"},
		"authority's not shown":    {alone, "unknown authority"},
		"client's":                 {ca.serverFor(x509.ExtKeyUsageClientAuth, from, until), "incompatible key usage"},
		"ended before it began":    {ca.server(until, from), "expired or is not yet valid"},
		"ended before NTP's time":  {ca.server(time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC)), "expired or is not yet valid"},
		"held in the year 1":       {ca.server(time.Time{}, time.Time{}.Add(time.Hour)), "expired or is not yet valid"},
		"authority's never beside": {ca.below(from.AddDate(-2, 0, 0), from.Add(-time.Hour)).server(from, until), "expired or is not yet valid"},
	} {
		s := (&ntsServer{now: running(noon)}).start(t, c.cert)
		for _, now := range []time.Time{time.Unix(0, 0), noon, in2040} {
			q := queryNTS(ca, s)
			q.Now = at(now)
			_, _, err := ask(t, q)
			wantError(t, err, NoAnswer, c.says)
			if !errors.Is(err, ErrKeyExchange) || s.questions() > 0 {
				t.Errorf("%s, clock %s: asked %d times, %v", name, now, s.questions(), err)
			}
		}
	}
}

// TestAuthorityInBetween: every certificate of the chain holds at the time
// given, also where the one in between holds for a part of the server's only.
func TestAuthorityInBetween(t *testing.T) {
	ca := newAuthority(t)
	from, until := noon.AddDate(0, -6, 0), noon.AddDate(0, 6, 0)
	for name, c := range map[string]struct {
		from, until time.Time // of the one in between
		gives       time.Time
		ok          bool
	}{
		"longer":              {from.AddDate(-1, 0, 0), until.AddDate(1, 0, 0), noon, true},
		"ends earlier":        {from.AddDate(-1, 0, 0), noon.AddDate(0, 1, 0), noon, true},
		"began later":         {noon.AddDate(0, -1, 0), until.AddDate(1, 0, 0), noon, true},
		"has ended":           {from.AddDate(-1, 0, 0), noon.AddDate(0, -1, 0), noon, false},
		"is yet to begin":     {noon.AddDate(0, 1, 0), until.AddDate(1, 0, 0), noon, false},
		"longer, server ends": {from.AddDate(-1, 0, 0), until.AddDate(1, 0, 0), until.Add(time.Minute), false},
	} {
		s := (&ntsServer{now: running(c.gives)}).start(t, ca.below(c.from, c.until).server(from, until))
		for _, now := range []time.Time{time.Unix(0, 0), noon, in2040} {
			q := queryNTS(ca, s)
			q.Now = at(now)
			a, _, err := ask(t, q)
			if c.ok && (err != nil || !a.Authenticated) || !c.ok && !errors.Is(err, ErrDates) {
				t.Errorf("%s, clock %s: %+v, %v", name, now, a, err)
			}
		}
	}
}

// TestWrongNameIn2040: a name that is not in the certificate is no matter of
// dates.
func TestWrongNameIn2040(t *testing.T) {
	ca := newAuthority(t)
	s := (&ntsServer{now: running(noon)}).start(t, ca.year())
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{s.tls.Certificates[0].Leaf}}
	for name, ok := range map[string]bool{"127.0.0.1": true, "localhost": true, "127.0.0.2": false, "local": false, "localhost.example": false, "test server": false, "": false} {
		c := &chain{name: name, roots: ca.roots, now: in2040}
		if err := c.show(state); (err == nil) != ok || !ok && c.certs != nil {
			t.Errorf("%q: %v", name, err)
		}
		c.certs = state.PeerCertificates // and if the handshake had not looked
		if err := c.holds(noon); (err == nil) != ok {
			t.Errorf("%q at noon: %v", name, err)
		}
	}
	q := queryNTS(ca, s)
	q.Now, q.Servers[0].Address = at(in2040), "localhost:"+port
	if a, _, err := ask(t, q); err != nil || !a.Authenticated {
		t.Errorf("by another name in it: %+v, %v", a, err)
	}
}

func TestNothingShown(t *testing.T) {
	c := &chain{name: "localhost", roots: x509.NewCertPool(), now: noon}
	if err := c.show(tls.ConnectionState{}); err == nil {
		t.Error("a handshake without a certificate was taken")
	}
	if err := c.holds(noon); !errors.Is(err, ErrDates) || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("no certificates hold: %v", err)
	}
}

// TestStolenKeys: whoever has the key of a certificate that ended after the
// floor can claim a time of its life. Where two servers are asked it takes two.
func TestStolenKeys(t *testing.T) {
	ca := newAuthority(t)
	past := noon.AddDate(-1, 0, 0)
	old := ca.server(past.AddDate(0, -1, 0), past.AddDate(0, 1, 0))
	thief := func() *ntsServer { return (&ntsServer{now: running(past)}).start(t, old) }
	honest := (&ntsServer{now: running(noon)}).start(t, ca.year())
	mute := (&ntsServer{now: running(noon), keys: func([]byte) []byte { return nil }}).start(t, ca.year())
	floor := past.AddDate(0, -1, 0)
	query := func(servers ...*ntsServer) Query {
		q := queryNTS(ca, servers...)
		q.Floor = floor
		return q
	}
	_, _, err := ask(t, query(thief(), honest))
	wantError(t, err, NoAgreement, "2025-11-23", "2026-11-23")
	a, _, err := ask(t, query(thief(), mute))
	if err != nil || a.Authenticated {
		t.Errorf("one, the other suppressed: %+v, %v", a, err)
	}
	a, _, err = ask(t, query(thief(), thief()))
	if err != nil || !a.Authenticated {
		t.Errorf("two: what the package comment admits is not so: %+v, %v", a, err)
	}
	floor = past.AddDate(0, 2, 0)
	_, _, err = ask(t, query(thief(), thief()))
	wantError(t, err, NoAnswer, "expired or is not yet valid")
}
