package fetch

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/phasebased/phase/blob"
)

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
	ctx, way := withRoute(ctx)
	w := f.newWatch(ctx)
	defer w.close()
	defer func() { err = way.tell(err) }()
	w.wait()
	resp, err := request(w.ctx, f.client(), url, nil)
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
	data, err = io.ReadAll(io.LimitReader(&watched{w, resp.Body}, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, max)
	}
	return data, nil
}

// Blob fetches a blob of which only the digest is known, of at most max bytes,
// from urls. name is for messages. Sources that are busy are asked again when they
// say, those that gave other bytes never. Errors are those of Artifact.
func (f *Fetcher) Blob(ctx context.Context, name string, d blob.Digest, max int64, urls []string) (data []byte, err error) {
	if d.IsZero() {
		return nil, fmt.Errorf("fetch %s: no digest", name)
	}
	all := f.newDownload(newJob(name, d, 0, urls), nil)
	all.invite()
	err = all.roster.ask(ctx, func(*peer) bool { return false }, func(ctx context.Context, p *peer) error {
		began := time.Now()
		if data, err = f.get(ctx, p.name, max); err == nil {
			err = verifyBlob(data, d)
		}
		if err != nil {
			all.roster.failed(p, err, time.Since(began))
		}
		return err
	})
	if err != nil {
		return nil, all.told(ctx, err)
	}
	return data, nil
}

func verifyBlob(data []byte, want blob.Digest) error {
	if got := blob.Of(data); got != want {
		size := int64(len(data))
		return &blob.MismatchError{Want: want, Got: got, WantSize: size, GotSize: size}
	}
	return nil
}

// watched is a body under watch.
type watched struct {
	w *watch
	r io.Reader
}

// Read implements io.Reader.
func (b *watched) Read(p []byte) (int, error) {
	b.w.wait()
	n, err := b.r.Read(p)
	slow := b.w.arrived(n)
	if err == io.EOF {
		return n, err
	}
	if err != nil {
		return n, attemptError(b.w.ctx, err)
	}
	return n, slow
}
