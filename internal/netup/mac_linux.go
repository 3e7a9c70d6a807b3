package netup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"

	"github.com/vishvananda/netlink"
)

var errKeptMAC = errors.New("its driver keeps its own hardware address, which was not to be shown")

// randomMAC draws a unicast address of the kind that anybody may use (locally
// administered: IEEE 802, section 8.4).
func randomMAC() net.HardwareAddr {
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], rand.Uint64())
	b[0] = b[0]&^1 | 2
	return b[:6]
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
