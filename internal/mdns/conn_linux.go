package mdns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// port5353 is the port of multicast DNS.
const port5353 = 5353

var groups = map[bool]netip.AddrPort{
	false: netip.MustParseAddrPort("224.0.0.251:5353"),
	true:  netip.MustParseAddrPort("[ff02::fb]:5353"),
}

// packet is something that arrived from the local network.
type packet struct {
	data  []byte
	from  netip.AddrPort // IPv6 link-local addresses without their zone
	link  link
	alone bool // sent to this machine alone, not to the group
}

// conn is this machine's ear and mouth on the local network: a socket for each
// version of IP, member of the group on every interface that can multicast.
type conn struct {
	packets chan packet
	changed chan struct{} // something about the interfaces has changed

	sockets map[bool]*net.UDPConn // by v6
	watch   *os.File
	table   atomic.Pointer[map[linkID]link]
	closed  chan struct{}
	reading sync.WaitGroup
}

// open takes the sockets on the port of multicast DNS, beside other programs that
// have it too. With shy, another port will do where somebody keeps that one for
// himself: questions are then answered to us alone (RFC 6762, section 5.1). It
// fails if neither IPv4 nor IPv6 is there.
func open(shy bool) (*conn, error) {
	c := &conn{
		packets: make(chan packet, 64), changed: make(chan struct{}, 1),
		sockets: map[bool]*net.UDPConn{}, closed: make(chan struct{}),
	}
	var errs []error
	for _, v6 := range []bool{false, true} {
		s, err := listen(v6, port5353)
		if shy && errors.Is(err, unix.EADDRINUSE) {
			s, err = listen(v6, 0)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		c.sockets[v6] = s
	}
	if len(c.sockets) == 0 {
		return nil, fmt.Errorf("multicast DNS: %w", errors.Join(errs...))
	}
	var err error
	if c.watch, err = watchInterfaces(); err != nil {
		c.close()
		return nil, fmt.Errorf("multicast DNS: watch the interfaces: %w", err)
	}
	c.links()
	c.reading.Go(c.readChanges)
	for v6, s := range c.sockets {
		c.reading.Go(func() { c.read(s, v6) })
	}
	return c, nil
}

// close ends all that open began.
func (c *conn) close() {
	close(c.closed)
	for _, s := range c.sockets {
		_ = s.Close()
	}
	if c.watch != nil {
		_ = c.watch.Close()
	}
	c.reading.Wait()
}

// links looks what interfaces there are, joins the group on each, and returns
// those that can be used now.
func (c *conn) links() []link {
	table := map[linkID]link{}
	var usable []link
	for _, l := range listLinks() {
		if s := c.sockets[l.v6]; s != nil && len(usable) < 2*maxLinks && join(s, l) == nil {
			table[l.id()] = l
			usable = append(usable, l)
		}
	}
	c.table.Store(&table)
	return usable
}

// multicast sends to everybody on a link.
func (c *conn) multicast(l link, data []byte) error { return c.send(l, groups[l.v6], data) }

// send sends to one address on a link.
func (c *conn) send(l link, to netip.AddrPort, data []byte) error {
	s := c.sockets[l.v6]
	if s == nil {
		return net.ErrClosed
	}
	var how []byte
	if l.v6 {
		how = unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(l.index)})
		to = netip.AddrPortFrom(to.Addr().WithZone(l.device), to.Port())
	} else {
		how = unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(l.index)})
	}
	_, _, err := s.WriteMsgUDPAddrPort(data, how, to)
	return err
}

// read passes packets on until the socket is closed. While nobody takes them the
// kernel drops what does not fit its buffer.
func (c *conn) read(s *net.UDPConn, v6 bool) {
	data, control := make([]byte, maxMessage+1), make([]byte, 256)
	for {
		n, nc, _, from, err := s.ReadMsgUDPAddrPort(data, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // of a single packet
		}
		index, to := pktinfo(control[:nc], v6)
		l, ok := (*c.table.Load())[linkID{index, v6}]
		from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
		alone := to != groups[v6].Addr()
		if !ok || n > maxMessage || !l.near(from.Addr()) && !l.has(from.Addr()) {
			continue // RFC 6762, section 11: not from this link
		}
		select {
		case c.packets <- packet{data: slices.Clone(data[:n]), from: from, link: l, alone: alone}:
		case <-c.closed:
			return
		}
	}
}

// readChanges turns the kernel's messages about interfaces and addresses into
// one event.
func (c *conn) readChanges() {
	buf := make([]byte, 1<<16)
	for {
		if _, err := c.watch.Read(buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
		select {
		case c.changed <- struct{}{}:
		default:
		}
	}
}

// listen opens a socket that shares its port.
func listen(v6 bool, port int) (*net.UDPConn, error) {
	network := map[bool]string{false: "udp4", true: "udp6"}[v6]
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return control(raw, func(fd int) error { return setUp(fd, v6) })
	}}
	s, err := config.ListenPacket(context.Background(), network, fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, err
	}
	return s.(*net.UDPConn), nil
}

