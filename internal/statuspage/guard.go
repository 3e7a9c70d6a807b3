package statuspage

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// policy lets the page use what this server serves, and nothing else. The verifier
// needs wasm-unsafe-eval, which allows WebAssembly and no eval. Markup is never made
// out of strings by the script, so no policy of trusted types has to exist.
const policy = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// guarded refuses what is not for this machine or not of this page, and tells
// browsers how to treat the rest.
func (p *Page) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
		switch {
		case !p.serves(r.RemoteAddr):
			http.Error(w, "this node's page is for its own network", http.StatusForbidden)
		case !p.answersTo(r.Host):
			http.Error(w, "this node's page is not served under that name", http.StatusMisdirectedRequest)
		case !sameOrigin(r):
			http.Error(w, "this is not for pages of other sites", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// serves reports whether the page answers an address with a port.
func (p *Page) serves(remote string) bool {
	if p.cfg.Serves == nil {
		return true
	}
	from, err := netip.ParseAddrPort(remote)
	return err == nil && p.cfg.Serves(from.Addr().Unmap())
}

// answersTo reports whether host, with or without a port, is this machine and not a
// name that somebody else can have point to it. The port does not matter: it may be
// another at the far end of a tunnel.
func (p *Page) answersTo(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if ip, err := netip.ParseAddr(name); err == nil {
		return p.cfg.AnyIP || ip.Unmap().IsLoopback()
	}
	same := func(allowed string) bool { return strings.EqualFold(name, allowed) }
	return same("localhost") || slices.ContainsFunc(p.cfg.Hosts, same)
}

// sameOrigin reports whether a browser was sent here by this page or by a person: by
// what it says itself (Fetch Metadata), else by the origin. What is no browser says
// neither. A person may follow a link from elsewhere to a page, which the other site
// cannot read.
func sameOrigin(r *http.Request) bool {
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "same-origin", "none":
		return true
	case "":
		origin := r.Header.Get("Origin")
		return origin == "" || origin == "http://"+r.Host || origin == "https://"+r.Host
	}
	return r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
}

// cookieName is of the cookie that a browser gets for the token.
const cookieName = "phase-page"

// session is what the cookie holds: it shows that its owner knew the token, does not
// show the token, and ends when the token is replaced.
func (p *Page) session() string {
	mac := hmac.New(sha256.New, []byte(p.cfg.Token))
	mac.Write([]byte("phase status page session v1"))
	return hex.EncodeToString(mac.Sum(nil))
}

// same compares in a time that says nothing about either text, not even its length.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// admitted reports whether who asks has shown the token, or none is asked for.
func (p *Page) admitted(r *http.Request) bool {
	if p.cfg.Token == "" {
		return true
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return same(token, p.cfg.Token)
	}
	cookie, err := r.Cookie(cookieName)
	return err == nil && same(cookie.Value, p.session())
}

// known lets through who is admitted, and shows a person the form.
func (p *Page) known(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case p.admitted(r):
			next.ServeHTTP(w, r)
		case r.Method == http.MethodGet && r.URL.Path == "/":
			http.Redirect(w, r, "/login", http.StatusSeeOther)
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="phase status page"`)
			http.Error(w, "the token of this page is needed", http.StatusUnauthorized)
		}
	})
}

func (p *Page) getLogin(w http.ResponseWriter, r *http.Request) {
	if p.admitted(r) {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	p.show(w, http.StatusOK, "login", shownPage{Title: "Token"})
}

func (p *Page) postLogin(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "this form cannot be read", http.StatusBadRequest)
		return
	}
	if p.cfg.Token != "" && !same(strings.TrimSpace(r.PostForm.Get("token")), p.cfg.Token) {
		p.show(w, http.StatusForbidden, "login", shownPage{Title: "Token", Wrong: true})
		return
	}
	p.setCookie(w, p.session(), 0)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (p *Page) postLogout(w http.ResponseWriter, r *http.Request) {
	p.setCookie(w, "", -1)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// setCookie gives a browser a cookie until it is closed. It is not for HTTPS only:
// this server has none.
func (p *Page) setCookie(w http.ResponseWriter, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: maxAge,
	})
}
