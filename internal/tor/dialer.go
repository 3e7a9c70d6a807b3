package tor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/net/proxy"
)

// dialTime bounds one connection through Tor: it may have to make a circuit first,
// and tries another when one fails.
const dialTime = 45 * time.Second

// MinRate is the least average speed that a source through Tor must have, in bytes
// per second: its relays belong to volunteers.
const MinRate = 4 << 10

// A Dialer connects through Tor and in no other way. Its methods may be called at
// the same time.
type Dialer struct {
	network, address string
	stream           string
}

// NewDialer makes a dialer by way of the Tor whose SOCKS socket is there:
// "unix:<absolute path>", or the address and port of this machine's loopback. Names
// are none, for they would have to be looked up.
//
// Dialers whose stream differs never share a circuit, so that what they do cannot
// be put together by the same exit. stream is 1 to 255 bytes that Tor alone sees.
func NewDialer(socks, stream string) (*Dialer, error) {
	if stream == "" || len(stream) > 255 {
		return nil, fmt.Errorf("a stream's name has 1 to 255 bytes, not %d", len(stream))
	}
	if path, ok := strings.CutPrefix(socks, "unix:"); ok {
		if !filepath.IsAbs(path) || len(path) > maxSocket {
			return nil, fmt.Errorf("%.120q is no socket's absolute path", path)
		}
		return &Dialer{"unix", path, stream}, nil
	}
	at, err := netip.ParseAddrPort(socks)
	if err != nil || !at.Addr().IsLoopback() || at.Port() == 0 {
		return nil, fmt.Errorf("%.120q is no SOCKS socket of this machine: use unix:/path, or 127.0.0.1:port", socks)
	}
	return &Dialer{"tcp", at.String(), stream}, nil
}

// DialContext connects to host:port over TCP. A host that is a name is looked up by
// Tor's exit. Errors are *Error: NotRunning where Tor does not answer, NotThrough
// where it says no, NotTCP for anything that is no TCP.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return nil, &Error{Reason: NotTCP, Detail: network}
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	socks, err := proxy.SOCKS5(d.network, d.address, &proxy.Auth{User: d.stream, Password: "-"}, toTor{})
	if err != nil {
		return nil, &Error{Reason: NotThrough, Err: err}
	}
	through, ok := socks.(proxy.ContextDialer)
	if !ok {
		return nil, &Error{Reason: NotThrough, Detail: "the SOCKS library cannot be interrupted"}
	}
	c, err := through.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, told(address, err)
	}
	return &conn{c, remote(address)}, nil
}

// toTor connects to Tor's socket.
type toTor struct{}

// errNobody is of a socket that nobody answers.
var errNobody = errors.New("no connection to its socket")

func (toTor) Dial(network, address string) (net.Conn, error) {
	return toTor{}.DialContext(context.Background(), network, address)
}

func (toTor) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNobody, err)
	}
	return c, nil
}

// told puts an error of the SOCKS library into words.
func told(address string, err error) error {
	if errors.Is(err, errNobody) {
		return &Error{Reason: NotRunning}
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err // the rest names the socket
	}
	text := strings.TrimPrefix(err.Error(), "unknown error ")
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return &Error{Reason: NotThrough, Detail: "to " + Show(address), Err: err}
	}
	return &Error{Reason: NotThrough, Detail: "to " + Show(address) + ": " + Show(text)}
}

// conn is a connection whose other end is where it leads to, not Tor.
type conn struct {
	net.Conn
	to net.Addr
}

// RemoteAddr is the destination that was asked for.
func (c *conn) RemoteAddr() net.Addr { return c.to }

// remote is a *net.TCPAddr where the address is one, else its text.
func remote(address string) net.Addr {
	if at, err := netip.ParseAddrPort(address); err == nil {
		return net.TCPAddrFromAddrPort(at)
	}
	return named(address)
}

// named is the address of a host that this machine knows by name alone.
type named string

func (named) Network() string  { return "tcp" }
func (n named) String() string { return string(n) }
