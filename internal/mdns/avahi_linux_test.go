package mdns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/debpkg"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/discover/discovertest"
	"github.com/phasebased/phase/internal/nettest"
)

// The tests in this file put us and Avahi on one cable. Avahi has a message bus of
// its own, and files under /run that nobody else sees.
//
// Avahi is the installed one, or else is unpacked from Debian's packages without
// installing them: installed, avahi-daemon starts on the machine and tells the
// network about it, which no test may do to its user.

// avahiVar tells the process that runs a test where Avahi is.
const avahiVar = "PHASE_MDNS_TEST_AVAHI"

// limit is how long any single event may take to come.
const limit = nettest.Limit

var check = nettest.Check

// onCable reports true in the process that shall run the test, in its own network.
func onCable(t *testing.T, env ...string) bool {
	t.Helper()
	if os.Getenv(avahiVar) == "" {
		avahi, err := findAvahi()
		if err != nil {
			nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", err.Error())
		}
		env = append(env, avahiVar+"="+avahi)
	}
	return nettest.Isolated(t, nettest.Config{Programs: []string{"dbus-daemon"}, Env: env})
}

// avahiPackages are what Avahi consists of, beyond what a Debian machine with
// dbus-daemon has.
var avahiPackages = []string{
	"avahi-daemon", "avahi-utils", "libavahi-core7", "libavahi-common3", "libavahi-client3", "libavahi-common-data",
	"libdaemon0", "libgdbm6", "libexpat1", "libcap2",
}

// findAvahi returns the root of the file system with Avahi in it: "/" or a folder
// with the unpacked packages.
var findAvahi = sync.OnceValues(func() (string, error) {
	ctx := context.Background()
	_, err1 := os.Stat("/usr/sbin/avahi-daemon")
	_, err2 := os.Stat("/usr/bin/avahi-browse")
	if err1 == nil && err2 == nil {
		return "/", nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	packages := debpkg.Cache{Dir: filepath.Join(cache, "phase", "test-packages")}
	root := filepath.Join(packages.Dir, "avahi")
	for _, name := range avahiPackages {
		p, err := packages.Get(ctx, name, runtime.GOARCH)
		if err != nil {
			return "", fmt.Errorf("Avahi cannot be had: %w", err)
		}
		if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", p.Path(), root).CombinedOutput(); err != nil {
			return "", fmt.Errorf("unpack %s: %w: %s", name, err, out)
		}
	}
	return root, nil
})

// neighbour is another machine, at the far end of our cables.
type neighbour struct {
	*nettest.Host
	t   *testing.T
	dir string
}

func newNeighbour(t *testing.T) *neighbour {
	t.Helper()
	check(t, unix.Mount("tmpfs", "/run", "tmpfs", 0, ""))
	check(t, os.Mkdir("/run/avahi-daemon", 0o755))
	// Avahi wants its user, who exists only where it was installed.
	for path, line := range map[string]string{"/etc/passwd": "avahi:x:0:0::/:/bin/false\n", "/etc/group": "avahi:x:0:\n"} {
		raw, err := os.ReadFile(path)
		check(t, err)
		others := regexp.MustCompile(`(?m)^avahi:.*\n`).ReplaceAll(raw, nil)
		copied := filepath.Join("/run", filepath.Base(path))
		check(t, os.WriteFile(copied, append(others, line...), 0o644))
		check(t, unix.Mount(copied, path, "", unix.MS_BIND, ""))
	}
	return &neighbour{Host: nettest.NewHost(t, "neighbour"), t: t, dir: t.TempDir()}
}