// setUp makes a socket what RFC 6762 wants: shared (section 15), with 255 hops
// (section 11), hearing other programs of this machine, and telling the interface
// that something came by.
func setUp(fd int, v6 bool) error {
	level, options := unix.IPPROTO_IP, [][2]int{
		{unix.IP_PKTINFO, 1}, {unix.IP_MULTICAST_TTL, 255}, {unix.IP_TTL, 255}, {unix.IP_MULTICAST_LOOP, 1}, {unix.IP_MULTICAST_ALL, 0},
	}
	if v6 {
		level, options = unix.IPPROTO_IPV6, [][2]int{
			{unix.IPV6_RECVPKTINFO, 1}, {unix.IPV6_MULTICAST_HOPS, 255}, {unix.IPV6_UNICAST_HOPS, 255}, {unix.IPV6_MULTICAST_LOOP, 1},
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, level, o[0], o[1]); err != nil {
			return err
		}
	}
	return nil
}

// join makes a socket a member of the group on a link, which it may be already.
func join(s *net.UDPConn, l link) error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	err = control(raw, func(fd int) error {
		if l.v6 {
			return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
				&unix.IPv6Mreq{Multiaddr: groups[true].Addr().As16(), Interface: uint32(l.index)})
		}
		return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP,
			&unix.IPMreqn{Multiaddr: groups[false].Addr().As4(), Ifindex: int32(l.index)})
	})
	if errors.Is(err, unix.EADDRINUSE) {
		return nil
	}
	return err
}

func control(raw syscall.RawConn, f func(fd int) error) error {
	var inner error
	err := raw.Control(func(fd uintptr) { inner = f(int(fd)) })
	return errors.Join(err, inner)
}

// pktinfo reads by which interface and to which address a packet came.
func pktinfo(control []byte, v6 bool) (index int, to netip.Addr) {
	for len(control) > 0 {
		head, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		control = rest
		switch {
		case !v6 && head.Level == unix.IPPROTO_IP && head.Type == unix.IP_PKTINFO && len(data) >= 12:
			to, _ = netip.AddrFromSlice(data[8:12])
			return int(binary.NativeEndian.Uint32(data)), to
		case v6 && head.Level == unix.IPPROTO_IPV6 && head.Type == unix.IPV6_PKTINFO && len(data) >= 20:
			to, _ = netip.AddrFromSlice(data[:16])
			return int(binary.NativeEndian.Uint32(data[16:])), to
		}
	}
	return 0, netip.Addr{}
}

// listLinks lists the interfaces that are up and can multicast, once for each
// version of IP of which they have an address.
func listLinks() []link {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	addrs := listAddrs()
	var out []link
	for _, i := range all {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagMulticast == 0 {
			continue
		}
		for _, v6 := range []bool{false, true} {
			if slices.ContainsFunc(addrs[i.Index], func(p netip.Prefix) bool { return p.Addr().Is6() == v6 }) {
				out = append(out, link{index: i.Index, device: i.Name, v6: v6, addrs: addrs[i.Index]})
			}
		}
	}
	return out
}

// listAddrs asks the kernel for all addresses, by interface. It leaves out those
// that cannot be used yet or any more (tentative, duplicate, deprecated) and IPv6
// addresses made to be forgotten (temporary).
func listAddrs() map[int][]netip.Prefix {
	out := map[int][]netip.Prefix{}
	answer, err := syscall.NetlinkRIB(unix.RTM_GETADDR, unix.AF_UNSPEC)
	if err != nil {
		return out
	}
	messages, err := syscall.ParseNetlinkMessage(answer)
	if err != nil {
		return out
	}
	for _, m := range messages {
		if index, prefix, ok := readAddr(m); ok && possible(prefix.Addr()) && len(out[index]) < maxLinkAddrs {
			out[index] = append(out[index], prefix)
		}
	}
	return out
}

// readAddr reads one address of an answer to RTM_GETADDR (rtnetlink(7)).
func readAddr(m syscall.NetlinkMessage) (index int, p netip.Prefix, ok bool) {
	if m.Header.Type != unix.RTM_NEWADDR || len(m.Data) < unix.SizeofIfAddrmsg {
		return 0, p, false
	}
	flags := uint32(m.Data[2])
	attrs, err := syscall.ParseNetlinkRouteAttr(&m)
	if err != nil {
		return 0, p, false
	}
	var addr netip.Addr
	for _, a := range attrs {
		switch {
		case a.Attr.Type == unix.IFA_LOCAL, a.Attr.Type == unix.IFA_ADDRESS && !addr.IsValid():
			addr, _ = netip.AddrFromSlice(a.Value)
		case a.Attr.Type == unix.IFA_FLAGS && len(a.Value) >= 4:
			flags = binary.NativeEndian.Uint32(a.Value)
		}
	}
	const unusable = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED | unix.IFA_F_DEPRECATED
	if !addr.IsValid() || flags&unusable != 0 || addr.Is6() && flags&unix.IFA_F_TEMPORARY != 0 {
		return 0, p, false
	}
	return int(binary.NativeEndian.Uint32(m.Data[4:])), netip.PrefixFrom(addr, int(m.Data[1])), true
}

// watchInterfaces opens a socket on which the kernel tells of every change of
// interfaces and addresses.
func watchInterfaces() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR})
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}
