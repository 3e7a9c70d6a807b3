package netup

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// These tests play a client and its LAN on one machine. Each runs again as
// a process of its own in a fresh network namespace, the client's; every
// cable ends in the namespace of a helper process, the LAN's. Namespaces
// have no name and vanish with their processes, however a test ends.

const childVar = "PHASE_NETNS_CHILD"

// limit is how long any single event may take to come.
const limit = 20 * time.Second

// inNamespace reports true in the process that shall run the test. In the
// parent it runs that process, takes over its outcome and reports false.
func inNamespace(t *testing.T, tools ...string) bool {
	t.Helper()
	if os.Getenv(childVar) != "" {
		runtime.LockOSThread() // so that helpers may die with this thread
		return true
	}
	t.Parallel()
	if missing := missing(tools); missing != "" {
		if os.Getenv("PHASE_REQUIRE_ROOT_TESTS") == "1" {
			t.Fatal("PHASE_REQUIRE_ROOT_TESTS is set, but " + missing)
		}
		t.Skip(missing)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1", "-test.timeout=110s")
	cmd.Env = append(os.Environ(), childVar+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err == nil && strings.Contains(string(out), "--- SKIP: "+t.Name()) {
		t.Skipf("in its namespace: %s", out) // the kernel lacks something
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("in its namespace: %v\n%s", err, out)
	}
	if testing.Verbose() {
		t.Logf("%s", out)
	}
	return false
}

// missing says what this machine lacks for a namespace test.
func missing(tools []string) string {
	if os.Geteuid() != 0 {
		return "needs root to make network namespaces"
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return "needs " + tool
		}
	}
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Run(); err != nil {
		return "cannot make network namespaces here: " + err.Error()
	}
	return ""
}

// lan is the far end of one cable: a namespace with the interface srv0,
// which has the address 10.77.0.1/24.
type lan struct {
	t      *testing.T
	ns     netns.NsHandle
	handle *netlink.Handle
	cable  string // the client's end
}

// plug makes a LAN and a cable to it; the client's end has the given name.
func plug(t *testing.T, cable, mac string) *lan {
	t.Helper()
	holder := exec.Command("cat") // ends when our end of its input closes
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	in, err := holder.StdinPipe()
	check(t, err)
	check(t, holder.Start())
	t.Cleanup(func() { in.Close(); holder.Wait() })
	l := &lan{t: t, cable: cable}
	l.ns, err = netns.GetFromPid(holder.Process.Pid)
	check(t, err)
	l.handle, err = netlink.NewHandleAt(l.ns, syscall.NETLINK_ROUTE)
	check(t, err)
	hw, err := net.ParseMAC(mac)
	check(t, err)
	check(t, netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: cable, HardwareAddr: hw}, PeerName: "srv0", PeerNamespace: netlink.NsPid(holder.Process.Pid),
	}))
	addr, err := netlink.ParseAddr("10.77.0.1/24")
	check(t, err)
	check(t, l.handle.AddrAdd(l.port(), addr))
	l.up()
	return l
}

func (l *lan) port() netlink.Link {
	l.t.Helper()
	link, err := l.handle.LinkByName("srv0")
	check(l.t, err)
	return link
}

func (l *lan) up()     { l.t.Helper(); check(l.t, l.handle.LinkSetUp(l.port())) }
func (l *lan) unplug() { l.t.Helper(); check(l.t, l.handle.LinkSetDown(l.port())) }

// inside runs f on a thread in the LAN's namespace. Sockets opened and
// processes started there stay there.
func (l *lan) inside(f func()) {
	l.t.Helper()
	own, err := netns.Get()
	check(l.t, err)
	defer own.Close()
	check(l.t, netns.Set(l.ns)) // inNamespace has locked the thread
	f()
	check(l.t, netns.Set(own))
}

