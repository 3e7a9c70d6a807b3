package net_test

import (
	"compress/gzip"
	"io"
	"log"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// metadata is where clouds keep what no stranger may make a machine read.
const metadata = "169.254.169.254"

// A trick is a mirror that does something else than serve, and what has to be said
// of it.
type trick struct {
	path string
	do   http.HandlerFunc
	said string
}

func tricks() []trick {
	to := func(url string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", url)
			w.WriteHeader(http.StatusFound)
		}
	}
	text := func(kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			_, _ = io.WriteString(w, body)
		}
	}
	return []trick{
		{"/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, "redirect refused: more than 5"},
		{"/wide", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x", http.StatusFound) }, "redirect refused: more than 5"},
		{"/file", to("file:///etc/passwd"), `redirect refused: not a usable URL: scheme "file"`},
		{"/gopher", to("gopher://" + webIP + ":80/"), `redirect refused: not a usable URL: scheme "gopher"`},
		{"/password", to("http://u:p@" + webIP + "/good"), "redirect refused: not a usable URL: contains a user name"},
		{"/metadata", to("http://" + metadata + "/good"), "redirect refused: to the link-local address " + metadata},
		{"/named", to("http://metadata.example/good"), "redirect refused: to the link-local address " + metadata},
		{"/neighbour", to("http://[fe80::1%25eth0]/good"), "redirect refused: to the link-local address fe80::1"},
		{"/page", text("text/html", "<html>sign in"), "answered with a web page"},
		{"/511", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(511) }, "HTTP status 511"},
		{"/long", text("application/json", strings.Repeat(" ", 3000)), "answer too large"},
		{"/endless", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat(" ", 1<<16)); err != nil {
					return
				}
			}
		}, "answer too large"},
		{"/packed", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(make([]byte, 1<<20))
			_ = z.Close()
		}, "answer has a content encoding"},
		{"/mute", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "while waiting for its answer"},
		{"/drip", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, " ")
				w.(http.Flusher).Flush()
				select {
				case <-time.After(100 * time.Millisecond):
				case <-r.Context().Done():
				}
			}
		}, "t"}, // some end of the time, here or there
	}
}

// Every trick at once, over http and https, and one honest mirror: it is found, the
// time is kept, each trick is told, and nobody was led to a forbidden place.
func TestHostileMirrors(t *testing.T) {
	if !isolated(t, "dnsmasq") {
		return
	}
	s := newSite(t)
	s.configure(routerLAN)
	ca := s.authority()
	s.router.Dnsmasq("lan0", "--port=53", "--address=/metadata.example/"+metadata, "--address=/example/"+webIP)
	reached := s.forbidden()
	folder := s.publish(7)
	mux := http.NewServeMux()
	mux.Handle("/good/", http.StripPrefix("/good", http.FileServer(http.Dir(folder))))
	mux.Handle("/forged/", http.StripPrefix("/forged", http.FileServer(http.Dir(s.forge(1000)))))
	args := []string{"--no-mdns", "-t", "4s"}
	all := tricks()
	for _, trick := range all {
		mux.HandleFunc(trick.path+"/", trick.do)
		args = append(args, "--mirror", "http://web.example"+trick.path)
	}
	s.serve(s.web, webIP+":80", mux)
	now, files := time.Now().Add(-time.Minute), http.FileServer(http.Dir(folder))
	s.serveTLS(s.web, webIP+":443", ca.server("early.example", time.Now().Add(24*time.Hour)), files)
	s.serveTLS(s.web, webIP+":1443", ca.server("down.example", now), http.RedirectHandler("http://web.example/good", http.StatusFound))
	s.serveTLS(s.web, webIP+":2443", ca.server("other.example", now), files)
	s.serveTLS(s.web, webIP+":3443", s.authority().server("stranger.example", now), files)
	for mirror, said := range map[string]string{
		"https://early.example":         "the certificate is not valid at this machine's time (is its clock right?)",
		"https://down.example:1443":     "redirect refused: from https to http",
		"https://wrong.example:2443":    "the certificate is for another host",
		"https://stranger.example:3443": "nobody known vouches for the certificate",
		"https://web.example:80":        "answered without TLS",
	} {
		all = append(all, trick{path: mirror, said: said})
		args = append(args, "--mirror", mirror)
	}
	f := s.discoverWith(ca.trusted(), append(args, "--mirror", "http://web.example/forged", "--mirror", "http://web.example/good")...)
	f.found(t, 7)
	for _, trick := range all {
		name := trick.path
		if trick.do != nil {
			name = "http://web.example" + name
		}
		f.failure(t, name, trick.said)
	}
	for _, c := range f.Candidates {
		if forged := c.Source == "http://web.example/forged"; c.Verified == forged || forged && c.Reason == "" {
			t.Errorf("candidate %+v", c)
		}
	}
	if f.took > 14*time.Second { // less than a client's own patience
		t.Errorf("took %s of 4s", f.took)
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("forbidden addresses were reached %d times", n)
	}
	// Alone, none of them is believed.
	f = s.discoverWith(ca.trusted(), append(args[3:], "--no-mdns", "-t", "4s", "--mirror", "http://web.example/forged")...)
	f.failed(t, "DISC-002")
}

// forbidden puts servers where no redirect may lead, in reach of the client, and
// counts who comes.
func (s *site) forbidden() *atomic.Int64 {
	s.Helper()
	var reached atomic.Int64
	s.router.Address("lan0", metadata+"/32", "fe80::1/64")
	for _, address := range []string{metadata + ":80", "[fe80::1%lan0]:80"} {
		s.serve(s.router, address, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			reached.Add(1)
			w.WriteHeader(http.StatusTeapot)
		}))
	}
	return &reached
}

// forge makes a folder with a release that a stranger signed.
func (s *site) forge(version int64) string {
	s.Helper()
	own, root := s.keys, s.root
	defer func() { s.keys, s.root = own, root }()
	s.makeRoot()
	return s.publish(version)
}
