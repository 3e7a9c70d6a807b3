// Package portal finds out whether a captive portal, the sign-in page of a
// hotel, a train or a guest network, stands between this machine and the
// Internet, and where one signs in.
//
// There are two ways to know, and both are asked at once: the network itself may
// say so through the API of RFC 8908, whose address comes with DHCP or router
// advertisements (RFC 8910); and a plain HTTP request for a page whose content
// is known shows whether somebody else answers in its place. What was seen
// counts more than what was told, so a broken or lying API hides nothing.
//
// Nobody asked is trusted. Whoever controls the network can make both ways say
// anything: that there is a portal, that there is none, that one signs in at an
// address of his. So an answer is only ever shown to a person; nothing else may
// depend on it. Time and bytes are bounded, redirects are not followed, nothing
// is sent but the request, and a URL is shown only if it is short, printable
// and http or https.
package portal

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// patience bounds Ask as a whole.
	patience = 8 * time.Second
	// grace is the part of that time which a portal that was seen, and did not
	// say where to sign in, leaves the API to say it.
	grace = 4
	// maxAnswer bounds the head of each answer, and what is read of its body, in
	// bytes.
	maxAnswer = 16 << 10
	// maxURL bounds a URL that is shown, in bytes.
	maxURL = 512
)

// Config says whom to ask. At least one of CheckURL and API is needed.
type Config struct {
	// Client makes the requests, with its transport alone: redirects and
	// cookies are left out. It should use no proxy, since what is asked is
	// whether there is a way without one. Nil, or without a transport: one of
	// our own.
	Client *http.Client
	// Roots judge the API's certificate if Client does not; nil: the system's.
	Roots *x509.CertPool
	// CheckURL is an http URL whose own server is known to answer with status
	// 204, or with one of the texts that operating systems use for this purpose
	// ("NetworkManager is online", "success", "Microsoft Connect Test"). https
	// will not do: nobody can answer in another's place there. Empty: not asked.
	CheckURL string
	// API is the URI that the network named (RFC 8910); empty: it named none.
	API string
	// Timeout bounds Ask; 0 means 8 s.
	Timeout time.Duration
}

// Who says that there is a portal.
const (
	FromCheck = "check" // somebody else answered for the check's server
	FromAPI   = "api"   // the network's own API
)

// Login is a portal. Its zero value means that there is none.
type Login struct {
	// URL is where one signs in: a stranger's word, but printable ASCII without
	// spaces, at most 512 bytes, http or https, and without a user name. If the
	// portal does not say, it is the check's URL, which a browser is led away
	// from; empty if there was no check either.
	URL string
	// From is FromCheck or FromAPI.
	From string
}

// Found reports whether there is a portal.
func (l Login) Found() bool { return l.From != "" }

// An answer is what one of the two ways says.
type answer struct {
	captive bool
	url     string // where to sign in; empty if it does not say
	err     error  // it says nothing
}

// ErrNotAsked: there was no address to ask.
var ErrNotAsked = errors.New("no address to ask")

// Ask asks both ways and returns what is known, within Timeout. An *Error means that
// neither gave an answer, for instance since the network is down: that says
// nothing about a portal.
func Ask(ctx context.Context, cfg Config) (Login, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = patience
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	way, release := cfg.transport()
	var running sync.WaitGroup
	defer func() { cancel(); running.Wait(); release() }()
	check, api := make(chan answer, 1), make(chan answer, 1)
	running.Go(func() { check <- askCheck(ctx, way, cfg.CheckURL) })
	running.Go(func() { api <- askAPI(ctx, way, cfg.API) })

	seen := <-check
	if seen.err == nil && (!seen.captive || seen.url != "") {
		return decide(cfg.CheckURL, seen, answer{err: ErrNotAsked})
	}
	if seen.err != nil {
		return decide(cfg.CheckURL, seen, <-api)
	}
	wait := time.NewTimer(cfg.Timeout / grace)
	defer wait.Stop()
	select {
	case told := <-api:
		return decide(cfg.CheckURL, seen, told)
	case <-wait.C:
		return decide(cfg.CheckURL, seen, answer{err: ErrNotAsked})
	}
}

// decide puts together what was seen and what was told.
func decide(checkURL string, seen, told answer) (Login, error) {
	from, said := FromCheck, seen
	switch {
	case seen.err != nil && told.err != nil:
		return Login{}, &Error{Check: seen.err, API: told.err}
	case seen.err != nil:
		from, said = FromAPI, told
	}
	if !said.captive {
		return Login{}, nil
	}
	l := Login{URL: said.url, From: from}
	if l.URL == "" && told.err == nil && told.captive {
		l.URL = told.url
	}
	if l.URL == "" {
		l.URL = shown(checkURL, nil)
	}
	return l, nil
}

// transport returns what makes one request, and what ends it.
func (cfg Config) transport() (http.RoundTripper, func()) {
	if cfg.Client != nil && cfg.Client.Transport != nil {
		return cfg.Client.Transport, func() {}
	}
	t := &http.Transport{
		DialContext:            (&net.Dialer{}).DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12},
		MaxResponseHeaderBytes: maxAnswer,
		DisableCompression:     true,
		DisableKeepAlives:      true,
	}
	return t, t.CloseIdleConnections
}

// get makes one request. Whoever gets the response closes its body.
func get(ctx context.Context, way http.RoundTripper, u *url.URL, accept string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("Cache-Control", "no-cache")
	req.Header.Set("User-Agent", "phase-portal")
	resp, err := way.RoundTrip(req)
	if err != nil && ctx.Err() != nil {
		return nil, errors.New("no answer in time")
	}
	return resp, err
}

// shown returns the URL that raw means, seen from base unless that is nil, if it
// can be shown to a person; else the empty string.
func shown(raw string, base *url.URL) string {
	if len(raw) > maxURL {
		return ""
	}
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	if base != nil {
		u = base.ResolveReference(u)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Opaque != "" || !plainHost(u.Hostname()) {
		return ""
	}
	s := u.String()
	if len(s) > maxURL || strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		return ""
	}
	return s
}

// plainHost accepts names and addresses as people type them.
func plainHost(host string) bool {
	return host != "" && strings.IndexFunc(host, func(r rune) bool {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !alnum && !strings.ContainsRune("-._:%", r)
	}) < 0
}
