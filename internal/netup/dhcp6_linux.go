package netup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// errDuplicate6 is an address that the server gave to two machines.
var errDuplicate6 = errors.New("another machine has the IPv6 address that the DHCPv6 server gave")

// dhcp6 asks by DHCPv6 (RFC 8415) what the routers say it knows, until ctx ends:
// addresses (M), or name servers only (O).
func (i *iface) dhcp6(ctx context.Context) {
	for {
		var managed bool
		if !i.m.until(ctx, time.Time{}, func() bool {
			managed = i.v6.managed
			return managed || i.v6.other
		}) {
			return
		}
		if managed {
			if l, began, err := i.solicit(ctx); err == nil {
				i.hold6(ctx, l, began)
			}
		} else {
			i.inform(ctx)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// inform asks for name servers until it has them, and again when they are to be
// refreshed, or when the routers begin to speak of addresses.
func (i *iface) inform(ctx context.Context) {
	x := newExchange6(i)
	for try := 1; ; try++ {
		window := time.Now().Add(backoff(try + 1))
		l, err := x.information(ctx, time.Until(window))
		if err == nil {
			i.take6(l)
			window = time.Now().Add(l.refresh)
		}
		if i.m.until(ctx, window, func() bool { return i.v6.managed }) || ctx.Err() != nil || err == nil {
			return
		}
	}
}

// solicit asks for an address until it has one or ctx ends; its only error is
// that of ctx. While there is none it asks for name servers.
func (i *iface) solicit(ctx context.Context) (lease6, time.Time, error) {
	x := newExchange6(i)
	for try := 1; ctx.Err() == nil; try++ {
		i.emit(Asking6, try, nil)
		began, window := time.Now(), time.Now().Add(backoff(try+1))
		l, err := x.lease(ctx, time.Until(window))
		if err == nil {
			return l, began, nil
		}
		if ctx.Err() != nil {
			break
		}
		if !errors.Is(err, errNoAnswer) {
			i.emit(Failed, 0, err)
		}
		if l, err := x.information(ctx, time.Second); err == nil {
			i.take6(l)
		}
		if !pause(ctx, time.Until(window)) {
			break
		}
	}
	return lease6{}, time.Time{}, ctx.Err()
}

// hold6 uses an address and renews it until it is lost or ctx ends.
func (i *iface) hold6(ctx context.Context, l lease6, began time.Time) {
	for {
		if err := i.bind6(l); err != nil {
			i.emit(Failed, 0, &stepError{NotConfigured, "DHCPv6", err})
			pause(ctx, longWait) // then ask again: the cause may pass
			return
		}
		next, took, err := i.renew6(ctx, l, began)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			i.take6(lease6{})
			_ = i.bind6(lease6{}) // nothing can be missed where nothing is set
			i.emit(Failed, 0, err)
			if errors.Is(err, errDuplicate6) {
				pause(ctx, longWait) // a server may know no other address
			}
			return
		}
		l, began = next, took
		i.emit(Renewed, 0, nil)
	}
}

// renew6 waits for T1 and then asks the server, from T2 on any server, for more
// time (RFC 8415, section 18.2.4 and 5). It fails when it is refused, the lease
// ends, or another machine has the address.
func (i *iface) renew6(ctx context.Context, l lease6, began time.Time) (lease6, time.Time, error) {
	duplicate := func() bool { return i.v6.duplicate }
	x := newExchange6(i)
	for next := began.Add(l.t1); ; {
		if l.t1 == 0 {
			next = time.Time{} // it holds for ever
		}
		if i.m.until(ctx, next, duplicate) {
			x.decline(l)
			return lease6{}, began, &stepError{RefusedByDHCP, "DHCPv6", errDuplicate6}
		}
		now := time.Now()
		t2, end := began.Add(l.t2), began.Add(l.length)
		switch {
		case ctx.Err() != nil:
			return lease6{}, began, ctx.Err()
		case l.length > 0 && !now.Before(end):
			return lease6{}, began, fmt.Errorf("the IPv6 lease of %s ran out and was not renewed", l.length)
		}
		kind, limit := dhcpv6.MessageTypeRenew, t2
		if !now.Before(t2) {
			kind, limit = dhcpv6.MessageTypeRebind, end
		}
		got, err := x.extend(ctx, kind, l, min(5*time.Second, max(time.Until(limit), 100*time.Millisecond)))
		if err == nil || ctx.Err() != nil || !errors.Is(err, errNoAnswer) {
			return got, now, err
		}
		next = nextRenewal(time.Now(), limit)
	}
}

// take6 notes what a reply says besides addresses.
func (i *iface) take6(l lease6) {
	i.m.update(func() { i.v6.lease = l })
	i.settleIPv6()
}

// bind6 sets the addresses of a lease, takes back earlier ones, and notes the
// rest. An address is used when the kernel has said that it is.
func (i *iface) bind6(l lease6) error {
	link, err := netlink.LinkByIndex(i.index)
	if err != nil {
		return err
	}
	var wanted []netip.Addr
	for _, a := range l.addresses {
		wanted = append(wanted, a.address)
	}
	i.m.mu.Lock()
	old := slices.Clone(i.v6.applied)
	i.m.mu.Unlock()
	i.m.update(func() { i.v6.applied, i.v6.settled, i.v6.duplicate = wanted, false, false })
	errs := []error{remove6(link, slices.DeleteFunc(old, func(a netip.Addr) bool { return slices.Contains(wanted, a) }))}
	for _, a := range l.addresses {
		errs = append(errs, setAddress6(link, a))
	}
	err = errors.Join(errs...)
	i.m.update(func() { i.v6.settled = err == nil })
	i.take6(l)
	i.readIPv6()
	return err
}

// setAddress6 sets an address with its lifetimes, so that the kernel takes it
// back in time if we should die. It is used at once where the kernel allows
// addresses that are still being probed.
func setAddress6(link netlink.Link, l leased6) error {
	a := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(l.address, 128)), Flags: unix.IFA_F_OPTIMISTIC}
	if l.valid != forever {
		a.ValidLft, a.PreferedLft = int(l.valid/time.Second)+1, int(min(l.preferred, l.valid)/time.Second)+1
	}
	err := netlink.AddrReplace(link, a)
	if errors.Is(err, unix.EINVAL) { // no optimistic addresses here
		a.Flags = 0
		err = netlink.AddrReplace(link, a)
	}
	if err != nil {
		return fmt.Errorf("address %s: %w", l.address, err)
	}
	return nil
}