// dnsmasq serves DHCP on the LAN and returns its log as it grows.
func (l *lan) dnsmasq(args ...string) *syncLog {
	l.t.Helper()
	base := []string{
		"--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--conf-file=/dev/null", "--user=root", "--pid-file=",
		"--port=0", "--interface=srv0", "--bind-interfaces", "--leasefile-ro", "--no-ping", "--dhcp-authoritative",
	}
	cmd := exec.Command("dnsmasq", append(base, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StderrPipe()
	check(l.t, err)
	l.inside(func() { check(l.t, cmd.Start()) })
	log := &syncLog{lines: make(chan string, 1000)}
	go log.read(out)
	l.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	log.await(l.t, "started")
	return log
}

// syncLog is a helper's log.
type syncLog struct{ lines chan string }

func (s *syncLog) read(r io.Reader) {
	for sc := bufio.NewScanner(r); sc.Scan(); {
		select {
		case s.lines <- sc.Text():
		default:
		}
	}
	close(s.lines)
}

func (s *syncLog) await(t *testing.T, text string) {
	t.Helper()
	var seen []string
	deadline := time.After(limit)
	for {
		select {
		case line, ok := <-s.lines:
			if strings.Contains(line, text) {
				return
			}
			if !ok {
				t.Fatalf("the log ended without %q:\n%s", text, strings.Join(seen, "\n"))
			}
			seen = append(seen, line)
		case <-deadline:
			t.Fatalf("no %q in the log:\n%s", text, strings.Join(seen, "\n"))
		}
	}
}

// scripted is a DHCP server whose answers are a test's own function. It
// reads raw frames; answers to requests with an address go out by unicast.
type scripted struct {
	raw     net.PacketConn
	unicast net.PacketConn
	seen    chan *dhcpv4.DHCPv4 // every request
}

// serve answers each request with what answer returns; nil stays silent.
func (l *lan) serve(answer func(*dhcpv4.DHCPv4) *dhcpv4.DHCPv4) *scripted {
	l.t.Helper()
	s := &scripted{seen: make(chan *dhcpv4.DHCPv4, 1000)}
	l.inside(func() {
		var err error
		s.raw, err = nclient4.NewRawUDPConn("srv0", 67)
		check(l.t, err)
		s.unicast, err = net.ListenPacket("udp4", "10.77.0.1:67")
		check(l.t, err)
	})
	var wg sync.WaitGroup
	wg.Go(func() { s.loop(answer) })
	l.t.Cleanup(func() { s.raw.Close(); s.unicast.Close(); wg.Wait() })
	return s
}

func (s *scripted) loop(answer func(*dhcpv4.DHCPv4) *dhcpv4.DHCPv4) {
	buf := make([]byte, 1500)
	for {
		n, _, err := s.raw.ReadFrom(buf)
		if errors.Is(err, syscall.ENETDOWN) {
			continue // the port was down for a while; said once
		}
		if err != nil {
			return
		}
		m, err := dhcpv4.FromBytes(buf[:n])
		if err != nil || m.OpCode != dhcpv4.OpcodeBootRequest {
			continue
		}
		s.seen <- m
		if r := answer(m); r != nil {
			s.send(m, r)
		}
	}
}

func (s *scripted) send(m, r *dhcpv4.DHCPv4) {
	if m.ClientIPAddr.IsUnspecified() {
		s.raw.WriteTo(r.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
		return
	}
	s.unicast.WriteTo(r.ToBytes(), &net.UDPAddr{IP: m.ClientIPAddr, Port: 68})
}

// reply builds the usual answer: an offer to a DISCOVER, an ACK to a
// REQUEST, with address 10.77.0.<host>.
func reply(m *dhcpv4.DHCPv4, host byte, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	kind := dhcpv4.MessageTypeAck
	if m.MessageType() == dhcpv4.MessageTypeDiscover {
		kind = dhcpv4.MessageTypeOffer
	}
	r, err := dhcpv4.NewReplyFromRequest(m, append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.IPv4(10, 77, 0, host)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 77, 0, 1))),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithLeaseTime(600),
		dhcpv4.WithOption(dhcpv4.OptRouter(net.IPv4(10, 77, 0, 1))),
	}, mods...)...)
	if err != nil {
		panic(err) // a test's own mistake
	}
	return r
}

func nak(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	return reply(m, 0, dhcpv4.WithMessageType(dhcpv4.MessageTypeNak), dhcpv4.WithYourIP(net.IPv4zero))
}

// client is the manager under test and what it reported.
type client struct {
	*Manager
	t      *testing.T
	resolv string
	events chan Event
	cancel context.CancelFunc
}

// begin runs a manager in the background.
func begin(t *testing.T, cfg Config) *client {
	t.Helper()
	c := &client{t: t, resolv: filepath.Join(t.TempDir(), "resolv.conf"), events: make(chan Event, 1000)}
	cfg.ResolvConf = c.resolv
	cfg.Report = func(e Event) {
		t.Log(e)
		c.events <- e
	}
	c.Manager = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := c.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return c
}

// wait returns the network, or fails the test.
func (c *client) wait() *Network {
	c.t.Helper()
	n, err := c.Wait(context.Background())
	if err != nil {
		c.t.Fatalf("Wait: %v", err)
	}
	return n
}

// await returns the first event of the kind on the interface.
func (c *client) await(name string, s State) Event {
	c.t.Helper()
	deadline := time.After(limit)
	for {
		select {
		case e := <-c.events:
			if e.Interface == name && e.State == s {
				return e
			}
		case <-deadline:
			c.t.Fatalf("%s never reported state %d", name, s)
		}
	}
}

// addresses lists the IPv4 addresses the kernel has on an interface.
func addresses(t *testing.T, name string) []string {
	t.Helper()
	link, err := netlink.LinkByName(name)
	check(t, err)
	list, err := netlink.AddrList(link, netlink.FAMILY_V4)
	check(t, err)
	var out []string
	for _, a := range list {
		out = append(out, a.IPNet.String())
	}
	return out
}

// routes lists the IPv4 routes the kernel has, as "destination via gateway".
func routes(t *testing.T) []string {
	t.Helper()
	list, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	check(t, err)
	var out []string
	for _, r := range list {
		out = append(out, r.Dst.String()+" via "+r.Gw.String())
	}
	return out
}

func isUp(t *testing.T, name string) bool {
	t.Helper()
	link, err := netlink.LinkByName(name)
	check(t, err)
	return link.Attrs().Flags&net.FlagUp != 0
}

func want(t *testing.T, what string, got []string, wanted ...string) {
	t.Helper()
	for _, w := range wanted {
		if !slices.Contains(got, w) {
			t.Errorf("%s %q lack %q", what, got, w)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
