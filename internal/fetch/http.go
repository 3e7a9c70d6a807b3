package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/phasebased/phase/blob"
)

// NewHTTP is the Source of one http or https URL, asked with a client like
// NewClient's. It keeps no connection when client does not.
func NewHTTP(client *http.Client, url string) Source {
	return &httpSource{client: client, url: url}
}

// httpSource is one URL of one blob.
type httpSource struct {
	client *http.Client
	url    string

	mu        sync.Mutex
	validator string // of the last answer, for If-Range; empty: none, or unusable
}

func (s *httpSource) String() string { return s.url }

// resumable says that a whole that broke off can be continued: the server can be
// told which version of the file the first bytes were of.
func (s *httpSource) resumable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.validator != ""
}

// Read implements Source with one request. A part of a blob without a chunk list
// continues the whole that was read last.
func (s *httpSource) Read(ctx context.Context, p Part, w io.Writer) (err error) {
	ctx, way := withRoute(ctx)
	defer func() { err = way.tell(err) }()
	resp, err := request(ctx, s.client, s.url, s.header(p))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := s.accept(resp, p); err != nil {
		return err
	}
	if err := copyPart(ctx, w, resp.Body, p); err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK && !p.Whole() {
		return nil // the head of a whole: enough was seen
	}
	return atEnd(resp.Body, p)
}

func (s *httpSource) header(p Part) http.Header {
	if p.Whole() {
		return nil
	}
	h := http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", p.Offset, p.Offset+p.Length-1)}}
	if p.Chunks == nil {
		h.Set("Range", fmt.Sprintf("bytes=%d-", p.Offset))
		s.mu.Lock()
		h.Set("If-Range", s.validator)
		s.mu.Unlock()
	}
	return h
}

// accept looks at an answer's head before any byte of its body is taken.
func (s *httpSource) accept(resp *http.Response, p Part) error {
	n, want := resp.ContentLength, p.Length
	status := http.StatusOK
	if !p.Whole() {
		status = http.StatusPartialContent
	}
	switch {
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && !p.Whole():
		return fmt.Errorf("%w: %w", ErrRange, &StatusError{Code: resp.StatusCode})
	case resp.StatusCode == http.StatusOK && !p.Whole():
		if isWebPage(resp.Header) {
			return ErrWebPage
		}
		if p.Chunks == nil || p.Offset > 0 {
			return errNoRanges
		}
		status, want = http.StatusOK, p.Size
	}
	if err := checkHead(resp, status); err != nil {
		return err
	}
	if n != want && isWebPage(resp.Header) {
		return ErrWebPage
	}
	if status == http.StatusPartialContent {
		if err := s.checkRange(resp.Header, p); err != nil {
			return err
		}
		if n >= 0 && n != want {
			return fmt.Errorf("%w: %d bytes instead of %d", ErrRange, n, want)
		}
	} else if n >= 0 && n != want {
		return &blob.MismatchError{Want: p.Blob, WantSize: p.Size, GotSize: n}
	}
	s.mu.Lock()
	s.validator = validator(resp.Header)
	s.mu.Unlock()
	return nil
}

// checkRange wants exactly the part of the same file (RFC 9110, 14.4). A server
// whose file changed is told once; it may have the right one now.
func (s *httpSource) checkRange(h http.Header, p Part) error {
	want := fmt.Sprintf("bytes %d-%d/%d", p.Offset, p.Offset+p.Length-1, p.Size)
	if got := h.Get("Content-Range"); got != want {
		return fmt.Errorf("%w: Content-Range %.80q instead of %q", ErrRange, got, want)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.validator
	if v := validator(h); v != "" && was != "" && v != was {
		s.validator = ""
		return fmt.Errorf("%w: the file changed (validator %.80q, was %.80q)", ErrRange, v, was)
	}
	return nil
}

// errNoRanges: the server sends the whole file, whatever part was asked for.
var errNoRanges = fmt.Errorf("%w: the whole file", ErrRange)

// copyPart copies the part's bytes from a body that begins with them.
func copyPart(ctx context.Context, w io.Writer, body io.Reader, p Part) error {
	n, err := io.Copy(w, io.LimitReader(body, p.Length))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return attemptError(ctx, err)
	}
	if n < p.Length {
		return fmt.Errorf("%w: after %d of %d bytes", ErrShort, n, p.Length)
	}
	return nil
}

// atEnd wants no more: one byte is enough to notice a source that goes on.
func atEnd(body io.Reader, p Part) error {
	if n, _ := io.ReadFull(body, make([]byte, 1)); n == 0 {
		return nil
	}
	if !p.Whole() {
		return fmt.Errorf("%w: more than %d bytes", ErrRange, p.Length)
	}
	return &blob.MismatchError{Want: p.Blob, WantSize: p.Size, GotSize: p.Size + 1}
}

// request sends a GET and waits for the head of the answer.
func request(ctx context.Context, c *http.Client, u string, header http.Header) (*http.Response, error) {
	if err := checkURL(u); err != nil {
		return nil, err
	}
	way := routeOf(ctx)
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, way.trace()), http.MethodGet, u, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrURL, shorten(err))
	}
	if header != nil {
		req.Header = header
	}
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "phase-fetch")
	resp, err := c.Do(req)
	if err != nil {
		return nil, way.where(ctx, attemptError(ctx, inWords(shorten(err))))
	}
	return resp, nil
}

// where adds to the end of an attempt's time what it was spent on.
func (r *route) where(ctx context.Context, err error) error {
	if at, _ := r.stage.Load().(string); at != "" && ctx.Err() != nil {
		return fmt.Errorf("%w, while %s", err, at)
	}
	return err
}

// tell adds to the error of an attempt that a proxy stood in between: what is
// wrong may be its doing.
func (r *route) tell(err error) error {
	if err == nil || !r.proxied.Load() || isLocal(err) {
		return err
	}
	var status *StatusError
	if errors.As(err, &status) && status.Code == http.StatusUnauthorized {
		err = proxyAuth(status.Code) // a mirror that wants one would have its own way to ask
	}
	return fmt.Errorf("through the proxy: %w", err)
}

// checkHead refuses another status and any content encoding: identity was
// asked for, and a compressed body has no bound on what it unpacks to.
func checkHead(resp *http.Response, status int) error {
	if resp.StatusCode == http.StatusProxyAuthRequired {
		return proxyAuth(resp.StatusCode)
	}
	if resp.StatusCode != status {
		return &StatusError{Code: resp.StatusCode, RetryAfter: retryAfter(resp.Header)}
	}
	if ce := resp.Header.Get("Content-Encoding"); ce != "" && !strings.EqualFold(ce, "identity") {
		return fmt.Errorf("%w (%.40q)", ErrEncoded, ce)
	}
	return nil
}

// retryAfter reads Retry-After in seconds (RFC 9110, 10.2.3). The other form, a
// date, means nothing to a machine without the time.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.ParseUint(h.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return min(time.Duration(n)*time.Second, maxRest)
}

// validator is what If-Range can carry: a strong entity tag, or else the
// modification date. The date is weak when a file changes twice in a second,
// which the hash of the whole then finds.
func validator(h http.Header) string {
	if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) && len(tag) <= 256 {
		return tag
	}
	if date := h.Get("Last-Modified"); len(date) <= 64 {
		return date
	}
	return ""
}

func isWebPage(h http.Header) bool {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && (t == "text/html" || t == "application/xhtml+xml")
}