// command is a program with Avahi's libraries and bus, not yet on the neighbour.
func (n *neighbour) command(args ...string) *exec.Cmd {
	n.t.Helper()
	root := os.Getenv(avahiVar)
	if path := filepath.Join(root, "usr/bin", args[0]); strings.HasPrefix(args[0], "avahi-") {
		if _, err := os.Stat(path); err != nil {
			path = filepath.Join(root, "usr/sbin", args[0])
		}
		args[0] = path
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+n.dir+"/bus", "LC_ALL=C.UTF-8")
	if root != "/" {
		libs, err := filepath.Glob(root + "/usr/lib/*-linux-gnu*")
		check(n.t, err)
		more, err := filepath.Glob(root + "/lib/*-linux-gnu*")
		check(n.t, err)
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+strings.Join(append(libs, more...), ":"))
	}
	return cmd
}

func (n *neighbour) run(args ...string) string {
	n.t.Helper()
	out, err := n.Output(n.command(args...))
	if err != nil {
		n.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// start runs a program until the test ends and waits until it says ready.
func (n *neighbour) start(ready string, args ...string) {
	n.t.Helper()
	n.StartCommand(ready, n.command(args...))
}

// avahi starts Avahi and its message bus.
func (n *neighbour) avahi() {
	n.t.Helper()
	bus := filepath.Join(n.dir, "bus.conf")
	check(n.t, os.WriteFile(bus, []byte(`<busconfig><type>system</type><listen>unix:path=`+n.dir+`/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/><allow user="*"/></policy></busconfig>`), 0o644))
	conf := filepath.Join(n.dir, "avahi.conf")
	check(n.t, os.WriteFile(conf, []byte("[server]\nhost-name=neighbour\nuse-ipv4=yes\nuse-ipv6=yes\n[publish]\npublish-hinfo=no\npublish-workstation=no\n"), 0o644))
	n.start("unix:", "dbus-daemon", "--config-file="+bus, "--nofork", "--nopidfile", "--print-address=1")
	n.start("Server startup complete", "avahi-daemon", "--no-drop-root", "--no-chroot", "--no-rlimits", "--no-proc-title", "-f", conf)
}

// browse is avahi-browse; wanted says what to wait for.
func (n *neighbour) browse(wanted func(out string) bool) string {
	n.t.Helper()
	out := ""
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if out = n.run("avahi-browse", "-rpt", Service); wanted(out) {
			return out
		}
	}
	n.t.Fatalf("avahi-browse says\n%s", out)
	return ""
}

// all waits for all of these texts. It takes avahi-browse more than once to tell
// the IPv4 addresses: it tells what it hears first.
func all(texts ...string) func(out string) bool {
	return func(out string) bool {
		return !slices.ContainsFunc(texts, func(s string) bool { return !strings.Contains(out, s) })
	}
}

// cable connects us with the neighbour, with the same name at both ends.
func cable(t *testing.T, n *neighbour, device string, ours, theirs []string) {
	t.Helper()
	here := nettest.Here(t)
	nettest.Cable(nettest.End{Host: here, Device: device}, nettest.End{Host: n.Host, Device: device})
	here.Address(device, ours...)
	n.Address(device, theirs...)
	here.Up(device)
	n.Up(device)
}

// awaitLinks waits until the kernel lets us use this many links.
func awaitLinks(t *testing.T, want int) {
	t.Helper()
	for end := time.Now().Add(limit); len(listLinks()) != want; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d links, want %d: %+v", len(listLinks()), want, listLinks())
		}
	}
}

