package net_test

import (
	"bytes"
	"crypto/tls"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/nettest"
)

const (
	farIP    = "192.0.2.7" // of web, as the proxy sees it
	proxyIP  = "10.1.0.3"
	password = "s3cret-word"
	proxyURL = "http://somebody:" + password + "@" + proxyIP + ":3128"
)

const tinyproxyConf = `Port 3128
Listen ` + proxyIP + `
Timeout 20
MaxClients 20
LogLevel Info
BasicAuth somebody ` + password + `
ConnectPort 443
`

// A network that nothing leaves but by its proxy: http and https mirrors are found
// through it, neighbours without it, and each way in which it fails is told.
func TestProxy(t *testing.T) {
	if !isolated(t, "dnsmasq", "tinyproxy") {
		return
	}
	s := newSite(t)
	s.configure(farIP)
	ca, folder := s.authority(), s.publish(9)
	host := s.neighbour("proxy", proxyIP)
	nettest.Cable(nettest.End{Host: host, Device: "wan"}, nettest.End{Host: s.web, Device: "eth1"})
	host.Address("wan", "192.0.2.3/24")
	host.Up("wan")
	s.web.Address("eth1", farIP+"/24")
	s.web.Up("eth1")
	s.web.Dnsmasq("eth1", "--port=53", "--address=/mirror.example/"+farIP, "--address=/secure.example/"+farIP)
	s.provide(s.web, folder)
	s.serveTLS(s.web, farIP+":443", ca.server("secure.example", time.Now().Add(-time.Minute)), http.FileServer(http.Dir(folder)))
	s.provide(s.neighbour("box", "10.1.0.9"), s.publish(7))
	conf := filepath.Join(t.TempDir(), "tinyproxy.conf")
	nettest.Check(t, os.WriteFile(conf, []byte(tinyproxyConf), 0o644))
	proxy := host.Start("Accepting connections", "tinyproxy", "-d", "-c", conf)

	const web, secure = "http://mirror.example", "https://secure.example"
	ask := func(proxy string, mirrors ...string) finding {
		t.Helper()
		args := []string{"--no-mdns", "-t", "10s"}
		if proxy != "" {
			args = append(args, "--proxy", proxy)
		}
		for _, m := range mirrors {
			args = append(args, "--mirror", m)
		}
		f := s.discoverWith(ca.trusted(), args...)
		if strings.Contains(f.stderr+f.Error, password) {
			t.Error("the password is shown")
		}
		return f
	}
	f := ask("", web, secure, "http://"+farIP)
	f.failed(t, "DISC-001")
	f.failure(t, web, "no name server answers")
	f.failure(t, secure, "no name server answers")
	f.failure(t, "http://"+farIP, "unreachable")

	f = ask(proxyURL, web, secure)
	f.found(t, 9)
	if len(f.Candidates) != 2 {
		t.Errorf("answers: %+v", f.Candidates)
	}
	s.fetchThrough(folder, "--proxy", proxyURL)

	f = ask("http://somebody:wrong@"+proxyIP+":3128", web, secure, "http://10.1.0.9")
	f.found(t, 7) // the neighbour
	f.failure(t, web, "through the proxy: the proxy wants a user name and password, or others (HTTP status 401)")
	f.failure(t, secure, "through the proxy: the proxy wants a user name and password, or others (HTTP status 401)")

	f = ask(proxyURL, secure+":8443", "http://nowhere.example")
	f.failed(t, "DISC-001")
	f.failure(t, secure+":8443", "the proxy refused to connect to the source (HTTP status 403)")
	f.failure(t, "http://nowhere.example", "through the proxy: HTTP status 50")

	proxy.Stop()
	f = ask(proxyURL, web, secure, "http://10.1.0.9")
	f.found(t, 7)
	f.failure(t, web, "through the proxy: the proxy does not answer: dial tcp "+proxyIP)
	f.failure(t, secure, "through the proxy: the proxy does not answer: dial tcp "+proxyIP)
}

// serveTLS answers https on a machine until the test ends.
func (s *site) serveTLS(h *nettest.Host, address string, cfg *tls.Config, handler http.Handler) {
	s.Helper()
	srv := &http.Server{Handler: handler, ErrorLog: quiet()}
	l := s.listen(h, address)
	go func() { _ = srv.Serve(tls.NewListener(l, cfg)) }()
	s.Cleanup(func() { srv.Close() })
}

// fetchThrough downloads the release of a folder by its manifest, in the way that the
// arguments say.
func (s *site) fetchThrough(folder string, args ...string) {
	s.Helper()
	dir, into := filepath.Join(folder, "stable", "x86_64"), s.TempDir()
	cmd := exec.CommandContext(s.Context(), program("phase-fetch"), append(args, "-m", filepath.Join(dir, "manifest.json"), "-k", s.root,
		"--provider", "http://mirror.example", "-o", into, "-t", "30s")...)
	if out, err := s.client.Output(cmd); err != nil {
		s.Errorf("phase-fetch: %v\n%s", err, out)
		return
	}
	for _, name := range []string{"kernel", "initramfs", "rootfs"} {
		got, err := os.ReadFile(filepath.Join(into, name))
		nettest.Check(s, err)
		if want, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
			s.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
