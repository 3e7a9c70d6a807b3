package net_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/debpkg"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/system"
	"github.com/phasebased/phase/internal/tor"
	"github.com/phasebased/phase/manifest"
)

// torVar names the folder with Tor, its libraries and the keys of a private Tor
// network, in a namespace.
const torVar = "PHASE_NET_TOR"

// The private Tor network: authorities, and exits. All of them relay.
const (
	authorities = 3
	exits       = 2
	torPort     = 9001
	torUID      = 9050
	torLimit    = 90 * time.Second // for the network to agree on who it is, on a busy machine
)

// relayIP is the address of a relay in the wide area network.
func relayIP(n int) string { return fmt.Sprintf("203.0.113.%d", 11+n) }

// prepareTor unpacks Debian's Tor, as it goes on media, without installing it:
// installed, it starts, and becomes a client of the real network.
func prepareTor(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	nettest.Check(t, err)
	arch, err := manifest.ParseArch(runtime.GOARCH)
	nettest.Check(t, err)
	packages := &debpkg.Cache{Dir: filepath.Join(cache, "phase", "test-packages")}
	files, _, err := system.Programs(t.Context(), packages, arch, "tor", "bin/tor", "bin/tor-gencert")
	if err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", "Tor cannot be had: "+err.Error())
	}
	dir := t.TempDir()
	nettest.Check(t, os.Chmod(dir, 0o755))
	nettest.Check(t, os.Chmod(filepath.Dir(dir), 0o755)) // Tor runs as another user
	for name, data := range files {
		path := filepath.Join(dir, name)
		nettest.Check(t, os.MkdirAll(filepath.Dir(path), 0o755))
		nettest.Check(t, os.WriteFile(path, data, 0o755))
	}
	return dir
}

// A torNet is a private Tor network on one machine.
type torNet struct {
	*site
	dir     string // of programs
	host    *nettest.Host
	lines   []string // that make a Tor its member
	relays  map[netip.AddrPort]bool
	running []*nettest.Program
}

// command is a program of Debian's Tor with the libraries beside it.
func (n *torNet) command(program string, args ...string) *exec.Cmd {
	n.Helper()
	loaders, err := filepath.Glob(filepath.Join(n.dir, "lib*", "ld-linux*"))
	nettest.Check(n, err)
	libraries, err := filepath.Glob(filepath.Join(n.dir, "lib", "*-linux-gnu"))
	nettest.Check(n, err)
	if len(loaders) == 0 || len(libraries) == 0 {
		n.Fatalf("no loader or no libraries in %s", n.dir)
	}
	return exec.Command(loaders[0], append([]string{"--library-path", libraries[0], filepath.Join(n.dir, "usr", "bin", program)}, args...)...)
}

// newTorNet makes authorities and exits on a machine of their own in the wide area
// network, and starts them.
func newTorNet(s *site) *torNet {
	s.Helper()
	n := &torNet{site: s, dir: os.Getenv(torVar), host: s.web, relays: map[netip.AddrPort]bool{}}
	state := s.TempDir()
	var certs []string
	for i := range authorities + exits {
		s.web.Address("eth0", relayIP(i)+"/24")
		n.relays[netip.AddrPortFrom(netip.MustParseAddr(relayIP(i)), torPort)] = true
		nettest.Check(s, os.MkdirAll(filepath.Join(state, fmt.Sprint(i), "keys"), 0o700))
	}
	n.lines = []string{"TestingTorNetwork 1"}
	for i := range authorities {
		certs = append(certs, n.certify(filepath.Join(state, fmt.Sprint(i)), i))
	}
	for i, cert := range certs {
		n.lines = append(n.lines, fmt.Sprintf("DirAuthority a%d orport=%d no-v2 v3ident=%s %s:%d %s",
			i, torPort, cert, relayIP(i), torPort+1, n.fingerprint(filepath.Join(state, fmt.Sprint(i)), i)))
	}
	for i := range authorities + exits {
		n.start(filepath.Join(state, fmt.Sprint(i)), i)
	}
	return n
}

// complete waits until the authorities agree on all relays, and on where to leave
// the network. Clients that come earlier keep half a network for a while.
func (n *torNet) complete() {
	n.Helper()
	var last string
	for deadline := time.Now().Add(torLimit); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		last = n.consensus()
		if strings.Count(last, "\nr ") == authorities+exits && exitFlag.MatchString(last) {
			return
		}
	}
	n.Fatalf("the authorities do not agree on %d relays: %s", authorities+exits, last)
}

