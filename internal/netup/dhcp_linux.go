package netup

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/iana"
	"golang.org/x/sys/unix"
)

var (
	errNoAnswer = errors.New("no answer")
	errNAK      = errors.New("the server took its offer back (NAK)")
	errRanOut   = errors.New("the lease ran out and was not renewed")
)

// firstWait is how long the first request waits for its answer. RFC 2131,
// section 4.1 suggests 4 s for 10 Mb/s Ethernet; the first packets on a
// fresh link are lost too often for that, and the doubling makes us no
// heavier on a busy server.
const (
	firstWait = 500 * time.Millisecond
	longWait  = 8 * time.Second // so that a port that forwards after 50 s is noticed within 60
)

// backoff is the randomised exponential wait after the given try (1…).
func backoff(try int) time.Duration {
	d := min(firstWait<<min(try-1, 10), longWait)
	return d - d/8 + rand.N(d/4)
}

// acquire asks for a lease until it has one or ctx ends; its only error is that
// of ctx.
func (i *iface) acquire(ctx context.Context) (lease, error) {
	i.trying("DHCP")
	x := &exchange{i: i, began: time.Now(), xid: newXID()}
	for try := 1; ctx.Err() == nil; try++ {
		i.m.update(func() { i.tries++ })
		i.emit(Asking, try, nil)
		window := time.Now().Add(backoff(try))
		l, err := x.lease(ctx, time.Until(window))
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, errNAK) {
			x.xid, x.asked = newXID(), nil // RFC 2131, section 3.1, 5: begin anew
		}
		i.dhcpFailed(err)
		if !pause(ctx, time.Until(window)) {
			break
		}
	}
	return lease{}, ctx.Err()
}

// dhcpFailed keeps the most telling failure: silence does not hide that a
// server answered badly before.
func (i *iface) dhcpFailed(err error) {
	switch {
	case errors.Is(err, errNoAnswer):
		i.m.update(func() {
			if i.err == nil {
				i.err = err
			}
		})
	case errors.Is(err, errNAK):
		i.m.update(func() { i.err = err })
		i.emit(Refused, 0, err)
	default:
		i.fail("DHCP", err)
	}
}

// exchange is the state of one attempt to get or keep a lease.
type exchange struct {
	i     *iface
	began time.Time // for the "secs" field
	xid   dhcpv4.TransactionID
	asked net.IP // the server that an earlier REQUEST of this transaction went to
}

// lease runs DISCOVER, OFFER, REQUEST, ACK once, on a raw socket: the
// interface needs no address. The socket is opened for each try, so that
// it cannot outlive an interface that was down in between.
func (x *exchange) lease(ctx context.Context, wait time.Duration) (lease, error) {
	c, err := nclient4.New(x.i.name(), nclient4.WithHWAddr(x.i.mac), nclient4.WithTimeout(time.Hour), nclient4.WithRetry(1))
	if err != nil {
		return lease{}, &stepError{NoSocket, "opening a packet socket", err}
	}
	defer c.Close()
	discover := x.message(dhcpv4.MessageTypeDiscover)
	if last := x.i.lastAddress(); last.IsValid() {
		discover.UpdateOption(dhcpv4.OptRequestedIPAddress(last.AsSlice()))
	}
	offer, err := ask(ctx, c, nclient4.DefaultServers, discover, wait, x.offerOrLate)
	if err != nil {
		return lease{}, err
	}
	if isAnswer(offer) {
		return accept(offer, nil)
	}
	x.asked = offer.ServerIdentifier()
	request := x.message(dhcpv4.MessageTypeRequest)
	request.UpdateOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr))
	request.UpdateOption(dhcpv4.OptServerIdentifier(offer.ServerIdentifier()))
	answers := nclient4.IsAll(isAnswer, nclient4.IsCorrectServer(offer.ServerIdentifier()))
	for wait := time.Second; ; wait *= 2 {
		ack, err := ask(ctx, c, nclient4.DefaultServers, request, wait, answers)
		if errors.Is(err, errNoAnswer) && wait < 4*time.Second {
			continue
		}
		return accept(ack, err)
	}
}

// accept turns an answer to a REQUEST into a lease.
func accept(ack *dhcpv4.DHCPv4, err error) (lease, error) {
	if err != nil {
		return lease{}, err
	}
	if ack.MessageType() == dhcpv4.MessageTypeNak {
		return lease{}, &stepError{RefusedByDHCP, "DHCP", errNAK}
	}
	l, err := parseLease(ack)
	if err != nil {
		return lease{}, &stepError{RefusedByDHCP, "DHCP", err}
	}
	return l, nil
}

// offerOrLate also takes a slow server's answer to an earlier REQUEST.
func (x *exchange) offerOrLate(m *dhcpv4.DHCPv4) bool {
	return isOffer(m) || x.asked != nil && isAnswer(m) && nclient4.IsCorrectServer(x.asked)(m)
}

func isOffer(m *dhcpv4.DHCPv4) bool {
	return m.MessageType() == dhcpv4.MessageTypeOffer && hostAddr(m.YourIPAddr).IsValid() && hostAddr(m.ServerIdentifier()).IsValid()
}

func isAnswer(m *dhcpv4.DHCPv4) bool {
	return nclient4.IsMessageType(dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak)(m)
}

// ask sends one message and waits for one answer.
func ask(ctx context.Context, c *nclient4.Client, to *net.UDPAddr, m *dhcpv4.DHCPv4, wait time.Duration, match nclient4.Matcher) (*dhcpv4.DHCPv4, error) {
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	answer, err := c.SendAndRead(limited, to, m, match)
	switch {
	case err == nil:
		return answer, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case limited.Err() != nil:
		return nil, &stepError{NoDHCP, "DHCP", errNoAnswer}
	}
	return nil, &stepError{NotConfigured, "sending", err}
}

