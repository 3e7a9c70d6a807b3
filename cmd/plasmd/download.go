package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/store"
)

// Rounds over all providers, and the pause before the second; it doubles.
const (
	rounds     = 3
	firstPause = 500 * time.Millisecond
)

// postTimeout bounds the delivery of one receipt to one provider.
const postTimeout = 10 * time.Second

// network is how the daemon reaches its providers over HTTP.
type network struct {
	fetcher *fetch.Fetcher
	bases   []string // best first
	// receivers take receipts: those of a later group only if nobody of an earlier one does.
	receivers [][]string
	log       *slog.Logger
}

// proxy chooses the proxy of a request; nil: none. See fetch.Proxy.
type proxy func(*http.Request) (*url.URL, error)

// newNetwork contacts nobody yet; local keeps it on the local network, without a
// proxy.
func newNetwork(bases []string, local bool, through proxy, log *slog.Logger) *network {
	client := fetch.NewClient(nil, through)
	if local {
		client = fetch.NewLocalClient(nil, nil)
	}
	return &network{&fetch.Fetcher{Client: client, LocalOnly: local, Timeout: 5 * time.Minute, Retries: rounds, Backoff: firstPause, Log: log}, bases, [][]string{bases}, log}
}

func (n *network) close() { n.fetcher.Client.CloseIdleConnections() }

// module downloads the module d, of which name is for messages, from the
// first provider that has it. The error is a *fetch.Error.
func (n *network) module(ctx context.Context, name string, d blob.Digest) ([]byte, error) {
	return n.fetcher.Blob(ctx, name, d, job.MaxModuleBytes, fetch.BlobURLs(d, n.bases))
}

// input downloads the input d into s, from the first provider that has it. The error is
// a *fetch.Error or a *fetch.KeepError.
func (n *network) input(ctx context.Context, s *store.Store, d blob.Digest, size int64) error {
	f := *n.fetcher
	f.Store = s
	f.Timeout += time.Duration(size>>20) * time.Second
	return f.KeepBlob(ctx, "input", d, size, fetch.BlobURLs(d, n.bases))
}

// deliver posts a receipt to the first provider that takes it, and says which
// that was. The others learn nothing: some are strangers' hints.
func (n *network) deliver(ctx context.Context, signed []byte) (taker string, err error) {
	for _, group := range n.receivers {
		if len(group) == 0 {
			continue
		}
		if taker, err = n.deliverTo(ctx, group, signed); err == nil || ctx.Err() != nil {
			return taker, err
		}
	}
	return "", err
}

func (n *network) deliverTo(ctx context.Context, group []string, signed []byte) (taker string, err error) {
	for round := 1; round <= rounds; round++ {
		if !pause(ctx, round) {
			return "", context.Cause(ctx)
		}
		for _, base := range group {
			if err = n.post(ctx, strings.TrimSuffix(base, "/")+"/receipts", signed); err == nil {
				return base, nil
			}
			n.log.Warn("receipt not delivered", "to", base, "err", err)
		}
	}
	return "", err
}

// post sends one receipt. Redirects are not followed: a receipt goes where it
// was meant to go.
func (n *network) post(ctx context.Context, url string, signed []byte) error {
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(signed))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	client := *n.fetcher.Client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("HTTP status %d", resp.StatusCode)
	}
	return nil
}

// pause waits before a round, longer each time and not before the first. It
// reports false if ctx ended.
func pause(ctx context.Context, round int) bool {
	if round == 1 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(firstPause << (round - 2)):
		return true
	}
}

func isMismatch(err error) bool {
	var mismatch *blob.MismatchError
	return errors.As(err, &mismatch)
}