// exitFlag is in the line of a relay's flags (dir-spec, section 3.4.1).
var exitFlag = regexp.MustCompile(`(?m)^s .*\bExit\b`)

// consensus is what the first authority says of the network; "" if nothing.
func (n *torNet) consensus() string {
	n.Helper()
	var conn net.Conn
	var err error
	n.host.Do(func() { conn, err = net.Dial("tcp", net.JoinHostPort(relayIP(0), fmt.Sprint(torPort+1))) })
	if err != nil {
		return "" // it is not listening yet
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(nettest.Limit))
	fmt.Fprint(conn, "GET /tor/status-vote/current/consensus-microdesc HTTP/1.0\r\n\r\n")
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

// certify makes the keys of an authority, and returns its identity.
func (n *torNet) certify(dir string, i int) string {
	n.Helper()
	keys := filepath.Join(dir, "keys")
	cmd := n.command("tor-gencert", "--create-identity-key", "-m", "12", "-a", fmt.Sprintf("%s:%d", relayIP(i), torPort+1), "--passphrase-fd", "0",
		"-i", filepath.Join(keys, "authority_identity_key"), "-s", filepath.Join(keys, "authority_signing_key"), "-c", filepath.Join(keys, "authority_certificate"))
	cmd.Stdin = strings.NewReader("\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		n.Fatalf("tor-gencert: %v\n%s", err, out)
	}
	raw, err := os.ReadFile(filepath.Join(keys, "authority_certificate"))
	nettest.Check(n, err)
	for line := range strings.Lines(string(raw)) {
		if id, ok := strings.CutPrefix(line, "fingerprint "); ok {
			return strings.TrimSpace(id)
		}
	}
	n.Fatalf("no fingerprint in %s", raw)
	return ""
}

// fingerprint makes the keys of a relay, and returns its own identity.
func (n *torNet) fingerprint(dir string, i int) string {
	n.Helper()
	dummy := "DirAuthority x orport=1 no-v2 v3ident=" + strings.Repeat("A", 40) + " 192.0.2.1:1 " + strings.Repeat("A", 40)
	out, err := n.host.Output(n.command("tor", "-f", n.torrc(dir, i, "TestingTorNetwork 1", dummy), "--list-fingerprint", "--quiet"))
	if err != nil {
		n.Fatalf("tor --list-fingerprint: %v\n%s", err, out)
	}
	_, id, _ := strings.Cut(strings.TrimSpace(out), " ")
	return strings.ReplaceAll(id, " ", "")
}

// torrc writes the configuration of a relay.
func (n *torNet) torrc(dir string, i int, lines ...string) string {
	n.Helper()
	resolv := filepath.Join(dir, "resolv.conf")
	nettest.Check(n, os.WriteFile(resolv, []byte("nameserver "+webIP+"\n"), 0o644))
	lines = append(lines,
		"DataDirectory "+dir, "Nickname r"+fmt.Sprint(i), "Address "+relayIP(i), "ORPort "+fmt.Sprintf("%s:%d", relayIP(i), torPort),
		"OutboundBindAddress "+relayIP(i), "SocksPort 0", "Log notice stdout", "SafeLogging 0", "AvoidDiskWrites 1", "ShutdownWaitLength 0",
		"AssumeReachable 1", "ContactInfo none", "ServerDNSResolvConfFile "+resolv, "ServerDNSDetectHijacking 0", "ServerDNSTestAddresses",
		"ServerDNSAllowBrokenConfig 1", "PathsNeededToBuildCircuits 0.67", "V3AuthNIntervalsValid 2", "NumCPUs 1")
	if i < authorities {
		lines = append(lines, "AuthoritativeDirectory 1", "V3AuthoritativeDirectory 1", fmt.Sprintf("DirPort %s:%d", relayIP(i), torPort+1), "ExitPolicy reject *:*",
			"TestingV3AuthInitialVotingInterval 10", "TestingV3AuthInitialVoteDelay 2", "TestingV3AuthInitialDistDelay 2",
			"V3AuthVotingInterval 10", "V3AuthVoteDelay 2", "V3AuthDistDelay 2",
			"TestingDirAuthVoteExit *", "TestingDirAuthVoteHSDir *", "TestingDirAuthVoteGuard *", "TestingMinExitFlagThreshold 0")
	} else {
		lines = append(lines, "ExitRelay 1", "ExitPolicyRejectPrivate 0", "ExitPolicy accept *:*")
	}
	path := filepath.Join(dir, "torrc")
	nettest.Check(n, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return path
}

func (n *torNet) start(dir string, i int) {
	n.Helper()
	cmd := n.command("tor", "-f", n.torrc(dir, i, n.lines...), "--defaults-torrc", os.DevNull)
	n.running = append(n.running, n.host.StartCommand("", cmd))
}

// client starts the Tor of the machine under test, and waits until it can be used.
func (n *torNet) client(uid uint32, extra ...string) (socks string, stop func()) {
	n.Helper()
	dir := filepath.Join(n.TempDir(), "tor")
	nettest.Check(n, os.Chmod(filepath.Dir(dir), 0o755))
	nettest.Check(n, os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o755))
	ctx, cancel := context.WithCancel(n.Context())
	c := tor.New(tor.Config{
		Program: filepath.Join(n.dir, "usr", "bin", "tor"), Dir: dir, UID: uid, Extra: append(n.lines, extra...), Patience: torLimit,
		Start: func(c tor.Command) (func() error, func(syscall.Signal), error) {
			cmd := n.command("tor", c.Args...)
			c.Path, c.Args = cmd.Path, cmd.Args[1:]
			return tor.Execute(c)
		},
		Report: func(e tor.Event) {
			n.Logf("client: %d%% %s %s %v", e.Progress.Percent, e.Progress.Summary, e.Text, e.Err)
		},
	})
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stop = func() { cancel(); nettest.Check(n, <-ended); ended <- nil }
	n.Cleanup(stop)
	if err := c.Wait(ctx); err != nil {
		n.Fatalf("%v: %v", c, err)
	}
	return tor.Socks(dir), stop
}

// strays are the frames that went to, or came from, anybody but the relays: all but
// ARP and what IPv6 says on its own link.
func (n *torNet) strays(c *nettest.Capture) (out []string) {
	n.Helper()
	ours := n.client0()
	through := 0
	for _, f := range c.Frames() {
		from, to, proto, ok := endpoints(f)
		switch {
		case !ok:
		case proto == unix.IPPROTO_ICMPV6 && to.Addr().IsMulticast():
		case proto == unix.IPPROTO_TCP && (from.Addr() == ours && n.relays[to] || to.Addr() == ours && n.relays[from]):
			through++
		default:
			out = append(out, fmt.Sprintf("%v to %v, protocol %d", from, to, proto))
		}
	}
	if through == 0 {
		n.Error("the capture sees no Tor")
	}
	return out
}

func (n *torNet) client0() netip.Addr { return netip.MustParseAddr(clientIP) }

// endpoints reads who a frame of IP is from and to; ports are of TCP and UDP.
func endpoints(f []byte) (from, to netip.AddrPort, proto byte, ok bool) {
	if len(f) < 14 {
		return from, to, 0, false
	}
	kind, p := [2]byte(f[12:14]), f[14:]
	var a, b netip.Addr
	switch {
	case kind == [2]byte{8, 0} && len(p) >= 20 && len(p) >= int(p[0]&15)*4:
		a, b, proto = netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20])), p[9]
		p = p[int(p[0]&15)*4:]
	case kind == [2]byte{0x86, 0xdd} && len(p) >= 40:
		a, b, proto = netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40])), p[6]
		p = p[40:]
		if proto == 0 && len(p) > 0 { // hop-by-hop options, of multicast listeners
			proto = p[0]
		}
	default:
		return from, to, 0, false
	}
	var source, target uint16
	if (proto == unix.IPPROTO_TCP || proto == unix.IPPROTO_UDP) && len(p) >= 4 {
		source, target = uint16(p[0])<<8|uint16(p[1]), uint16(p[2])<<8|uint16(p[3])
	}
	return netip.AddrPortFrom(a, source), netip.AddrPortFrom(b, target), proto, true
}

