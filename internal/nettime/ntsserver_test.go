package nettime

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// authority is a certificate authority for one test.
type authority struct {
	t     *testing.T
	key   *ecdsa.PrivateKey
	cert  *x509.Certificate
	roots *x509.CertPool
	above *authority // nil: this is a root
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, roots: x509.NewCertPool()}
	a.key, a.cert = a.make(&x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	})
	a.roots.AddCert(a.cert)
	return a
}

func (a *authority) make(template *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, cert
}

// server makes a certificate for 127.0.0.1 and localhost.
func (a *authority) server(from, until time.Time) tls.Certificate {
	a.t.Helper()
	return a.serverFor(x509.ExtKeyUsageServerAuth, from, until)
}

// serverFor makes one with that use.
func (a *authority) serverFor(use x509.ExtKeyUsage, from, until time.Time) tls.Certificate {
	a.t.Helper()
	key, cert := a.make(&x509.Certificate{
		Subject: pkix.Name{CommonName: "test server"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, NotBefore: from, NotAfter: until,
	})
	c := tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
	if a.above != nil {
		c.Certificate = append(c.Certificate, a.cert.Raw)
	}
	return c
}

// below is an authority that this one vouches for in that time only; servers
// show its certificate behind their own.
func (a *authority) below(from, until time.Time) *authority {
	a.t.Helper()
	b := &authority{t: a.t, roots: a.roots, above: a}
	b.key, b.cert = a.make(&x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority below"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: from, NotAfter: until,
	})
	return b
}

// year is a certificate that holds half a year to both sides of noon.
func (a *authority) year() tls.Certificate {
	return a.server(noon.AddDate(0, -6, 0), noon.AddDate(0, 6, 0))
}

// ntsServer is a whole NTS server in this process, whose every answer a test
// may change.
type ntsServer struct {
	now   func() time.Time
	tls   *tls.Config
	keys  func(honest []byte) []byte      // changes the records of the key exchange; may be nil
	alter func(a ntsAnswer) [][]byte      // changes an answer; may be nil
	talk  func(c *tls.Conn, reply []byte) // sends the records; nil: at once

	address string // of the key exchange
	udp     net.PacketConn

	mu       sync.Mutex
	sessions map[string]*session // by cookie
	asked    int
}

// ntsAnswer is an answer on its way out.
type ntsAnswer struct {
	number int    // from 1
	header []byte // 48 bytes
	id     []byte
	s2c    *aesSIV
}

// packet is the honest answer.
func (a ntsAnswer) packet() []byte { return a.signed(a.header) }

// signed is an answer with another header, signed by the server.
func (a ntsAnswer) signed(header []byte) []byte {
	p := appendField(append([]byte(nil), header...), extUniqueID, a.id)
	nonce := make([]byte, nonceLen)
	_, _ = rand.Read(nonce)
	return appendAEAD(p, nonce, a.s2c.seal(appendField(nil, extCookie, make([]byte, 100)), p, nonce))
}

func (s *ntsServer) start(t *testing.T, cert tls.Certificate) *ntsServer {
	t.Helper()
	s.sessions = make(map[string]*session)
	if s.tls == nil {
		s.tls = &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}}
	}
	s.tls.Certificates = []tls.Certificate{cert}
	l, err := tls.Listen("tcp", "127.0.0.1:0", s.tls)
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	if s.udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); s.exchange(c.(*tls.Conn)) })
		}
	})
	wg.Go(s.answerAll)
	t.Cleanup(func() { l.Close(); s.udp.Close(); wg.Wait() })
	return s
}

// exchange hands out one cookie, which stands for the keys.
func (s *ntsServer) exchange(c *tls.Conn) {
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if c.Handshake() != nil {
		return
	}
	for kind := uint16(1); kind&^recCritical != recEnd; {
		var err error
		if kind, _, err = readRecord(c); err != nil {
			return
		}
	}
	cookie := make([]byte, 100)
	_, _ = rand.Read(cookie)
	se := &session{}
	var err1, err2 error
	se.c2s, err1 = exportKey(c.ConnectionState(), 0)
	se.s2c, err2 = exportKey(c.ConnectionState(), 1)
	if err1 != nil || err2 != nil {
		return
	}
	s.mu.Lock()
	s.sessions[string(cookie)] = se
	s.mu.Unlock()
	reply := s.records(cookie)
	if s.keys != nil {
		reply = s.keys(reply)
	}
	if s.talk != nil {
		s.talk(c, reply)
		return
	}
	_, _ = c.Write(reply)
}

func (s *ntsServer) records(cookie []byte) []byte {
	_, text, _ := net.SplitHostPort(s.udp.LocalAddr().String())
	port, _ := strconv.Atoi(text)
	b := appendRecord(nil, recProtocol|recCritical, 0, protocolNTPv4)
	b = appendRecord(b, recAEAD|recCritical, 0, aeadSIVCMAC256)
	b = appendRecord(b, recPort|recCritical, byte(port>>8), byte(port))
	b = appendRecord(b, recCookie, cookie...)
	return appendRecord(b, recEnd|recCritical)
}

func (s *ntsServer) answerAll() {
	buf := make([]byte, 2048)
	for {
		n, from, err := s.udp.ReadFrom(buf)
		if err != nil {
			return
		}
		for _, p := range s.answer(buf[:n]) {
			_, _ = s.udp.WriteTo(p, from)
		}
	}
}

// answer checks a question as RFC 8915, section 5.7 wants it.
func (s *ntsServer) answer(p []byte) [][]byte {
	f, err := readFields(p)
	if err != nil || len(f.id) != 32 || f.sealed == nil {
		return nil
	}
	cookie := p[headerLen+4+32:]
	cookie = cookie[4:be16(cookie[2:])]
	s.mu.Lock()
	defer s.mu.Unlock()
	se := s.sessions[string(cookie)]
	if se == nil {
		return nil
	}
	if _, err := se.c2s.open(f.sealed, f.covered, f.nonce); err != nil {
		return nil
	}
	s.asked++
	a := ntsAnswer{number: s.asked, header: header(p, s.now()), id: f.id, s2c: se.s2c}
	if s.alter != nil {
		return s.alter(a)
	}
	return [][]byte{a.packet()}
}

// questions is how many genuine ones have come.
func (s *ntsServer) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func header(question []byte, now time.Time) []byte {
	p := make([]byte, headerLen)
	p[0], p[1] = 4<<3|4, 1
	copy(p[24:32], question[40:48])
	put(p[16:], now.Add(-time.Second))
	put(p[32:], now)
	put(p[40:], now)
	return p
}

// at is a clock that stands; running is one that starts there.
func at(t time.Time) func() time.Time { return func() time.Time { return t } }

func running(t time.Time) func() time.Time {
	began := time.Now()
	return func() time.Time { return t.Add(time.Since(began)) }
}

// drip sends one byte at a time, for ever.
func drip(c *tls.Conn, b []byte) {
	for {
		for n := range b {
			if _, err := c.Write(b[n : n+1]); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// flood sends the same for ever.
func flood(b []byte) func(*tls.Conn, []byte) {
	return func(c *tls.Conn, _ []byte) {
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}
}

// hang waits for the other side to go.
func hang(c *tls.Conn, _ []byte) { _, _ = io.Copy(io.Discard, c) }
