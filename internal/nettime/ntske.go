package nettime

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// Key exchange, RFC 8915, section 4.
const (
	alpn          = "ntske/1"
	exporterLabel = "EXPORTER-network-time-security"

	protocolNTPv4  = 0
	aeadSIVCMAC256 = 15

	recEnd      = 0
	recProtocol = 1
	recError    = 2
	recWarning  = 3
	recAEAD     = 4
	recCookie   = 5
	recServer   = 6
	recPort     = 7
	recCritical = 0x8000
	maxRecord   = 1024     // bytes of one record's body
	maxKeys     = 64 << 10 // bytes from the server, its certificates included
	maxCookies  = 8        // as many as a server sends
)

// session is what a key exchange gave: keys that only the server can know as
// well, wrapped for it in cookies.
type session struct {
	server   string // host:port of the NTP server
	chain    *chain // the certificates that vouch for the keys, if they hold
	cookies  [][]byte
	c2s, s2c *aesSIV
}

// exchangeKeys runs the key exchange with a server whose certificates verify.
// Whether they hold now is not known before the server has said what time it
// is: see session.chain.
func (a *asking) exchangeKeys(ctx context.Context, t target) (*session, error) {
	tcp, err := a.dial(ctx, "tcp", t.hostPort())
	if err != nil {
		return nil, err
	}
	shown := &chain{
		name: strings.TrimSuffix(t.host, "."), roots: a.query.Roots, floor: a.query.Floor, now: a.clock.zero,
	}
	c := tls.Client(&limited{Conn: tcp, left: maxKeys}, shown.config())
	defer c.Close()
	s, err := a.agree(ctx, c)
	switch {
	case err == nil:
		s.chain = shown
		return s, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %w", ErrKeyExchange, ErrNoAnswer)
	case errors.Is(err, ErrNotLocal):
		return nil, err
	}
	return nil, fmt.Errorf("%w: %w", ErrKeyExchange, err)
}

func (a *asking) agree(ctx context.Context, c *tls.Conn) (*session, error) {
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	state := c.ConnectionState()
	if state.NegotiatedProtocol != alpn {
		return nil, errors.New("the server does not speak the protocol")
	}
	if _, err := c.Write(keyRequest()); err != nil {
		return nil, err
	}
	g, err := readGrant(bufio.NewReader(c))
	if err != nil {
		return nil, err
	}
	s := &session{cookies: g.cookies}
	if s.server, err = a.ntpServer(c.RemoteAddr(), g); err != nil {
		return nil, err
	}
	if s.c2s, err = exportKey(state, 0); err != nil {
		return nil, err
	}
	s.s2c, err = exportKey(state, 1)
	return s, err
}

// ntpServer is where the time is to be asked: the server that exchanged the
// keys, unless it named another.
func (a *asking) ntpServer(from net.Addr, g grant) (string, error) {
	host, _, err := net.SplitHostPort(from.String())
	if err != nil {
		return "", err
	}
	if g.server != "" {
		if host = g.server; a.query.LocalOnly && !localHost(host) {
			return "", ErrNotLocal
		}
	}
	return net.JoinHostPort(host, g.port), nil
}

// exportKey derives a key from the TLS session, RFC 8915, section 5.1;
// direction is 0 for what the client sends.
func exportKey(state tls.ConnectionState, direction byte) (*aesSIV, error) {
	key, err := state.ExportKeyingMaterial(exporterLabel, []byte{0, protocolNTPv4, 0, aeadSIVCMAC256, direction}, sivKeySize)
	if err != nil {
		return nil, err
	}
	return newAESSIV(key)
}

func keyRequest() []byte {
	b := appendRecord(nil, recProtocol|recCritical, 0, protocolNTPv4)
	b = appendRecord(b, recAEAD|recCritical, 0, aeadSIVCMAC256)
	return appendRecord(b, recEnd|recCritical)
}

func appendRecord(b []byte, kind uint16, body ...byte) []byte {
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// grant is the server's answer, checked.
type grant struct {
	protocol, aead bool
	server         string // "" if not named
	port           string
	cookies        [][]byte
}

// readGrant reads records up to the last. What the request did not offer is
// refused, and so is a critical record that is not known.
func readGrant(r io.Reader) (grant, error) {
	g := grant{port: portNTP}
	for {
		kind, body, err := readRecord(r)
		if err != nil {
			return grant{}, err
		}
		if kind&^recCritical == recEnd {
			break
		}
		if err := g.take(kind, body); err != nil {
			return grant{}, err
		}
	}
	if !g.protocol || !g.aead || len(g.cookies) == 0 {
		return grant{}, errors.New("the server's answer lacks the protocol, the algorithm or a cookie")
	}
	return g, nil
}

func readRecord(r io.Reader) (kind uint16, body []byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, fmt.Errorf("the server's answer ended early: %w", err)
	}
	n := be16(head[2:])
	if n > maxRecord {
		return 0, nil, fmt.Errorf("a record of %d bytes", n)
	}
	body = make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, fmt.Errorf("the server's answer ended early: %w", err)
	}
	return binary.BigEndian.Uint16(head[:2]), body, nil
}

// take takes in one record.
func (g *grant) take(kind uint16, body []byte) error {
	number := -1
	if len(body) == 2 {
		number = be16(body)
	}
	switch k := kind &^ recCritical; {
	case k == recProtocol && number == protocolNTPv4 && !g.protocol:
		g.protocol = true
	case k == recAEAD && number == aeadSIVCMAC256 && !g.aead:
		g.aead = true
	case k == recProtocol || k == recAEAD:
		return errors.New("the server offers no protocol or algorithm that was asked for")
	case k == recError:
		return fmt.Errorf("the server reports error %d", number)
	case k == recWarning:
		return fmt.Errorf("the server reports warning %d", number)
	case k == recCookie && len(body) == 0:
		return errors.New("an empty cookie")
	case k == recCookie:
		if len(g.cookies) < maxCookies {
			g.cookies = append(g.cookies, body)
		}
	case k == recServer:
		if g.server = string(body); !isHost(g.server) {
			return errors.New("the server names an NTP server that cannot be one")
		}
	case k == recPort:
		if g.port = strconv.Itoa(number); number < 1 {
			return errors.New("the server names a port that cannot be one")
		}
	case kind&recCritical != 0:
		return fmt.Errorf("a critical record of unknown type %d", k)
	}
	return nil
}

// errTooMuch: a peer sent more than its protocol needs.
var errTooMuch = errors.New("too much data")

// limited is a connection from which only so many bytes are read.
type limited struct {
	net.Conn
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooMuch
	}
	n, err := l.Conn.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}