// message builds a request. No client identifier is sent: the server then
// goes by the hardware address, and the next kernel gets the same lease.
func (x exchange) message(t dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	m := &dhcpv4.DHCPv4{
		OpCode:        dhcpv4.OpcodeBootRequest,
		HWType:        iana.HWTypeEthernet,
		TransactionID: x.xid,
		NumSeconds:    uint16(min(time.Since(x.began)/time.Second, 0xffff)),
		ClientHWAddr:  x.i.mac,
		ClientIPAddr:  net.IPv4zero,
		YourIPAddr:    net.IPv4zero,
		ServerIPAddr:  net.IPv4zero,
		GatewayIPAddr: net.IPv4zero,
		Options:       make(dhcpv4.Options),
	}
	m.UpdateOption(dhcpv4.OptMessageType(t))
	m.UpdateOption(dhcpv4.OptMaxMessageSize(nclient4.MaxMessageSize))
	// RFC 3442: classless routes come before the router in this list.
	m.UpdateOption(dhcpv4.OptParameterRequestList(
		dhcpv4.OptionSubnetMask, dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionRouter,
		dhcpv4.OptionDomainNameServer, dhcpv4.OptionInterfaceMTU, dhcpv4.OptionIPAddressLeaseTime,
		dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue, dhcpv4.OptionNTPServers,
		dhcpv4.OptionDomainName, dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionURL,
	))
	if name := x.i.m.cfg.Hostname; name != "" {
		m.UpdateOption(dhcpv4.OptHostName(bounded(name, 63)))
	}
	return m
}

// newXID takes random bytes without waiting for the kernel's generator to
// be seeded, which takes a second on a virtual machine that has just
// started. An xid only has to differ from other machines'.
func newXID() (xid dhcpv4.TransactionID) {
	if n, err := unix.Getrandom(xid[:], unix.GRND_INSECURE); n != len(xid) || err != nil {
		binary.BigEndian.PutUint32(xid[:], rand.Uint32()) // before Linux 5.6
	}
	return xid
}

// hold configures a lease and renews it until it is lost or ctx ends.
func (i *iface) hold(ctx context.Context, l lease) {
	took := time.Now()
	if err := i.bind(l, MethodDHCP); err != nil {
		i.fail("DHCP", err)
		pause(ctx, longWait) // then ask again: the cause may pass
		return
	}
	i.emit(Configured, 0, nil)
	for {
		next, err := i.renew(ctx, l, took)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = i.bind(next, MethodDHCP)
		}
		if err != nil {
			i.unbind()
			i.emit(Lost, 0, err)
			return
		}
		l, took = next, time.Now()
		i.emit(Renewed, 0, nil)
	}
}

// renew waits for T1 and then asks the server, from T2 on any server, for
// more time (RFC 2131, section 4.4.5). It fails when the server refuses or
// the lease runs out.
func (i *iface) renew(ctx context.Context, l lease, took time.Time) (lease, error) {
	if l.length == 0 {
		<-ctx.Done()
		return lease{}, ctx.Err()
	}
	x := exchange{i: i, began: took.Add(l.t1), xid: newXID()}
	t2, end := took.Add(l.t2), took.Add(l.length)
	for next := took.Add(l.t1); pause(ctx, time.Until(next)); {
		if !time.Now().Before(end) {
			return lease{}, errRanOut
		}
		rebinding, limit := !time.Now().Before(t2), t2
		if rebinding {
			limit = end
		}
		got, err := x.extend(ctx, l, rebinding, limit)
		if err == nil || errors.Is(err, errNAK) || ctx.Err() != nil {
			return got, err
		}
		next = nextRenewal(time.Now(), limit)
	}
	return lease{}, ctx.Err()
}

// nextRenewal waits half of what is left, at least a minute, but never
// beyond the limit.
func nextRenewal(now, limit time.Time) time.Time {
	next := now.Add(max(limit.Sub(now)/2, time.Minute))
	if next.After(limit) {
		return limit
	}
	return next
}

// extend sends one REQUEST for the address in use: to the server that gave
// it, or to all.
func (x exchange) extend(ctx context.Context, l lease, rebinding bool, limit time.Time) (lease, error) {
	c, to, err := x.open(l, rebinding)
	if err != nil {
		return lease{}, err
	}
	defer c.Close()
	m := x.message(dhcpv4.MessageTypeRequest)
	m.ClientIPAddr = l.address.Addr().AsSlice()
	wait := min(5*time.Second, max(time.Until(limit), 100*time.Millisecond))
	return accept(ask(ctx, c, to, m, wait, isAnswer))
}

// open returns a client that sends from the address in use to its server,
// or one that broadcasts.
func (x exchange) open(l lease, rebinding bool) (*nclient4.Client, *net.UDPAddr, error) {
	opts := []nclient4.ClientOpt{nclient4.WithTimeout(time.Hour), nclient4.WithRetry(1)}
	if rebinding {
		c, err := nclient4.New(x.i.name(), append(opts, nclient4.WithHWAddr(x.i.mac))...)
		return c, nclient4.DefaultServers, err
	}
	from := net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.address.Addr(), nclient4.ClientPort))
	conn, err := net.ListenUDP("udp4", from)
	if err != nil {
		return nil, nil, err
	}
	c, err := nclient4.NewWithConn(conn, x.i.mac, opts...)
	return c, net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.server, nclient4.ServerPort)), err
}
