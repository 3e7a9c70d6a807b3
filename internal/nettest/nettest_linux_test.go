package nettest

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wanted makes the tests named TestChild… run, whose outcome is not a good one.
const wanted = "PHASE_NETTEST_CHILDREN"

const (
	ourMAC   = "02:00:00:00:00:01"
	theirMAC = "02:00:00:00:00:02"
)

// cabled is us and a neighbour on one cable.
func cabled(t *testing.T) (us, them *Host) {
	t.Helper()
	us, them = Here(t), NewHost(t, "them")
	Cable(End{us, "eth0", ourMAC}, End{them, "eth1", theirMAC})
	us.Address("eth0", "192.0.2.1/24", "2001:db8::1/64")
	them.Address("eth1", "192.0.2.2/24", "2001:db8::2/64", "fe80::2/64")
	us.Up("eth0")
	them.Up("eth1")
	return us, them
}

func TestHosts(t *testing.T) {
	if !Isolated(t, Config{}) {
		return
	}
	us, them := cabled(t)
	if got := names(t); !slices.Equal(got, []string{"lo", "eth0"}) {
		t.Errorf("our interfaces are %q", got)
	}
	if mac := us.Link("eth0").Attrs().HardwareAddr.String(); mac != ourMAC {
		t.Errorf("our MAC is %s", mac)
	}
	if mac := them.Link("eth1").Attrs().HardwareAddr.String(); mac != theirMAC {
		t.Errorf("their MAC is %s", mac)
	}
	for _, network := range []string{"192.0.2.2:0", "[2001:db8::2]:0"} {
		l := listen(t, them, network)
		if err := talk(l); err != nil {
			t.Errorf("%s: %v", network, err)
		}
	}
	if got := names(t); !slices.Equal(got, []string{"lo", "eth0"}) {
		t.Errorf("after Do we are elsewhere, with %q", got)
	}
	them.Address("lo", "198.51.100.1/32")
	us.Route("198.51.100.0/24", "192.0.2.2")
	if err := talk(listen(t, them, "198.51.100.1:0")); err != nil {
		t.Errorf("by a route: %v", err)
	}
	l := listen(t, them, "192.0.2.2:0")
	us.Handle.LinkDel(us.Link("eth0"))
	if err := talk(l); err == nil {
		t.Error("connected without a cable")
	}
}

// names lists the interfaces of the network we are in.
func names(t *testing.T) (out []string) {
	t.Helper()
	list, err := net.Interfaces()
	Check(t, err)
	for _, i := range list {
		out = append(out, i.Name)
	}
	return out
}

func listen(t *testing.T, h *Host, address string) net.Listener {
	t.Helper()
	var l net.Listener
	h.Do(func() {
		var err error
		l, err = net.Listen("tcp", address)
		Check(t, err)
	})
	t.Cleanup(func() { l.Close() })
	return l
}

func talk(l net.Listener) error {
	conn, err := net.DialTimeout("tcp", l.Addr().String(), Limit)
	if err != nil {
		return err
	}
	return conn.Close()
}

func TestBridge(t *testing.T) {
	if !Isolated(t, Config{Programs: []string{"ip"}}) {
		return
	}
	us, sw, them := Here(t), NewHost(t, "switch"), NewHost(t, "them")
	Cable(End{us, "eth0", ourMAC}, End{sw, "p1", ""})
	Cable(End{them, "eth0", theirMAC}, End{sw, "p2", ""})
	for h, address := range map[*Host]string{us: "192.0.2.1/24", them: "192.0.2.2/24"} {
		h.Address("eth0", address)
		h.Up("eth0")
	}
	began := time.Now()
	sw.Bridge("sw0", Switch{SpanningTree: 2 * time.Second}, "p1", "p2")
	if err := talk(listen(t, them, "192.0.2.2:0")); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < 3*time.Second {
		t.Errorf("the switch let it through after %s", took)
	}
}

func TestProgram(t *testing.T) {
	if !Isolated(t, Config{}) {
		return
	}
	_, them := cabled(t)
	if out := them.Run("cat", "/proc/net/dev"); !strings.Contains(out, "eth1:") || strings.Contains(out, "eth0:") {
		t.Errorf("the neighbour's interfaces are\n%s", out)
	}
	p := them.Start("ready", "sh", "-c", `trap 'kill $!; echo asked to end; exit' TERM; echo one; sleep 60 >/dev/null 2>&1 & echo ready >&2; echo two; wait`)
	p.Await("two")
	p.Stop()
	p.Await("asked to end")
	p.Stop() // again is harmless
	if p.cmd.ProcessState == nil {
		t.Error("it still runs")
	}
}

