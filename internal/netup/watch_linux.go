package netup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// watch follows the kernel's news of links, addresses and routers until ctx ends or
// the kernel ends the subscription. It begins with a list of all links.
func (m *Manager) watch(ctx context.Context) error {
	done := make(chan struct{})
	defer close(done)
	var failure lastError
	links := make(chan netlink.LinkUpdate, 16)
	if err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{ListExisting: true, ErrorCallback: failure.set}); err != nil {
		return &stepError{NoSocket, "link events", err}
	}
	defer drain(links)
	addrs := make(chan netlink.AddrUpdate, 16)
	if err := netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{ErrorCallback: failure.set}); err != nil {
		return &stepError{NoSocket, "address events", err}
	}
	defer drain(addrs)
	adverts, err := subscribeRA(done, failure.set)
	if err != nil {
		return &stepError{NoSocket, "router events", err}
	}
	defer drain(adverts)
	if err := m.forgetGone(); err != nil {
		return err
	}
	for {
		select {
		case u, ok := <-links:
			if !ok {
				return failure.get()
			}
			m.onLink(ctx, u)
		case u, ok := <-addrs:
			if !ok {
				return failure.get()
			}
			m.onAddress(u)
		case u, ok := <-adverts:
			if !ok {
				return failure.get()
			}
			m.onRA(u)
		case <-ctx.Done():
			return nil
		}
	}
}

// drain lets the sender of ch notice that its subscription has ended; it
// would otherwise block on a full channel for ever.
func drain[T any](ch <-chan T) {
	go func() {
		for range ch {
		}
	}()
}

// lastError keeps the newest error of a callback.
type lastError struct {
	mu  sync.Mutex
	err error
}

func (l *lastError) set(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *lastError) get() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// onLink takes in one link's news: new, changed or gone.
func (m *Manager) onLink(ctx context.Context, u netlink.LinkUpdate) {
	attrs := u.Link.Attrs()
	i := m.iface(attrs.Index)
	if u.Header.Type == unix.RTM_DELLINK {
		if i != nil {
			m.remove(i)
		}
		return
	}
	if i == nil {
		if i = m.adopt(u.Link); i == nil {
			return
		}
	}
	if !bytes.Equal(attrs.HardwareAddr, i.mac) {
		attrs = m.follow(ctx, i, attrs)
	}
	up := attrs.RawFlags&unix.IFF_UP != 0
	// LOWER_UP is the driver's own word. RUNNING says the same, up to a second
	// later; on Wi-Fi it says that the keys are there as well.
	carrier := up && attrs.RawFlags&unix.IFF_LOWER_UP != 0
	if i.link.Wireless {
		carrier = carrier && attrs.RawFlags&unix.IFF_RUNNING != 0
	}
	m.setCarrier(ctx, i, attrs.Name, up, carrier)
}

// follow takes up an address that somebody else gave a card, and returns how the
// link is now. News of the time before our own change are old.
func (m *Manager) follow(ctx context.Context, i *iface, attrs *netlink.LinkAttrs) *netlink.LinkAttrs {
	link, err := netlink.LinkByIndex(i.index)
	if err != nil {
		return attrs // it is gone, and that will be said
	}
	attrs = link.Attrs()
	switch {
	case len(attrs.HardwareAddr) != 6 || bytes.Equal(attrs.HardwareAddr, i.mac):
	case i.shows(attrs):
		if !i.unused || attrs.RawFlags&unix.IFF_UP != 0 {
			i.conceal(link)
		}
		if link, err = netlink.LinkByIndex(i.index); err == nil {
			attrs = link.Attrs()
		}
	default:
		m.setCarrier(ctx, i, attrs.Name, attrs.RawFlags&unix.IFF_UP != 0, false)
		m.update(func() { i.mac, i.link.MAC = attrs.HardwareAddr, attrs.HardwareAddr.String() })
	}
	return attrs
}