// remove6 removes addresses; one that is already gone is no failure.
func remove6(link netlink.Link, addresses []netip.Addr) error {
	var errs []error
	for _, a := range addresses {
		err := netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, 128))})
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = append(errs, fmt.Errorf("removing address %s: %w", a, err))
		}
	}
	return errors.Join(errs...)
}

// exchange6 is the state of one attempt to get or keep a lease.
type exchange6 struct {
	i     *iface
	began time.Time // for the elapsed time option
	duid  dhcpv6.DUID
	iaid  [4]byte
}

// newExchange6 names the client. The name is made of the hardware address, which
// everybody on the link sees anyway, so that the next kernel gets the same lease;
// in private mode it is another one at every boot.
func newExchange6(i *iface) exchange6 {
	x := exchange6{i: i, began: time.Now(), duid: &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: i.mac}}
	copy(x.iaid[:], i.mac[2:])
	if i.m.cfg.Private {
		drawn := rand.New(rand.NewPCG(i.m.secret, 8415))
		id := dhcpv6.DUIDUUID{}
		binary.BigEndian.PutUint64(id.UUID[:8], drawn.Uint64())
		binary.BigEndian.PutUint64(id.UUID[8:], drawn.Uint64())
		x.duid = &id
		binary.BigEndian.PutUint32(x.iaid[:], uint32(i.index))
	}
	return x
}

// lease runs SOLICIT, ADVERTISE, REQUEST, REPLY once, or SOLICIT and REPLY with
// a server that is quick (rapid commit).
func (x exchange6) lease(ctx context.Context, wait time.Duration) (lease6, error) {
	solicit := x.message(dhcpv6.MessageTypeSolicit)
	solicit.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
	solicit.AddOption(&dhcpv6.OptIANA{IaId: x.iaid})
	offer, quick, err := x.ask(ctx, solicit, wait, dhcpv6.MessageTypeAdvertise, dhcpv6.MessageTypeReply)
	if err == nil && len(offer.addresses) == 0 {
		err = &stepError{RefusedByDHCP, "DHCPv6", errNoAddress6}
	}
	if err != nil || quick {
		return offer, err
	}
	for wait := time.Second; ; wait *= 2 {
		l, err := x.extend(ctx, dhcpv6.MessageTypeRequest, offer, wait)
		if errors.Is(err, errNoAnswer) && wait < 4*time.Second {
			continue
		}
		return l, err
	}
}

// extend asks for the addresses of a lease, or to keep them. Only a REBIND is for
// any server.
func (x exchange6) extend(ctx context.Context, kind dhcpv6.MessageType, l lease6, wait time.Duration) (lease6, error) {
	got, _, err := x.ask(ctx, x.about(kind, l), wait, dhcpv6.MessageTypeReply)
	if err == nil && len(got.addresses) == 0 {
		err = &stepError{RefusedByDHCP, "DHCPv6", errNoAddress6}
	}
	return got, err
}

// decline tells the server that its addresses are in use. Nobody waits for its
// answer: the next SOLICIT comes anyway.
func (x exchange6) decline(l lease6) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _, _ = x.ask(ctx, x.about(dhcpv6.MessageTypeDecline, l), time.Second, dhcpv6.MessageTypeReply)
}