// serve serves a pointer on all our addresses and returns the port.
func serve(t *testing.T, q discover.Query, pointer []byte) int {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	check(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/"+q.Channel+"/"+q.Arch+"/pointer.json" {
			_, _ = w.Write(pointer)
		}
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// avahiOnCable is a neighbour who runs Avahi: we are 192.0.2.1, it is 192.0.2.2.
func avahiOnCable(t *testing.T) *neighbour {
	t.Helper()
	n := newNeighbour(t)
	cable(t, n, "eth0", []string{"192.0.2.1/24"}, []string{"192.0.2.2/24"})
	awaitLinks(t, 2)
	n.avahi()
	return n
}

// Avahi finds and resolves what we announce, loses it when we stop, and resolves
// our host name.
func TestAvahiFindsUs(t *testing.T) {
	if !onCable(t) {
		return
	}
	n := avahiOnCable(t)
	a, err := Announce(Announcement{
		Host: "box.example.org", Query: stable, Version: 7, Manifest: "/stable/x86_64/manifest.json", Port: 8080,
		P2P: []string{"/ip4/127.0.0.1/tcp/4001/p2p/" + peerID, "/ip4/192.0.2.1/tcp/4001/p2p/" + peerID},
	})
	check(t, err)
	defer a.Close()
	said := a.Announced()
	if said.Instance != "plasmd-box._phase-image._tcp.local." || said.At.IsZero() || said.Renamed != 0 {
		t.Errorf("announced %+v", said)
	}
	out := n.browse(all(
		"=;eth0;IPv4;plasmd-box;_phase-image._tcp;local;plasmd-box.local;192.0.2.1;8080;",
		`"channel=stable"`, `"arch=x86_64"`, `"version=7"`, `"manifest=/stable/x86_64/manifest.json"`,
		`"p2p=/ip4/192.0.2.1/tcp/4001/p2p/`+peerID+`"`,
		"=;eth0;IPv6;plasmd-box;_phase-image._tcp;local;plasmd-box.local;",
	))
	if strings.Contains(out, "127.0.0.1") {
		t.Errorf("loopback is told:\n%s", out)
	}
	if got := n.run("avahi-resolve", "-4", "-n", "plasmd-box.local"); !strings.Contains(got, "192.0.2.1") {
		t.Errorf("our host resolves to %q", got)
	}
	if got := n.run("avahi-browse", "-apt"); !strings.Contains(got, Service) {
		t.Errorf("our type of service is unknown:\n%s", got)
	}
	check(t, a.Close())
	n.browse(func(out string) bool { return !strings.Contains(out, "plasmd-box") }) // and not only when it is too old
}

// We find what Avahi publishes, with all that DNS-SD allows in a name, beside a
// provider on the same machine that offers something else.
func TestWeFindAvahi(t *testing.T) {
	if !onCable(t) {
		return
	}
	n := avahiOnCable(t)
	pointer := discovertest.Pointer(t, stable, 7)
	port := neighbourServes(t, n, pointer)
	n.start("Established", "avahi-publish", "-s", `My box. Nr. 2 \ é`, Service, port, "channel=stable", "arch=x86_64",
		"p2p=/ip4/192.0.2.2/tcp/4001/p2p/"+peerID, "p2p2=/ip4/198.51.100.1/tcp/4001/p2p/"+peerID)
	n.start("Established", "avahi-publish", "-s", "other", Service, port, "channel=testing", "arch=x86_64")
	peers := discover.NewPeers()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var got discover.Candidate
	begin := time.Now()
	err := Source{Get: get, Peers: peers}.Search(ctx, stable, func(c discover.Candidate) { got = c; cancel() })
	t.Logf("found after %v", time.Since(begin))
	if err != nil || got.Origin != `mdns My box. Nr. 2 \ ??` && got.Origin != `mdns My box. Nr. 2 \ ?` || string(got.Pointer) != string(pointer) {
		t.Errorf("found %+v, error %v", got, err)
	}
	if len(got.Bases) != 1 || got.Bases[0] != "http://192.0.2.2:"+port && !strings.HasPrefix(got.Bases[0], "http://[fe80::") {
		t.Errorf("bases %q", got.Bases)
	}
	if list := peers.List(); len(list) != 1 || list[0] != "/ip4/192.0.2.2/tcp/4001/p2p/"+peerID {
		t.Errorf("peers %q", list)
	}
}

// The command finds what Avahi publishes, and says so.
func TestPhaseDiscoverFindsAvahi(t *testing.T) {
	const programVar = "PHASE_MDNS_TEST_PROGRAM"
	program := os.Getenv(programVar)
	if program == "" { // out here, where the network is
		program = filepath.Join(t.TempDir(), "phase-discover")
		build := exec.Command("go", "build", "-o", program, "github.com/phasebased/phase/cmd/phase-discover")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if !onCable(t, programVar+"="+program) {
		return
	}
	n := avahiOnCable(t)
	port := neighbourServes(t, n, discovertest.Pointer(t, stable, 7))
	n.start("Established", "avahi-publish", "-s", "box", Service, port, "channel=stable", "arch=x86_64")
	cmd := exec.Command(program, "-a", "x86_64", "-t", "5s", "-f", "json")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), `"manifest_version": 7`) || !strings.Contains(string(out), ":"+port+`/stable/x86_64/manifest.json"`) {
		t.Errorf("%v\n%s%s", err, out, errs.String())
	}
}