// adopt starts to care for a link, if it is one we configure, and sets it
// up. Tunnels, bridges and the like belong to whoever made them.
func (m *Manager) adopt(link netlink.Link) *iface {
	attrs := link.Attrs()
	if attrs.Flags&net.FlagLoopback != 0 || len(attrs.HardwareAddr) != 6 || attrs.MasterIndex != 0 {
		return nil
	}
	i := &iface{m: m, index: attrs.Index, mac: attrs.HardwareAddr}
	i.link = Link{Name: attrs.Name, MAC: attrs.HardwareAddr.String(), Wireless: isWireless(os.DirFS("/sys"), attrs.Name)}
	card := false
	switch link.Type() {
	case "device", "veth":
		card = true
		i.cfg, i.vlans = m.exception(attrs), m.vlansOf(attrs)
	case "vlan":
		if i.cfg = m.vlan(attrs.Index); i.cfg == nil {
			return nil
		}
		i.link.VLAN = i.cfg.VLAN
	default:
		return nil
	}
	if i.cfg != nil && i.cfg.Off {
		return nil
	}
	if !m.admit(i) {
		m.tooMany(attrs.Name)
		return nil
	}
	if !card || !m.cfg.RandomMAC || i.hide(link) {
		i.setUp(link)
	}
	return i
}

// admit makes an interface one of those that are worked on, if there is room.
func (m *Manager) admit(i *iface) (ok bool) {
	m.update(func() {
		if ok = len(m.links) < maxLinks; ok {
			m.links[i.index] = i
		}
	})
	return ok
}

// setUp sets the link up, with the kernel's settings that we need.
func (i *iface) setUp(link netlink.Link) {
	i.emit(Found, 0, nil)
	if err := prepare(link.Attrs().Name); err != nil {
		i.emit(Failed, 0, &stepError{NotConfigured, "the kernel's settings", err})
	}
	if err := netlink.LinkSetUp(link); err != nil {
		i.fail("link", &stepError{NotConfigured, "setting the link up", err})
	}
	i.readEarlier()
	i.makeVLANs()
}

// shows reports whether a card that was to be hidden has its own address again, as
// some have when their driver resets them.
func (i *iface) shows(attrs *netlink.LinkAttrs) bool {
	return i.own != nil && (bytes.Equal(attrs.HardwareAddr, i.own) || bytes.Equal(attrs.HardwareAddr, attrs.PermHWAddr))
}

// conceal takes such a card out of use for good; again, if somebody sets it up.
func (i *iface) conceal(link netlink.Link) {
	i.stop() // workers read what follows
	err := netlink.LinkSetDown(link)
	i.m.update(func() { i.unused = true })
	i.fail("hardware address", &stepError{KeptMAC, "not used any more", errors.Join(errKeptMAC, err)})
}

// tooMany says once that a link is not used because there are others.
func (m *Manager) tooMany(name string) {
	if m.crowded {
		return
	}
	m.crowded = true
	m.emit(Event{State: Failed, Err: fmt.Errorf("%s and what comes after it is not used: there are %d interfaces", name, maxLinks)})
}

// forgetGone removes links that went while nobody listened.
func (m *Manager) forgetGone() error {
	list, err := netlink.LinkList()
	if err != nil {
		return &stepError{NoSocket, "listing links", err}
	}
	m.mu.Lock()
	all := m.sorted()
	m.mu.Unlock()
	for _, i := range all {
		if !slices.ContainsFunc(list, func(l netlink.Link) bool { return l.Attrs().Index == i.index }) {
			m.remove(i)
		}
	}
	return nil
}

// hide gives a card its address of this boot, and reports whether it may be used.
func (i *iface) hide(link netlink.Link) bool {
	i.own = link.Attrs().HardwareAddr
	mac, err := hide(link, i.m.setMAC)
	i.m.update(func() {
		if i.unused = err != nil; !i.unused {
			i.mac, i.link.MAC = mac, mac.String()
		}
	})
	if i.unused {
		i.fail("hardware address", &stepError{KeptMAC, "not used", err})
	}
	return !i.unused
}

