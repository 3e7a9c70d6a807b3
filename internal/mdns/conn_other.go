//go:build !linux

package mdns

import (
	"errors"
	"fmt"
	"net/netip"
)

type packet struct {
	data  []byte
	from  netip.AddrPort
	link  link
	alone bool
}

type conn struct {
	packets chan packet
	changed chan struct{}
}

const port5353 = 5353

func open(bool) (*conn, error) {
	return nil, fmt.Errorf("multicast DNS: %w on this operating system", errors.ErrUnsupported)
}

func (c *conn) close()                                  {}
func (c *conn) links() []link                           { return nil }
func (c *conn) multicast(link, []byte) error            { return errors.ErrUnsupported }
func (c *conn) send(link, netip.AddrPort, []byte) error { return errors.ErrUnsupported }
