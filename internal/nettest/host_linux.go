package nettest

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Limit is how long any single event may take to come. It is generous: machines
// that run tests are busy.
const Limit = 20 * time.Second

// A Host is a machine of the test: a network namespace.
type Host struct {
	Name   string
	Handle *netlink.Handle // configures its network

	t  *testing.T
	ns *os.File
}

// Here is the machine under test: the network of the test's own process.
func Here(t *testing.T) *Host {
	t.Helper()
	ns, err := threadNetwork()
	Check(t, err)
	return newHost(t, "here", ns)
}

// NewHost makes another machine, whose loopback interface is up.
func NewHost(t *testing.T, name string) *Host {
	t.Helper()
	var ns *os.File
	Check(t, onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		ns, err = threadNetwork()
		return err
	}))
	h := newHost(t, name, ns)
	h.Up("lo")
	return h
}

func newHost(t *testing.T, name string, ns *os.File) *Host {
	t.Helper()
	h := &Host{Name: name, t: t, ns: ns}
	t.Cleanup(func() { ns.Close() })
	h.Do(func() {
		var err error
		h.Handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		Check(t, err)
	})
	t.Cleanup(h.Handle.Close)
	return h
}

// Do runs f on this machine. Sockets that f opens and programs that it starts stay
// there; goroutines that it starts do not begin there. f may end the test.
func (h *Host) Do(f func()) {
	h.t.Helper()
	Check(h.t, onThread(func() error {
		if err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("setns", err)
		}
		f()
		return nil
	}))
}

// An End of a cable is an interface of a machine.
type End struct {
	Host   *Host
	Device string // the interface's name, such as eth0
	MAC    string // "" for one that the kernel makes up
}

// Cable connects two machines. Both ends are down: see [Host.Up].
func Cable(a, b End) {
	a.Host.t.Helper()
	attrs := netlink.LinkAttrs{Name: a.Device, HardwareAddr: a.mac()}
	Check(a.Host.t, a.Host.Handle.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: b.Device, PeerHardwareAddr: b.mac(), PeerNamespace: netlink.NsFd(b.Host.ns.Fd()),
	}))
}

func (e End) mac() net.HardwareAddr {
	e.Host.t.Helper()
	if e.MAC == "" {
		return nil
	}
	hw, err := net.ParseMAC(e.MAC)
	Check(e.Host.t, err)
	return hw
}

// Link is the interface with this name.
func (h *Host) Link(device string) netlink.Link {
	h.t.Helper()
	link, err := h.Handle.LinkByName(device)
	Check(h.t, err)
	return link
}

// Up sets an interface up; the other end of its cable has a carrier when it is up,
// too.
func (h *Host) Up(device string) { h.t.Helper(); Check(h.t, h.Handle.LinkSetUp(h.Link(device))) }

// Down sets an interface down: for the other end the cable is pulled.
func (h *Host) Down(device string) { h.t.Helper(); Check(h.t, h.Handle.LinkSetDown(h.Link(device))) }

// Address gives an interface addresses with their networks, such as 192.0.2.1/24.
// IPv6 addresses are of use at once: nobody is asked whether they are free.
func (h *Host) Address(device string, prefixes ...string) {
	h.t.Helper()
	for _, p := range prefixes {
		prefix, err := netip.ParsePrefix(p)
		Check(h.t, err)
		addr := &netlink.Addr{IPNet: ipNet(prefix)}
		if prefix.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if prefix.Addr().IsLinkLocalUnicast() {
			addr.Scope = unix.RT_SCOPE_LINK
		}
		Check(h.t, h.Handle.AddrAdd(h.Link(device), addr))
	}
}

// Route adds a route to a destination, such as 0.0.0.0/0, by way of a neighbour.
func (h *Host) Route(destination, via string) {
	h.t.Helper()
	prefix, err := netip.ParsePrefix(destination)
	Check(h.t, err)
	Check(h.t, h.Handle.RouteAdd(&netlink.Route{Dst: ipNet(prefix), Gw: net.ParseIP(via)}))
}

// Loopback makes the loopback interface a network on which multicast works and
// which has these addresses: enough for a machine that talks to itself.
func (h *Host) Loopback(prefixes ...string) {
	h.t.Helper()
	Check(h.t, h.Handle.LinkSetMulticastOn(h.Link("lo")))
	h.Address("lo", prefixes...)
	h.Up("lo")
}

// Set writes a kernel setting of this machine's network, such as
// net/ipv6/conf/all/forwarding.
func (h *Host) Set(name, value string) {
	h.t.Helper()
	h.Do(func() {
		h.t.Helper()
		Check(h.t, os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0))
	})
}

// Switch is what a Bridge does besides passing frames on.
type Switch struct {
	// SpanningTree, if above zero, makes every port wait twice this long before
	// it passes anything on: at least two seconds. It needs the program ip.
	SpanningTree time.Duration
}

// Bridge makes interfaces of this machine the ports of a switch, which is an
// interface itself: the machine's own place on that network.
func (h *Host) Bridge(name string, s Switch, ports ...string) {
	h.t.Helper()
	Check(h.t, h.Handle.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}))
	if s.SpanningTree > 0 {
		h.Run("ip", "link", "set", name, "type", "bridge", "forward_delay", strconv.Itoa(int(s.SpanningTree/(10*time.Millisecond))), "stp_state", "1")
	}
	for _, port := range ports {
		Check(h.t, h.Handle.LinkSetMaster(h.Link(port), h.Link(name)))
		h.Up(port)
	}
	h.Up(name)
}

// Run runs a program to its end, which must be a good one, and returns what it
// said.
func (h *Host) Run(args ...string) string {
	h.t.Helper()
	path, err := find(args[0])
	Check(h.t, err)
	out, err := h.Output(exec.Command(path, args[1:]...))
	if err != nil {
		h.t.Fatalf("%s: %v: %v\n%s", h.Name, args, err, out)
	}
	return out
}

// Output runs a prepared program to its end and returns what it said.
func (h *Host) Output(cmd *exec.Cmd) (string, error) {
	h.t.Helper()
	var out []byte
	var err error
	h.Do(func() { out, err = cmd.CombinedOutput() })
	return string(out), err
}
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