// neighbourServes serves a pointer from the neighbour's address.
func neighbourServes(t *testing.T, n *neighbour, pointer []byte) string {
	t.Helper()
	dir := filepath.Join(n.dir, "www", "stable", "x86_64")
	check(t, os.MkdirAll(dir, 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "pointer.json"), pointer, 0o644))
	n.start("Serving HTTP", "python3", "-u", "-m", "http.server", "-b", "::", "-d", filepath.Join(n.dir, "www"), "8087")
	return "8087"
}

// Two providers of one name are told apart, also when the other one is Avahi's.
func TestRenamedOnConflict(t *testing.T) {
	if !onCable(t) {
		return
	}
	n := avahiOnCable(t)
	n.start("Established", "avahi-publish", "-s", "plasmd-box", Service, "9999", "channel=stable", "arch=x86_64")
	say := Announcement{Host: "box", Query: stable, Version: 7, Port: 8080}
	a, err := Announce(say)
	check(t, err)
	defer a.Close()
	if said := a.Announced(); said.Instance != "plasmd-box-2._phase-image._tcp.local." || said.Host != "plasmd-box-2.local." || said.Renamed != 1 {
		t.Errorf("announced %+v", said)
	}
	// Another one on this machine, with the same name and another port.
	say.Port = 8081
	b, err := Announce(say)
	check(t, err)
	defer b.Close()
	if said := b.Announced(); said.Instance != "plasmd-box-3._phase-image._tcp.local." {
		t.Errorf("announced %+v", said)
	}
	n.browse(all(";plasmd-box;_phase-image._tcp;local;neighbour.local;192.0.2.2;9999;", ";plasmd-box-2.local;192.0.2.1;8080;", ";plasmd-box-3.local;192.0.2.1;8081;"))
	// Who comes later and is told that our name is taken takes another one.
	n.start(`Name collision, picking new name`, "avahi-publish", "-s", "plasmd-box-2", Service, "9998")
	if said := a.Announced(); said.Instance != "plasmd-box-2._phase-image._tcp.local." {
		t.Errorf("driven out: %+v", said)
	}
}

// On each of several interfaces its own addresses are told; one that comes later
// counts as well.
func TestSeveralInterfaces(t *testing.T) {
	if !onCable(t) {
		return
	}
	n := avahiOnCable(t)
	a, err := Announce(Announcement{Host: "box", Query: stable, Version: 7, Port: 8080})
	check(t, err)
	defer a.Close()
	cable(t, n, "eth1", []string{"198.51.100.1/24"}, []string{"198.51.100.2/24"})
	n.browse(all("=;eth0;IPv4;plasmd-box;_phase-image._tcp;local;plasmd-box.local;192.0.2.1;8080;", "=;eth1;IPv4;plasmd-box;_phase-image._tcp;local;plasmd-box.local;198.51.100.1;8080;"))
	if said := a.Announced(); !slices.Contains(said.Addrs, netip.MustParseAddr("198.51.100.1")) || !slices.Contains(said.Addrs, netip.MustParseAddr("192.0.2.1")) {
		t.Errorf("announced %+v", said)
	}
	// A cable that is pulled takes its records with it, and nothing else.
	here := nettest.Here(t)
	check(t, here.Handle.LinkDel(here.Link("eth0")))
	n.browse(func(out string) bool {
		return !strings.Contains(out, ";eth0;") && strings.Contains(out, "=;eth1;IPv4;")
	})
	// Browsing, too, takes up an interface that comes while it listens.
	pointer := discovertest.Pointer(t, stable, 7)
	port := neighbourServes(t, n, pointer)
	n.start("Established", "avahi-publish", "-s", "late", Service, port, "channel=stable", "arch=x86_64")
	here.Down("eth1")
	awaitLinks(t, 0)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	go func() {
		time.Sleep(300 * time.Millisecond)
		here.Up("eth1")
	}()
	var got []discover.Candidate
	err = Source{Get: get}.Search(ctx, stable, func(c discover.Candidate) { got = append(got, c); cancel() })
	if err != nil || len(got) == 0 || got[0].Origin != "mdns late" {
		t.Errorf("found %+v, error %v", got, err)
	}
}

