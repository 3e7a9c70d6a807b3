package portal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// maxPage is how much of a page is read to know it, in bytes.
const maxPage = 1 << 10

// onlineTexts are what the servers of known checks answer with: those of
// NetworkManager (Debian, Arch), Firefox and Windows.
func onlineTexts() []string {
	return []string{"NetworkManager is online", "success", "Microsoft Connect Test"}
}

// CheckURL refuses what cannot be a Config.CheckURL, with an ErrURL.
func CheckURL(s string) error {
	if u, err := url.Parse(s); err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil {
		return fmt.Errorf("%w: the check's address has to be an http URL without a user name", ErrURL)
	}
	return nil
}

// askCheck asks for a page whose content is known and judges who answered.
func askCheck(ctx context.Context, way http.RoundTripper, check string) answer {
	if check == "" {
		return answer{err: ErrNotAsked}
	}
	if err := CheckURL(check); err != nil {
		return answer{err: err}
	}
	u, err := url.Parse(check)
	if err != nil {
		return answer{err: ErrURL}
	}
	resp, err := get(ctx, way, u, "*/*")
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	return judge(u, resp)
}

// judge says what an answer to the request for asked means. The check's server
// gives status 204 or a known text. Somebody else is known by a redirect, by a
// web page, or by status 511 (RFC 6585, section 6), which says it aloud. What is
// none of these may be a fault of that server, and says nothing.
func judge(asked *url.URL, resp *http.Response) answer {
	switch resp.StatusCode {
	case http.StatusNoContent:
		return answer{}
	case http.StatusNetworkAuthenticationRequired:
		return answer{captive: true, url: location(asked, resp.Header)}
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		to, err := url.Parse(resp.Header.Get("Location"))
		if err == nil && *to != (url.URL{}) && samePlace(asked, asked.ResolveReference(to)) {
			return answer{err: fmt.Errorf("%w: redirected to the same page", ErrUnexpected)}
		}
		return answer{captive: true, url: location(asked, resp.Header)}
	case http.StatusOK:
		return judgePage(resp)
	}
	return answer{err: fmt.Errorf("%w: HTTP status %d", ErrUnexpected, resp.StatusCode)}
}

// judgePage tells the expected text from a web page by the page's beginning.
func judgePage(resp *http.Response) answer {
	page, err := io.ReadAll(io.LimitReader(resp.Body, maxPage))
	for _, text := range onlineTexts() {
		if bytes.HasPrefix(page, []byte(text)) {
			return answer{}
		}
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case kind == "text/html", kind == "application/xhtml+xml",
		strings.HasPrefix(http.DetectContentType(page), "text/html"):
		return answer{captive: true}
	case err != nil:
		return answer{err: fmt.Errorf("the answer ended early: %w", err)}
	}
	return answer{err: fmt.Errorf("%w: neither its server's text nor a web page", ErrUnexpected)}
}

// location is where an answer leads, if that can be shown.
func location(asked *url.URL, h http.Header) string {
	to := h.Get("Location")
	if to == "" {
		return ""
	}
	return shown(to, asked)
}

// samePlace reports whether a server led to its own page: by https, or in a
// circle.
func samePlace(asked, to *url.URL) bool {
	path := func(u *url.URL) string { return strings.TrimSuffix(u.EscapedPath(), "/") }
	return (to.Scheme == "http" || to.Scheme == "https") && to.User == nil &&
		strings.EqualFold(asked.Hostname(), to.Hostname()) && path(asked) == path(to) && asked.RawQuery == to.RawQuery &&
		(to.Scheme == "https" || to.Port() == asked.Port())
}