func TestCapture(t *testing.T) {
	if !Isolated(t, Config{}) {
		return
	}
	us, them := cabled(t)
	c := them.Capture("eth1")
	us.Down("eth0")
	us.Up("eth0")
	us.Address("eth0", "192.0.2.9/24")
	if err := talk(listen(t, them, "192.0.2.2:0")); err != nil {
		t.Fatal(err)
	}
	ours, theirs := hardware(t, ourMAC), hardware(t, theirMAC)
	for end := time.Now().Add(Limit); ; time.Sleep(10 * time.Millisecond) {
		frames := c.Frames()
		sent := slices.ContainsFunc(frames, func(f []byte) bool { return bytes.Equal(f[6:12], ours) })
		answered := slices.ContainsFunc(frames, func(f []byte) bool { return bytes.Equal(f[6:12], theirs) })
		if sent && answered {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("sent %v, answered %v in %d frames", sent, answered, len(frames))
		}
	}
}

func hardware(t *testing.T, mac string) net.HardwareAddr {
	t.Helper()
	hw, err := net.ParseMAC(mac)
	Check(t, err)
	return hw
}

func TestLoopback(t *testing.T) {
	if !Isolated(t, Config{}) {
		return
	}
	here := Here(t)
	if here.Link("lo").Attrs().Flags&net.FlagUp != 0 {
		t.Error("the loopback interface is up unasked")
	}
	here.Loopback("198.51.100.7/24")
	lo, err := net.InterfaceByName("lo")
	Check(t, err)
	group, err := net.ListenMulticastUDP("udp4", lo, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353})
	Check(t, err)
	defer group.Close()
	conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(198, 51, 100, 7)}, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353})
	Check(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("hello"))
	Check(t, err)
	Check(t, group.SetReadDeadline(time.Now().Add(Limit)))
	if n, _, err := group.ReadFrom(make([]byte, 10)); err != nil || n != 5 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestDnsmasq also shows that its process has the programs of an administrator.
func TestDnsmasq(t *testing.T) {
	if !Isolated(t, Config{Programs: []string{"dnsmasq"}}) {
		return
	}
	_, them := cabled(t)
	them.Dnsmasq("eth1", "--dhcp-range=192.0.2.50,192.0.2.60,1h").Stop()
	them.Dnsmasq("eth1", "--port=53", "--address=/name.example/192.0.2.7")
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, "192.0.2.2:53")
	}}
	if got, err := resolver.LookupHost(t.Context(), "name.example"); err != nil || !slices.Equal(got, []string{"192.0.2.7"}) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSubtest(t *testing.T) {
	t.Run("with a space", func(t *testing.T) {
		if Isolated(t, Config{Env: []string{"GIVEN=yes"}}) && os.Getenv("GIVEN") != "yes" {
			t.Error("the environment is not as asked")
		}
	})
}

func TestChildFails(t *testing.T) {
	child(t, func() { t.Error("it is so") })
}

func TestChildSkips(t *testing.T) {
	child(t, func() { t.Skip("it is so") })
}

func TestChildFailsInDo(t *testing.T) {
	child(t, func() { NewHost(t, "them").Do(func() { t.Fatal("it is so") }) })
}

func TestChildEndsEarly(t *testing.T) {
	child(t, func() { os.Exit(0) })
}

func child(t *testing.T, f func()) {
	if os.Getenv(wanted) == "" {
		t.Skip("runs for TestOutcome only")
	}
	if Isolated(t, Config{}) {
		f()
	}
}

// TestOutcome: what happens in the namespace is the test's outcome, a program
// that ends early has not passed, and nothing is skipped where all must run.
func TestOutcome(t *testing.T) {
	t.Parallel()
	if _, err := namespaces(); err != nil {
		Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", err.Error())
	}
	for _, tt := range []struct{ name, require, want string }{
		{"TestChildFails", "", "FAIL"}, {"TestChildSkips", "", "SKIP"}, {"TestChildSkips", "1", "FAIL"},
		{"TestChildFailsInDo", "", "FAIL"}, {"TestChildEndsEarly", "", "FAIL"},
	} {
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+tt.name+"$", "-test.v")
		cmd.Env = append(os.Environ(), wanted+"=1", "PHASE_REQUIRE_ROOT_TESTS="+tt.require)
		out, _ := cmd.CombinedOutput()
		if !strings.Contains(string(out), "--- "+tt.want+": "+tt.name) || tt.name != "TestChildEndsEarly" && !strings.Contains(string(out), "it is so") {
			t.Errorf("%s:\n%s", tt.name, out)
		}
	}
}

// TestPrivate: also in a folder of another system nothing that is mounted is
// seen outside.
func TestPrivate(t *testing.T) {
	if !Isolated(t, Config{}) {
		return
	}
	shared := func() int {
		t.Helper()
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		Check(t, err)
		return strings.Count(string(mounts), " shared:")
	}
	if n := shared(); n > 0 {
		t.Errorf("%d shared mounts", n)
	}
	Check(t, onLostThread(func() error { return propagate(unix.MS_SHARED) }))
	if shared() == 0 {
		t.Error("no mount can be shared")
	}
	Check(t, onLostThread(func() error {
		return errors.Join(unix.Unshare(unix.CLONE_FS), unix.Chroot(t.TempDir()), propagate(unix.MS_PRIVATE))
	}))
	if n := shared(); n > 0 {
		t.Errorf("%d shared mounts after all", n)
	}
}