// Without IPv4, routers and DHCP, link-local addresses are enough.
func TestLinkLocalIPv6(t *testing.T) {
	if !onCable(t) {
		return
	}
	n := newNeighbour(t)
	cable(t, n, "eth0", nil, nil)
	awaitLinks(t, 1)
	n.avahi()
	pointer := discovertest.Pointer(t, stable, 7)
	port := neighbourServes(t, n, pointer)
	n.start("Established", "avahi-publish", "-s", "theirs", Service, port, "channel=stable", "arch=x86_64")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var got discover.Candidate
	err := Source{Get: get}.Search(ctx, stable, func(c discover.Candidate) { got = c; cancel() })
	if err != nil || len(got.Bases) != 1 || !strings.HasPrefix(got.Bases[0], "http://[fe80::") || !strings.HasSuffix(got.Bases[0], "%25eth0]:"+port) {
		t.Errorf("found %+v, error %v", got, err)
	}
	a, err := Announce(Announcement{Host: "box", Query: stable, Version: 7, Port: serve(t, stable, pointer)})
	check(t, err)
	defer a.Close()
	n.browse(all("=;eth0;IPv6;plasmd-box;_phase-image._tcp;local;plasmd-box.local;fe80::"))
}

// Without anything to ask on, that is what is said.
func TestNoLink(t *testing.T) {
	if !onCable(t) {
		return
	}
	peers := discover.NewPeers()
	for _, src := range []discover.Source{Source{Get: get, Wait: 50 * time.Millisecond, Peers: peers}, discover.Joined{Peers: peers}} {
		if err := src.Search(t.Context(), stable, func(discover.Candidate) { t.Error("found") }); !errors.Is(err, ErrNoLink) {
			t.Errorf("search: %v", err)
		}
	}
	if a, err := Announce(Announcement{Host: "box", Query: stable, Port: 1}); !errors.Is(err, ErrNoLink) {
		a.Close()
		t.Errorf("announce: %v", err)
	}
}

// A program that has the port for itself cannot keep us from asking.
func TestPortTaken(t *testing.T) {
	if !onCable(t) {
		return
	}
	n := avahiOnCable(t)
	for _, network := range []string{"udp4", "udp6"} {
		s, err := net.ListenPacket(network, ":5353")
		check(t, err)
		defer s.Close()
	}
	pointer := discovertest.Pointer(t, stable, 7)
	n.start("Established", "avahi-publish", "-s", "theirs", Service, neighbourServes(t, n, pointer), "channel=stable", "arch=x86_64")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	found := 0
	err := Source{Get: get}.Search(ctx, stable, func(discover.Candidate) { found++; cancel() })
	if err != nil || found == 0 {
		t.Errorf("found %d, error %v", found, err)
	}
	if _, err := Announce(Announcement{Host: "box", Query: stable, Port: 1}); err == nil {
		t.Error("announced without the port")
	}
}
