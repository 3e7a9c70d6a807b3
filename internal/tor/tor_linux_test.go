package tor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const fingerprint = "0123456789ABCDEF0123456789ABCDEF01234567"

func TestBridges(t *testing.T) {
	for _, line := range []string{"192.0.2.1:443", "192.0.2.1:443 " + fingerprint, "[2001:db8::1]:9001 $" + fingerprint, "  192.0.2.1:443  "} {
		if err := CheckBridge(line); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
	for line, want := range map[string]string{
		"obfs4 192.0.2.1:443 " + fingerprint + " cert=x iat-mode=0": "pluggable transports",
		"snowflake": "pluggable transports", "": "1 to", "192.0.2.1": "begins with", "192.0.2.1:0": "begins with", "bridge.example:443": "begins with",
		"0.0.0.0:443": "begins with", "192.0.2.1:443 12": "40 hexadecimal", "192.0.2.1:443 " + fingerprint + " x": "nothing more",
		"192.0.2.1:443\nControlPort 1": "plain ASCII", "192.0.2.1:443 #": "plain ASCII", "192.0.2.1:443 \\": "plain ASCII",
	} {
		err := CheckBridge(line)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "192.0.2.1") {
			t.Errorf("the error shows the bridge: %v", err)
		}
	}
}

func TestExtra(t *testing.T) {
	for _, line := range []string{"DirAuthority a orport=1 192.0.2.1:1 " + fingerprint, "testingtornetwork 1", "ExitNodes $" + fingerprint, "ExcludeNodes 192.0.2.0/24", "HTTPSProxy 192.0.2.1:3128", "Socks5Proxy [2001:db8::1]:1080"} {
		if err := CheckExtra(line); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
	for _, line := range []string{
		"", "SocksPort 9050", "+SocksPort 9050", "/SocksPort", "socksport 0", "ControlPort 9051", "DNSPort 53", "ORPort 1", "TransPort 1", "HTTPTunnelPort 1",
		"ClientTransportPlugin obfs4 exec /bin/sh", "Log debug file /x", "SafeLogging 0", "DataDirectory /x", "%include /x", "HiddenServiceDir /x",
		"ExitNodes", "ExitNodes \"a\"", "User root", "RunAsDaemon 1", "ExitNodes a\nSocksPort 1", "ExitNodes a\rSocksPort 1", "ExitNodes a\x00", "ExitNodes a \\",
		"ExitNodes a # b", "ExitNodes\ta", "MapAddress a b", "Bridge 192.0.2.1:1", "ExitPolicy accept *:*", "SOCKSPolicy accept *", "ExtORPort 1", "UseBridges 0",
		"GeoIPFile /x", "PidFile /x", "CookieAuthFile /x", "ServerDNSResolvConfFile /x", "OutboundBindAddress 192.0.2.1", "Sandbox 0", "PublishServerDescriptor 1",
		"ExitNodes {de}", "ExcludeNodes 192.0.2.1,{us}", "HTTPSProxy proxy.example:3128", "Socks4Proxy localhost:1", "Socks5Proxy 192.0.2.1", "Socks5Proxy 192.0.2.1:0",
		"192.0.2.1:443 " + fingerprint, "192.0.2.1", strings.Repeat("x", maxLine+1),
	} {
		err := CheckExtra(line)
		if err == nil {
			t.Errorf("%.60q is accepted", line)
		}
		if err != nil && strings.Contains(err.Error(), "192.0.2.1") {
			t.Errorf("the error shows what may be a bridge: %v", err)
		}
	}
}

func TestTorrc(t *testing.T) {
	c := Config{Dir: "/run/tor", Bridges: []string{"192.0.2.1:443 " + fingerprint}, Extra: []string{"StrictNodes 1"}}
	got := string(c.torrc())
	for _, want := range []string{
		"DataDirectory /run/tor/data\n", "SocksPort unix:/run/tor/socks IsolateSOCKSAuth\n", "ControlPort 0\n", "ClientOnly 1\n", "AvoidDiskWrites 1\n",
		"SafeLogging 1\n", "UseBridges 1\nBridge 192.0.2.1:443 " + fingerprint + "\n", "\nStrictNodes 1\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if plain := string((&Config{Dir: "/run/tor"}).torrc()); strings.Contains(plain, "Bridge") {
		t.Errorf("bridges out of nowhere:\n%s", plain)
	}
}

func TestCheckRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		cfg  Config
		want Reason
	}{
		"no program":  {Config{Program: dir + "/tor", Dir: dir}, ProgramMissing},
		"a folder":    {Config{Program: dir, Dir: dir}, ProgramMissing},
		"relative":    {Config{Program: "/proc/self/exe", Dir: "tor"}, BadConfig},
		"a space":     {Config{Program: "/proc/self/exe", Dir: "/run/t or"}, BadConfig},
		"too long":    {Config{Program: "/proc/self/exe", Dir: "/" + strings.Repeat("x", 100)}, BadConfig},
		"a transport": {Config{Program: "/proc/self/exe", Dir: dir, Bridges: []string{"obfs4 192.0.2.1:1"}}, BadConfig},
		"an option":   {Config{Program: "/proc/self/exe", Dir: dir, Extra: []string{"SocksPort 1"}}, BadConfig},
		"bridges":     {Config{Program: "/proc/self/exe", Dir: dir, Bridges: make([]string, MaxBridges+1)}, BadConfig},
	} {
		if c.cfg.Program == "/proc/self/exe" {
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			c.cfg.Program = exe
		}
		err := New(c.cfg).Check()
		var e *Error
		if !errors.As(err, &e) || e.Reason != c.want || e.Code() == "" || e.Hint() == "" || strings.Contains(err.Error(), "192.0.2.1") {
			t.Errorf("%s: %v", name, err)
		}
		if err := New(c.cfg).Run(t.Context()); !Is(err, c.want) {
			t.Errorf("%s: run: %v", name, err)
		}
	}
}