// about builds a message on the addresses of a lease.
func (x exchange6) about(kind dhcpv6.MessageType, l lease6) *dhcpv6.Message {
	m := x.message(kind)
	ia := &dhcpv6.OptIANA{IaId: x.iaid}
	for _, a := range l.addresses {
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: a.address.AsSlice()})
	}
	m.AddOption(ia)
	if id, err := dhcpv6.DUIDFromBytes(l.server); err == nil && kind != dhcpv6.MessageTypeRebind {
		m.AddOption(dhcpv6.OptServerID(id))
	}
	return m
}

// information asks for everything but addresses.
func (x exchange6) information(ctx context.Context, wait time.Duration) (lease6, error) {
	l, _, err := x.ask(ctx, x.message(dhcpv6.MessageTypeInformationRequest), wait, dhcpv6.MessageTypeReply)
	l.addresses = nil
	return l, err
}

func (x exchange6) message(kind dhcpv6.MessageType) *dhcpv6.Message {
	xid := newXID()
	m := &dhcpv6.Message{MessageType: kind, TransactionID: dhcpv6.TransactionID(xid[:3])}
	m.AddOption(dhcpv6.OptClientID(x.duid))
	m.AddOption(dhcpv6.OptElapsedTime(min(time.Since(x.began), 0xffff*10*time.Millisecond)))
	m.AddOption(dhcpv6.OptRequestedOption(dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList,
		dhcpv6.OptionNTPServer, dhcpv6.OptionSNTPServerList, dhcpv6.OptionInformationRefreshTime, dhcpv6.OptionCaptivePortal))
	return m
}

// allServers is All_DHCP_Relay_Agents_and_Servers (RFC 8415, section 7.1).
var allServers = netip.MustParseAddr("ff02::1:2")

// ask sends one message and waits for the first answer of a wanted kind that
// makes sense; reply says whether it was a REPLY. The socket is opened for each
// message, so that it cannot outlive an interface that was down in between.
func (x exchange6) ask(ctx context.Context, m *dhcpv6.Message, wait time.Duration, kinds ...dhcpv6.MessageType) (l lease6, reply bool, err error) {
	conn, err := x.open(ctx)
	if err != nil {
		return l, false, &stepError{NoSocket, "opening a DHCPv6 socket", err}
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	to := netip.AddrPortFrom(allServers.WithZone(x.i.name()), dhcpv6.DefaultServerPort)
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return l, false, err
	}
	if _, err := conn.WriteTo(m.ToBytes(), net.UDPAddrFromAddrPort(to)); err != nil {
		// Without a link-local address yet, there is nothing to send from.
		pause(ctx, min(wait, firstWait))
		return l, false, &stepError{NoDHCP, "DHCPv6", errors.Join(errNoAnswer, err)}
	}
	l, reply, err = x.hear(conn, m, kinds)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return l, reply, err
}

// hear reads answers to m until one makes sense, a server refuses for good, or
// the time set on the socket is over.
func (x exchange6) hear(conn net.PacketConn, m *dhcpv6.Message, kinds []dhcpv6.MessageType) (l lease6, reply bool, err error) {
	failure := error(&stepError{NoDHCP, "DHCPv6", errNoAnswer})
	for buf := make([]byte, 4096); ; {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return l, false, failure
		}
		answer, err := dhcpv6.MessageFromBytes(buf[:n])
		if err != nil || !x.answers(answer, m, kinds) {
			continue
		}
		reply := answer.MessageType == dhcpv6.MessageTypeReply
		l, err := parseLease6(answer, x.iaid)
		if err == nil && !reply && len(l.addresses) == 0 {
			err = errNoAddress6 // another server may have one
		}
		if err == nil {
			return l, reply, nil
		}
		failure = &stepError{RefusedByDHCP, "DHCPv6", err}
		if reply {
			return lease6{}, true, failure
		}
	}
}

// answers reports whether a message answers ours.
func (x exchange6) answers(answer, m *dhcpv6.Message, kinds []dhcpv6.MessageType) bool {
	client := answer.Options.ClientID()
	return slices.Contains(kinds, answer.MessageType) && answer.TransactionID == m.TransactionID &&
		client != nil && client.Equal(x.duid)
}

// open returns a socket on the client's port that hears and speaks on this
// interface only.
func (x exchange6) open(ctx context.Context) (net.PacketConn, error) {
	name := x.i.name()
	listen := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if outer := raw.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.BindToDevice(int(fd), name))
		}); outer != nil {
			return outer
		}
		return err
	}}
	return listen.ListenPacket(ctx, "udp6", fmt.Sprintf("[::]:%d", dhcpv6.DefaultClientPort))
}