// All that the programs ask goes through Tor: a provider by its name, and the DHT.
// Nobody but the relays hears from this machine, also when Tor is gone in the
// middle of a transfer.
func TestThroughTor(t *testing.T) {
	if !isolatedTor(t) {
		return
	}
	s := newSite(t)
	s.configure(webIP) // who would answer, if asked
	s.web.Dnsmasq("eth0", "--port=53", "--address=/mirror.example/"+webIP, "--address=/slow.example/"+webIP)
	folder, ready := s.publish(7), filepath.Join(t.TempDir(), "ready.json")
	n := newTorNet(s)
	s.provide(s.web, folder, "--no-mdns", "--ready-file", ready, "--p2p-listen", "/ip4/"+webIP+"/tcp/4001")
	uid := uint32(0)
	if manyUsers() {
		uid = torUID
	}
	n.complete()
	seen := s.client.Capture("eth0")
	began := time.Now()
	socks, stop := n.client(uid)
	t.Logf("Tor was ready after %s", time.Since(began).Round(time.Second))

	peer := peerAt(t, ready, webIP+"/")
	f := s.discover("--tor", socks, "--mirror", "http://mirror.example", "-b", peer, "-t", "60s")
	f.found(t, 7)
	gave := map[string]bool{}
	for _, c := range f.Candidates {
		gave[c.Source] = true
	}
	if !gave["dht"] || !gave["http://mirror.example"] {
		t.Errorf("only %v gave the release", gave)
	}
	s.fetchThrough(folder, "--tor", socks)
	if got := n.strays(seen); len(got) > 0 {
		t.Errorf("%d frames went past Tor: %q", len(got), got[:min(len(got), 8)])
	}
	n.cut(socks, stop)
	f = s.discover("--tor", socks, "--mirror", "http://mirror.example", "-b", peer, "-t", "5s")
	f.failed(t, "DISC-001")
	f.failure(t, "http://mirror.example", "Tor does not answer, and nothing is asked without it")
	f.failure(t, "dht", "Tor does not answer")
	if got := n.strays(seen); len(got) > 0 {
		t.Errorf("without Tor %d frames went out: %q", len(got), got[:min(len(got), 8)])
	}
	if uid == torUID {
		n.guarded(seen, peer)
	}
}

