package fetch

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
)

// attempt makes one request to u for the bytes from offset from and appends
// the answer to out, or replaces out by it when from is 0 or the server sends
// the whole. It records itself.
func (d *download) attempt(ctx context.Context, u string, from int64) (err error) {
	start := time.Now()
	defer func() { d.record(u, start, err) }()
	ctx, stop := d.f.bounded(ctx)
	defer stop()
	w := d.f.newWatch(ctx)
	defer w.close()
	defer func() { err = w.tell(err) }()

	resp, err := w.request(d.f.client(), u, d.rangeHeader(from))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	at, err := d.accept(resp, from)
	if err != nil {
		return err
	}
	if at == 0 {
		if err := d.out.reset(true); err != nil {
			return err
		}
		d.owner, d.validator = u, validator(resp.Header)
	}
	d.report.source(u, at)
	if err := d.out.copy(d.report.reader(w.body(resp.Body))); err != nil {
		return err
	}
	return d.out.verify()
}

func (d *download) rangeHeader(from int64) http.Header {
	if from == 0 {
		return nil
	}
	return http.Header{
		"Range":    {fmt.Sprintf("bytes=%d-", from)},
		"If-Range": {d.validator},
	}
}

// accept looks at an answer's head before any byte of its body is taken, and
// returns the offset at which the body starts: from, or 0.
func (d *download) accept(resp *http.Response, from int64) (int64, error) {
	at := int64(0)
	switch {
	case resp.StatusCode == http.StatusPartialContent && from > 0:
		at = from
		if err := d.checkRange(resp.Header, from); err != nil {
			return 0, err
		}
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && from > 0:
		return 0, fmt.Errorf("%w: %w", ErrRange, &StatusError{Code: resp.StatusCode})
	}
	want := http.StatusOK
	if at > 0 {
		want = http.StatusPartialContent
	}
	if err := checkHead(resp, want); err != nil {
		return 0, err
	}
	if n := resp.ContentLength; n >= 0 && n != d.job.size-at {
		if isWebPage(resp.Header) {
			return 0, ErrWebPage
		}
		if at > 0 {
			return 0, fmt.Errorf("%w: %d bytes instead of %d", ErrRange, n, d.job.size-at)
		}
		return 0, &blob.MismatchError{Want: d.job.digest, WantSize: d.job.size, GotSize: n}
	}
	return at, nil
}

// checkRange wants exactly the rest of the same file (RFC 9110, 14.4).
func (d *download) checkRange(h http.Header, from int64) error {
	want := fmt.Sprintf("bytes %d-%d/%d", from, d.job.size-1, d.job.size)
	if got := h.Get("Content-Range"); got != want {
		return fmt.Errorf("%w: Content-Range %.80q instead of %q", ErrRange, got, want)
	}
	if v := validator(h); v != "" && v != d.validator {
		return fmt.Errorf("%w: the file changed (validator %.80q, was %.80q)", ErrRange, v, d.validator)
	}
	return nil
}

// checkHead refuses another status and any content encoding: identity was
// asked for, and a compressed body has no bound on what it unpacks to.
func checkHead(resp *http.Response, status int) error {
	if resp.StatusCode == http.StatusProxyAuthRequired {
		return proxyAuth(resp.StatusCode)
	}
	if resp.StatusCode != status {
		return &StatusError{Code: resp.StatusCode}
	}
	if ce := resp.Header.Get("Content-Encoding"); ce != "" && !strings.EqualFold(ce, "identity") {
		return fmt.Errorf("%w (%.40q)", ErrEncoded, ce)
	}
	return nil
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

// Get fetches at most max bytes that nobody has verified, in one attempt, for
// documents that carry their own signature. A longer answer is ErrTooLarge.
// A web page is ErrWebPage.
func (f *Fetcher) Get(ctx context.Context, url string, max int64) ([]byte, error) {
	data, err := f.get(ctx, url, max)
	if err != nil {
		return nil, fmt.Errorf("get %.200s: %w", url, err)
	}
	return data, nil
}

func (f *Fetcher) get(ctx context.Context, url string, max int64) (data []byte, err error) {
	if max < 0 || max > 1<<30 {
		return nil, fmt.Errorf("unusable limit of %d bytes", max)
	}
	if err := f.permitted(url); err != nil {
		return nil, err
	}
	ctx, stop := f.bounded(ctx)
	defer stop()
	w := f.newWatch(ctx)
	defer w.close()
	defer func() { err = w.tell(err) }()
	resp, err := w.request(f.client(), url, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := checkHead(resp, http.StatusOK); err != nil {
		return nil, err
	}
	if isWebPage(resp.Header) {
		return nil, ErrWebPage
	}
	if resp.ContentLength > max {
		return nil, fmt.Errorf("%w: %s bytes, at most %d", ErrTooLarge, strconv.FormatInt(resp.ContentLength, 10), max)
	}
	data, err = io.ReadAll(io.LimitReader(w.body(resp.Body), max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, max)
	}
	return data, nil
}
