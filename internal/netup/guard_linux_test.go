package netup

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/nettest"
)

const (
	guardUser = 9050
	guardPeer = "PHASE_GUARD_PEER"
)

// TestGuardChild connects as another user, for TestGuard.
func TestGuardChild(t *testing.T) {
	peer := os.Getenv(guardPeer)
	if peer == "" {
		t.Skip("runs as a child of TestGuard")
	}
	for address := range strings.FieldsSeq(peer) {
		c, err := net.DialTimeout("tcp", address, nettest.Limit)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

// One user gets out, and of everybody else not one packet: no connection, no
// question for a name, nothing to a neighbour. Leases can still be renewed.
func TestGuard(t *testing.T) {
	if !nettest.Isolated(t, nettest.Config{}) {
		return
	}
	if os.Getuid() != 0 || !manyUsers() {
		nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", "needs root, to become another user")
	}
	us, them := nettest.Here(t), nettest.NewHost(t, "them")
	nettest.Cable(nettest.End{Host: us, Device: "eth0"}, nettest.End{Host: them, Device: "eth1"})
	for _, setting := range []string{"all", "default", "eth0"} {
		us.Set("net/ipv4/conf/"+setting+"/rp_filter", "0") // as in our systems
	}
	us.Up("lo")
	us.Address("eth0", "192.0.2.1/24", "2001:db8::1/64")
	them.Address("eth1", "192.0.2.2/24", "198.51.100.2/24", "2001:db8::2/64")
	us.Up("eth0")
	them.Up("eth1")
	gateway := &netlink.Route{
		LinkIndex: us.Link("eth0").Attrs().Index, Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: net.ParseIP("192.0.2.2"), Flags: int(netlink.FLAG_ONLINK),
	}
	nettest.Check(t, us.Handle.RouteAdd(gateway))
	var open []string
	for _, address := range []string{"192.0.2.2:80", "198.51.100.2:80", "[2001:db8::2]:80"} {
		them.Do(func() {
			l, err := net.Listen("tcp", address)
			nettest.Check(t, err)
			t.Cleanup(func() { l.Close() })
		})
		open = append(open, address)
		reached(t, "tcp", address, true)
	}
	nettest.Check(t, Guard(guardUser))
	nettest.Check(t, Guard(guardUser)) // it may be set twice
	nettest.Check(t, us.Handle.RouteDel(gateway))
	nettest.Check(t, us.Handle.RouteAdd(gateway)) // as leases come and go
	seen := us.Capture("eth0")
	for _, address := range open {
		reached(t, "tcp", address, false)
	}
	for _, address := range []string{"192.0.2.2:53", "198.51.100.2:123", "[2001:db8::2]:53", "224.0.0.251:5353"} {
		reached(t, "udp", address, false)
	}
	if frames := ipFrames(seen.Frames()); len(frames) > 0 {
		t.Errorf("%d frames got out, the first %x", len(frames), frames[0])
	}
	reached(t, "udp", "198.51.100.2:67", true)
	child := exec.Command("/proc/self/exe", "-test.run=^TestGuardChild$", "-test.v")
	child.Env = append(os.Environ(), guardPeer+"="+strings.Join(open, " "))
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: guardUser, Gid: guardUser}}
	if out, err := us.Output(child); err != nil || !strings.Contains(out, "PASS") {
		t.Errorf("the user who may: %v\n%s", err, out)
	}
	if len(ipFrames(seen.Frames())) == 0 {
		t.Error("the capture sees nothing")
	}
	nettest.Check(t, Unguard(guardUser))
	nettest.Check(t, Unguard(guardUser))
	for _, address := range open {
		reached(t, "tcp", address, true)
	}
}

// reached sends to an address, and wants to get there or to be told at once.
func reached(t *testing.T, network, address string, want bool) {
	t.Helper()
	c, err := net.DialTimeout(network, address, nettest.Limit)
	if err == nil {
		_, err = c.Write([]byte("x"))
		c.Close()
	}
	if want != (err == nil) || err != nil && !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("%s %s: %v, want to get there: %t", network, address, err, want)
	}
}

// ipFrames are the frames from us that carry IP but what every interface says of itself
// (ICMPv6, to multicast).
func ipFrames(frames [][]byte) (out [][]byte) {
	for _, f := range frames {
		switch {
		case len(f) < 34:
		case f[12] == 0x08 && f[13] == 0x00:
			out = append(out, f)
		case f[12] == 0x86 && f[13] == 0xdd && len(f) >= 54 && f[20] == unix.IPPROTO_TCP:
			out = append(out, f)
		case f[12] == 0x86 && f[13] == 0xdd && len(f) >= 54 && f[20] == unix.IPPROTO_UDP:
			out = append(out, f)
		}
	}
	return out
}

// manyUsers reports whether this process may become another user.
func manyUsers() bool {
	raw, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Contains(strings.Join(strings.Fields(string(raw)), " "), "4294967295")
}
