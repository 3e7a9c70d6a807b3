package netup

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

var errKeptMAC = errors.New("its driver keeps its own hardware address, which was not to be shown")

// randomMAC draws a unicast address of the kind that anybody may use (locally
// administered: IEEE 802, section 8.4).
func randomMAC() net.HardwareAddr {
	b := drawn()
	b[0] = b[0]&^1 | 2
	return b[:6]
}

// drawn are bytes that the next boot will not draw again. They wait for the kernel's
// generator to be seeded, for a second at most: what a program draws before may be
// the same at each start of a machine that has no better source than its clock.
func drawn() (b [8]byte) {
	_, _ = rand.Read(b[:]) // which ends the program rather than fail
	return b
}

// newSecret is what a manager derives all else from that is drawn for a boot.
func newSecret() uint64 {
	b := drawn()
	return binary.NativeEndian.Uint64(b[:])
}

// hide gives a link an address of this boot before anything is sent from it, and
// returns it. A link that somebody has set up is set down first: drivers refuse to
// change an address in use. What is not certain to have changed, has not.
func hide(link netlink.Link, set func(netlink.Link, net.HardwareAddr) error) (net.HardwareAddr, error) {
	if err := netlink.LinkSetDown(link); err != nil {
		return nil, fmt.Errorf("setting the link down: %w", err)
	}
	mac := randomMAC()
	if err := set(link, mac); err != nil {
		return nil, fmt.Errorf("%w: %w", errKeptMAC, err)
	}
	now, err := netlink.LinkByIndex(link.Attrs().Index)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(now.Attrs().HardwareAddr, mac) {
		return nil, errKeptMAC
	}
	return mac, nil
}

// is reports whether an entry names this link, by its address in use or by the
// card's own.
func (i Interface) is(attrs *netlink.LinkAttrs) bool {
	return i.matches(attrs.Name, attrs.HardwareAddr.String()) || i.matches(attrs.Name, attrs.PermHWAddr.String())
}
