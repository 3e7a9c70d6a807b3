// Package net_test puts the shipped programs on networks as they are outside the
// lab: with sign-in pages, broken name servers, proxies, IPv6 alone, providers
// that lie or hang. Each test makes its network itself, out of namespaces, and
// leaves nothing behind.
//
// The networks look alike. A router stands between a LAN, on which the machine
// under test is, and the Internet, on which a server is:
//
//	client 10.1.0.2 ─┐
//	others 10.1.0.x ─┴─ 10.1.0.1 router 203.0.113.1 ── 203.0.113.7 web
package net_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/release"
)

const (
	repository = "../.."
	// programsVar names the folder with the programs under test.
	programsVar = "PHASE_NET_PROGRAMS"

	routerLAN, routerWAN = "10.1.0.1", "203.0.113.1"
	clientIP, webIP      = "10.1.0.2", "203.0.113.7"
	// nobody is an address that no machine on the LAN has.
	nobody = "10.1.0.66"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv(programsVar) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "phase-net-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	builder.dir = dir
	return m.Run()
}

// builder makes the programs, once, in the process that is not in a namespace.
var builder struct {
	dir  string // empty in a namespace
	once sync.Once
	err  error
}

func build() error {
	builder.once.Do(func() {
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", builder.dir, "./cmd/phase-discover", "./cmd/phase-fetch", "./cmd/plasmd")
		cmd.Dir, cmd.Env = repository, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			builder.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	return builder.err
}

// isolated is nettest.Isolated with the programs under test.
func isolated(t *testing.T, programs ...string) bool {
	t.Helper()
	if builder.dir != "" {
		nettest.Check(t, build())
	}
	return nettest.Isolated(t, nettest.Config{Programs: programs, Env: []string{programsVar + "=" + builder.dir}})
}

// A site is the network of a test.
type site struct {
	*testing.T
	client, router, web *nettest.Host

	keys   *release.Keys
	root   string // path of the root that vouches for all releases
	resolv string // path of what the machines see as /etc/resolv.conf
	ports  int    // of the switch in the router
}

// newSite makes the three machines. The client has its cable and nothing else.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{T: t, client: nettest.Here(t), router: nettest.NewHost(t, "router"), web: nettest.NewHost(t, "web")}
	s.client.Up("lo")
	s.router.Set("net/ipv4/ip_forward", "1")
	s.router.Set("net/ipv6/conf/all/forwarding", "1")
	s.router.Bridge("lan0", nettest.Switch{})
	nettest.Cable(nettest.End{Host: s.router, Device: "wan0"}, nettest.End{Host: s.web, Device: "eth0"})
	s.plug(s.client)
	s.router.Address("lan0", routerLAN+"/24", "2001:db8:1::1/64")
	s.router.Address("wan0", routerWAN+"/24", "2001:db8:2::1/64")
	s.router.Up("wan0")
	s.web.Address("eth0", webIP+"/24", "2001:db8:2::7/64")
	s.web.Up("eth0")
	s.web.Route("10.1.0.0/24", routerWAN)
	s.web.Route("2001:db8:1::/64", "2001:db8:2::1")
	s.bindResolv()
	s.makeRoot()
	return s
}

// plug connects a machine to the LAN by its interface eth0.
func (s *site) plug(h *nettest.Host) {
	s.Helper()
	s.ports++
	port := "p" + strconv.Itoa(s.ports)
	nettest.Cable(nettest.End{Host: h, Device: "eth0"}, nettest.End{Host: s.router, Device: port})
	nettest.Check(s, s.router.Handle.LinkSetMaster(s.router.Link(port), s.router.Link("lan0")))
	s.router.Up(port)
	h.Up("eth0")
}

// neighbour is another machine on the LAN.
func (s *site) neighbour(name, address string) *nettest.Host {
	s.Helper()
	h := nettest.NewHost(s.T, name)
	s.plug(h)
	h.Address("eth0", address+"/24")
	return h
}

// configure gives the client what a person would type.
func (s *site) configure(nameServers ...string) {
	s.Helper()
	s.client.Address("eth0", clientIP+"/24")
	s.client.Route("0.0.0.0/0", routerLAN)
	s.nameServers(nameServers...)
}

// bindResolv gives this process, and all programs that it starts, an
// /etc/resolv.conf of their own.
func (s *site) bindResolv() {
	s.Helper()
	s.resolv = filepath.Join(s.TempDir(), "resolv.conf")
	nettest.Check(s, os.WriteFile(s.resolv, nil, 0o644))
	real, err := filepath.EvalSymlinks("/etc/resolv.conf")
	nettest.Check(s, err)
	nettest.Check(s, unix.Mount(s.resolv, real, "", unix.MS_BIND, ""))
}

// nameServers writes the resolv.conf.
func (s *site) nameServers(addrs ...string) {
	s.Helper()
	var text string
	for _, a := range addrs {
		text += "nameserver " + a + "\n"
	}
	s.writeResolv(text + "options timeout:1 attempts:3\n")
}

func (s *site) writeResolv(text string) {
	s.Helper()
	nettest.Check(s, os.WriteFile(s.resolv, []byte(text), 0o644)) // in place: the file itself is mounted
}

func (s *site) makeRoot() {
	s.Helper()
	var err error
	s.keys, err = release.NewKeys()
	nettest.Check(s, err)
	raw, err := s.keys.RootFile(time.Now().AddDate(1, 0, 0))
	nettest.Check(s, err)
	s.root = filepath.Join(s.TempDir(), "root.json")
	nettest.Check(s, os.WriteFile(s.root, raw, 0o644))
}

// publish makes a folder with a release of this version.
func (s *site) publish(version int64) string {
	s.Helper()
	dir, files := s.TempDir(), s.TempDir()
	r := release.Release{
		Channel: "stable", Arch: "x86_64", Version: version, Created: time.Now().Add(-time.Hour),
		Expires: time.Now().AddDate(0, 3, 0), PointerExpiry: time.Now().AddDate(0, 0, 7), Bases: []string{"http://mirror.example"},
	}
	for name, into := range map[string]*string{"kernel": &r.Kernel, "initramfs": &r.Initramfs, "rootfs": &r.Rootfs} {
		*into = filepath.Join(files, name)
		nettest.Check(s, os.WriteFile(*into, fmt.Appendf(nil, "%s %d", name, version), 0o644))
	}
	root, err := os.ReadFile(s.root)
	nettest.Check(s, err)
	_, err = release.Publish(dir, r, s.keys, root)
	nettest.Check(s, err)
	return dir
}

// provide runs plasmd serve on a machine until the test ends. Without further
// arguments it is a mirror that announces nothing.
func (s *site) provide(h *nettest.Host, folder string, args ...string) *nettest.Program {
	s.Helper()
	if len(args) == 0 {
		args = []string{"--no-dht", "--no-mdns"}
	}
	base := []string{program("plasmd"), "serve", "-a", folder, "-A", "x86_64", "-p", "80", "--ephemeral"}
	return h.Start("serving", append(base, args...)...)
}

// serve answers HTTP on a machine until the test ends.
func (s *site) serve(h *nettest.Host, address string, handler http.Handler) {
	s.Helper()
	srv := &http.Server{Handler: handler}
	l := s.listen(h, address)
	go func() { _ = srv.Serve(l) }()
	s.Cleanup(func() { srv.Close() })
}

func (s *site) listen(h *nettest.Host, address string) (l net.Listener) {
	s.Helper()
	h.Do(func() {
		s.Helper()
		var err error
		l, err = net.Listen("tcp", address)
		nettest.Check(s, err)
	})
	s.Cleanup(func() { l.Close() })
	return l
}

func program(name string) string { return filepath.Join(os.Getenv(programsVar), name) }

// A finding is what phase-discover came to.
type finding struct {
	exit   int
	took   time.Duration
	stderr string

	URL        string  `json:"manifest_url"`
	Version    int64   `json:"manifest_version"`
	Verified   bool    `json:"verified"`
	TookMS     float64 `json:"took_ms"`
	Sources    []source
	Candidates []candidate
	Portal     *struct {
		Found bool
		URL   string
		Error string
	}
	Error, Code, Hint string
}

type source struct {
	Name       string
	Candidates int
	TookMS     float64 `json:"took_ms"`
	Error      string
}

type candidate struct {
	Source, Origin, Reason string
	AtMS                   float64 `json:"at_ms"`
	Version                int64   `json:"manifest_version"`
	Verified               bool
}

// discover runs phase-discover on the client, which has to end within its budget
// and a little more, and reads its account.
func (s *site) discover(args ...string) finding {
	s.Helper()
	return s.discoverWith(nil, args...)
}

func (s *site) discoverWith(env []string, args ...string) finding {
	s.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(s.Context(), program("phase-discover"), append([]string{"-a", "x86_64", "-k", s.root, "-f", "json"}, args...)...)
	cmd.Env = append(append(os.Environ(), "NO_COLOR=1"), env...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	var err error
	start := time.Now()
	s.client.Do(func() { err = cmd.Run() })
	f := finding{took: time.Since(start), stderr: errs.String(), exit: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &f); err != nil {
		s.Fatalf("phase-discover %q: %v\n%s%s", args, err, &out, &errs)
	}
	s.Logf("phase-discover %q: exit %d after %s\n%s%s", args, f.exit, f.took.Round(time.Millisecond), &out, &errs)
	if strings.Contains(out.String()+errs.String(), "\x1b") {
		s.Errorf("colours, without a terminal")
	}
	return f
}

// found says that a verified pointer of this version has to be the result.
func (f finding) found(t testing.TB, version int64) {
	t.Helper()
	if f.exit != 0 || f.Version != version || !f.Verified || f.URL == "" {
		t.Errorf("exit %d, version %d, verified %t, %q; want version %d", f.exit, f.Version, f.Verified, f.Error, version)
	}
}

// failed says that nothing may have been found, for a reason with this code.
func (f finding) failed(t testing.TB, code string) {
	t.Helper()
	if f.exit != 1 || f.URL != "" || f.Code != code || f.Hint == "" {
		t.Errorf("exit %d, %q, code %q, hint %q; want code %s", f.exit, f.URL, f.Code, f.Hint, code)
	}
}

// failure says that a source has to have failed with this text.
func (f finding) failure(t testing.TB, name, text string) {
	t.Helper()
	for _, s := range f.Sources {
		if s.Name != name {
			continue
		}
		if s.Candidates > 0 || !strings.Contains(s.Error, text) {
			t.Errorf("%s: %d candidates, error %q, want %q", name, s.Candidates, s.Error, text)
		}
		return
	}
	t.Errorf("%s is not among the sources", name)
}