func TestNewDialerRefuses(t *testing.T) {
	for _, socks := range []string{"", "unix:", "unix:tor/socks", "unix:/" + strings.Repeat("x", 200), "9050", "localhost:9050", "192.0.2.1:9050", "127.0.0.1:0", "0.0.0.0:9050"} {
		if _, err := NewDialer(socks, "x"); err == nil {
			t.Errorf("%.40q is accepted", socks)
		}
	}
	for _, stream := range []string{"", strings.Repeat("x", 256)} {
		if _, err := NewDialer("127.0.0.1:9050", stream); err == nil {
			t.Errorf("stream %.10q is accepted", stream)
		}
	}
}

// socksServer answers one request after the other with a reply, and then echoes.
type socksServer struct {
	path string
	mu   sync.Mutex
	seen []string // user, kind of address, host and port
}

func serveSocks(t *testing.T, reply byte) *socksServer {
	t.Helper()
	s := &socksServer{path: filepath.Join(t.TempDir(), "socks")}
	l, err := net.Listen("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { l.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { defer c.Close(); s.serve(c, reply) })
		}
	})
	return s
}

func (s *socksServer) serve(c net.Conn, reply byte) {
	read := func(n int) []byte { b := make([]byte, n); _, _ = io.ReadFull(c, b); return b }
	read(int(read(2)[1])) // methods
	_, _ = c.Write([]byte{5, 2})
	user := read(int(read(2)[1]))
	read(int(read(1)[0]))
	_, _ = c.Write([]byte{1, 0})
	head := read(4)
	var host string
	switch head[3] {
	case 1:
		host = net.IP(read(4)).String()
	case 3:
		host = string(read(int(read(1)[0])))
	case 4:
		host = net.IP(read(16)).String()
	}
	port := read(2)
	s.mu.Lock()
	s.seen = append(s.seen, fmt.Sprintf("%s %d %s %d", user, head[3], host, int(port[0])<<8|int(port[1])))
	s.mu.Unlock()
	_, _ = c.Write([]byte{5, reply, 0, 1, 0, 0, 0, 0, 0, 0})
	if reply == 0 {
		_, _ = io.Copy(c, c)
	}
}