// readEarlier takes in what came before our subscription, if somebody else has
// set the link up.
func (i *iface) readEarlier() {
	i.readIPv6()
	flags, err := inet6Flags(i.index)
	if err != nil {
		return // no IPv6
	}
	i.m.onRA(raUpdate{index: i.index, flags: flags, route: true})
}

// vlan returns the configuration that a link was made for; nil: not by us.
func (m *Manager) vlan(index int) *Interface {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.vlans[index]
}

// exception returns the configuration that names this link without a VLAN.
func (m *Manager) exception(attrs *netlink.LinkAttrs) *Interface {
	for n := range m.cfg.Interfaces {
		if c := &m.cfg.Interfaces[n]; c.VLAN == 0 && c.is(attrs) {
			return c
		}
	}
	return nil
}

// claimAnonymous gives the first configuration that names no interface to
// i, unless another interface has it, and reports whether that is a VLAN, which
// is to be made. Several VLANs go to the same interface.
func (m *Manager) claimAnonymous(i *iface) (vlan bool) {
	for n := range m.cfg.Interfaces {
		c := &m.cfg.Interfaces[n]
		switch {
		case c.named() || m.taken(c):
		case c.VLAN > 0:
			i.vlans, vlan = append(i.vlans, c), true
		case !vlan:
			i.cfg = c
			return false
		}
	}
	return vlan
}

func (m *Manager) taken(c *Interface) bool {
	for _, i := range m.links {
		if i.cfg == c || slices.Contains(i.vlans, c) {
			return true
		}
	}
	return false
}

func (m *Manager) iface(index int) *iface {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.links[index]
}

// setCarrier starts the work on an interface whose carrier came and stops
// it where the carrier went. Addresses stay through a short unplugging.
func (m *Manager) setCarrier(ctx context.Context, i *iface, name string, up, carrier bool) {
	var was, known, vlan bool
	m.update(func() {
		was, known = i.link.Carrier, i.seenUp
		i.link.Name, i.link.Carrier = name, carrier
		i.seenUp = i.seenUp || up
		if carrier && !was {
			i.since, i.tries, i.fallback = time.Now(), 0, false
		}
		if carrier && i.cfg == nil && len(i.vlans) == 0 {
			vlan = m.claimAnonymous(i)
		}
	})
	if vlan {
		i.makeVLANs()
	}
	switch {
	case carrier && !was:
		i.emit(Carrier, 0, nil)
		i.start(ctx)
	case !carrier && (was || up && !known):
		i.stop()
		i.emit(NoCarrier, 0, nil)
	}
}

// remove forgets a link that is gone from the kernel.
func (m *Manager) remove(i *iface) {
	i.stop()
	m.update(func() { delete(m.links, i.index); delete(m.vlans, i.index) })
	i.emit(Gone, 0, nil)
}

func (m *Manager) stopWorkers() {
	m.mu.Lock()
	all := m.sorted()
	m.mu.Unlock()
	for _, i := range all {
		i.stop()
	}
}

// onAddress keeps the list of the usable IPv6 addresses.
func (m *Manager) onAddress(u netlink.AddrUpdate) {
	if i := m.iface(u.LinkIndex); i != nil && u.LinkAddress.IP.To4() == nil {
		i.readIPv6()
	}
}

func setLoopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return &stepError{NoSocket, "loopback", err}
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return &stepError{NotConfigured, "loopback", err}
	}
	return nil
}

// setLinkDown ignores a link that has gone.
func setLinkDown(index int) error {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return nil
	}
	if err := netlink.LinkSetDown(link); err != nil {
		return &stepError{NotConfigured, link.Attrs().Name + ": setting the link down", err}
	}
	return nil
}