// guarded shows that the kernel lets nobody out but Tor, and Tor indeed: a program
// that would ask directly sends nothing.
func (n *torNet) guarded(seen *nettest.Capture, peer string) {
	n.Helper()
	for _, setting := range []string{"all", "default", "eth0"} {
		n.site.client.Set("net/ipv4/conf/"+setting+"/rp_filter", "0") // as in our systems
	}
	nettest.Check(n, netup.Guard(torUID))
	f := n.discover("--no-mdns", "--mirror", "http://mirror.example", "--mirror", "http://"+webIP, "-b", peer, "-t", "5s")
	f.failed(n, "DISC-001")
	f.failure(n, "http://"+webIP, "network is unreachable")
	f.failure(n, "dht", "network is unreachable")
	socks, _ := n.client(torUID)
	n.discover("--tor", socks, "--mirror", "http://mirror.example", "-t", "60s").found(n, 7)
	if got := n.strays(seen); len(got) > 0 {
		n.Errorf("past the guard %d frames went out: %q", len(got), got[:min(len(got), 8)])
	}
}

// cut stops Tor in the middle of a transfer.
func (n *torNet) cut(socks string, stop func()) {
	n.Helper()
	n.serve(n.web, webIP+":8080", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write(make([]byte, 1024))
			_ = http.NewResponseController(w).Flush()
			time.Sleep(5 * time.Millisecond)
		}
	}))
	dialer, err := tor.NewDialer(socks, "slow")
	nettest.Check(n, err)
	client := fetch.NewClientThrough(nil, dialer.DialContext)
	resp, err := client.Get("http://slow.example:8080/")
	nettest.Check(n, err)
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, 4<<10); err != nil {
		n.Fatal(err)
	}
	stop()
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		n.Error("the transfer came to an end without Tor")
	}
	if _, err := client.Get("http://slow.example:8080/"); !tor.Is(err, tor.NotRunning) {
		n.Errorf("another transfer: %v", err)
	}
}

// isolatedTor is isolated with Debian's Tor.
func isolatedTor(t *testing.T) bool {
	t.Helper()
	var dir string
	if builder.dir != "" {
		nettest.Check(t, build())
		dir = prepareTor(t)
	}
	return nettest.Isolated(t, nettest.Config{Programs: []string{"dnsmasq"}, Env: []string{programsVar + "=" + builder.dir, torVar + "=" + dir}, Timeout: 4 * time.Minute})
}

// manyUsers reports whether this process may become another user.
func manyUsers() bool {
	raw, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.HasSuffix(strings.TrimSpace(string(raw)), "4294967295")
}