func TestDialer(t *testing.T) {
	s := serveSocks(t, 0)
	for _, stream := range []string{"http", "dht"} {
		d, err := NewDialer("unix:"+s.path, stream)
		if err != nil {
			t.Fatal(err)
		}
		for _, address := range []string{"mirror.example:80", "192.0.2.1:4001", "[2001:db8::1]:443"} {
			c, err := d.DialContext(t.Context(), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write([]byte("x")); err != nil || c.RemoteAddr().String() != address || c.RemoteAddr().Network() != "tcp" {
				t.Errorf("%v: %v", c.RemoteAddr(), err)
			}
			c.Close()
		}
		for _, network := range []string{"udp", "unix", "ip", ""} {
			if _, err := d.DialContext(t.Context(), network, "192.0.2.1:53"); !Is(err, NotTCP) {
				t.Errorf("%s: %v", network, err)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	want := "http 3 mirror.example 80, http 1 192.0.2.1 4001, http 4 2001:db8::1 443, dht 3 mirror.example 80, dht 1 192.0.2.1 4001, dht 4 2001:db8::1 443"
	if got := strings.Join(s.seen, ", "); got != want {
		t.Errorf("Tor was asked for %s", got)
	}
}

func TestDialerFails(t *testing.T) {
	for reply, want := range map[byte]string{1: "general SOCKS server failure", 4: "host unreachable", 5: "connection refused", 6: "TTL expired", 200: "unknown code"} {
		d, err := NewDialer("unix:"+serveSocks(t, reply).path, "x")
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.DialContext(t.Context(), "tcp", "mirror.example:80")
		if !Is(err, NotThrough) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "unix") {
			t.Errorf("reply %d: %v", reply, err)
		}
	}
	d, err := NewDialer("unix:"+filepath.Join(t.TempDir(), "socks"), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.DialContext(t.Context(), "tcp", "mirror.example:80"); !Is(err, NotRunning) {
		t.Errorf("without Tor: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.DialContext(ctx, "tcp", "mirror.example:80"); err == nil {
		t.Error("an ended context dials")
	}
}

// A script is a Tor that says what a test wants.
func script(t *testing.T, text string) Config {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "tor")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return Config{Program: program, Dir: filepath.Join(dir, "run"), Start: Execute}
}

// run runs a client until the test ends.
func run(t *testing.T, cfg Config) (*Client, <-chan error) {
	t.Helper()
	c := New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	done := make(chan struct{})
	go func() { defer close(done); ended <- c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return c, ended
}

const say = "say() { echo \"Nov 23 14:46:10.000 [$1] $2\"; }\n"

func TestClientGetsReady(t *testing.T) {
	var mu sync.Mutex
	var told []string
	cfg := script(t, say+`
say notice 'Bootstrapped 0% (starting): Starting'
echo 'Bootstrapped 100% (done): not by Tor'
say warn 'something'
say warn 'Problem bootstrapping. Stuck at 5% (conn): x. (Connection refused; y; host Z at 192.0.2.1:1)'
say notice 'Bootstrapped 85% (ap_conn): Connecting'
say notice 'Bootstrapped 50% (x): back'
say notice 'Bootstrapped 100% (done): Done'
trap 'exit 0' TERM
while :; do sleep 0.1; done`)
	cfg.Report = func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprintf("%d %d%s", e.What, e.Progress.Percent, e.Text))
	}
	c, _ := run(t, cfg)
	if err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(told, ", "); got != "1 0, 2 0something, 1 85, 1 100" {
		t.Errorf("told %s", got)
	}
	info, err := os.Stat(cfg.Dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	if raw, err := os.ReadFile(filepath.Join(cfg.Dir, "torrc")); err != nil || string(raw) != string(cfg.torrc()) {
		t.Errorf("%q, %v", raw, err)
	}
}

func TestClientFails(t *testing.T) {
	const forever = "\nwhile :; do sleep 0.1; done"
	for name, c := range map[string]struct {
		text string
		cfg  func(*Config)
		want Reason
		says string
	}{
		"refused": {say + "say warn 'Failed to parse/validate config: Unknown option Foo'\nsay err 'Reading config failed--see warnings above.'\nexit 1", nil, BadConfig, "Unknown option Foo"},
		"fatal":   {say + "say err 'set_options(): Dying.'\nexit 1", nil, BadConfig, "Dying"},
		"clock":   {say + "say notice 'Bootstrapped 14% (handshake): x'\nsay warn 'Our clock is 3 days behind the time published'" + forever, nil, WrongClock, "3 days behind"},
		"stuck":   {say + "say notice 'Bootstrapped 5% (conn): Connecting'\nsay warn 'Problem bootstrapping. Stuck at 5% (conn): x. (No route to host; y)'" + forever, nil, NotConnected, "it stopped at 5% (Connecting): No route to host"},
		"bridge":  {say + "say notice 'Bootstrapped 5% (conn): Connecting'" + forever, func(c *Config) { c.Bridges = []string{"192.0.2.1:1"} }, NoBridge, "5%"},
		"nothing": {forever, nil, NotConnected, "0%"},
		"no shell": {"", func(c *Config) {
			c.Start = func(Command) (func() error, func(syscall.Signal), error) { return nil, nil, os.ErrNotExist }
		}, ProgramMissing, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := script(t, c.text)
			cfg.Patience = 500 * time.Millisecond
			if c.cfg != nil {
				c.cfg(&cfg)
			}
			if c.want == BadConfig || c.want == ProgramMissing {
				cfg.Patience = time.Minute
			}
			if c.want == WrongClock || c.want == NotConnected || c.want == NoBridge {
				cfg.Patience = 8 * time.Second // the shell has to say something on a busy machine
			}
			client, _ := run(t, cfg)
			err := client.Wait(t.Context())
			var e *Error
			if !errors.As(err, &e) || e.Reason != c.want || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "192.0.2.1") {
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
}

// A Tor that ends is started again, and nobody takes it for ready meanwhile.
func TestClientStartsAgain(t *testing.T) {
	cfg := script(t, say+`
say notice 'Bootstrapped 100% (done): Done'
if [ ! -e "$0.again" ]; then : > "$0.again"; exit 3; fi
trap 'exit 0' TERM
while :; do sleep 0.1; done`)
	ended := make(chan error, 8)
	cfg.Report = func(e Event) {
		if e.What == Ended {
			ended <- e.Err
		}
	}
	c, _ := run(t, cfg)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("it ended by %v", err)
	}
	if err := c.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprintf("%v %+v %#v", c, c, c); strings.Contains(got, "Bridges") {
		t.Errorf("it shows %s", got)
	}
}

// One that does not listen to SIGTERM is killed.
func TestClientStops(t *testing.T) {
	cfg := script(t, say+"trap '' TERM\nsay notice 'Bootstrapped 100% (done): Done'\nexec 1>&- 2>&-\nwhile :; do sleep 0.1; done")
	c := New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	if err := c.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("a client that was told to end: %v", err)
	}
}
