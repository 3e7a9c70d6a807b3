package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/store"
)

const (
	defaultRetries = 3
	defaultBackoff = time.Second
	defaultStall   = 20 * time.Second
	defaultMinRate = 16 << 10 // bytes per second

	cacheSource = "cache"
)

// A job is one blob and where it may be.
type job struct {
	name   string
	digest blob.Digest
	size   int64
	urls   []string
}

// newJob keeps the order of urls and drops repetitions.
func newJob(name string, d blob.Digest, size int64, urls []string) job {
	j := job{name: name, digest: d, size: size}
	for _, u := range urls {
		if !slices.Contains(j.urls, u) {
			j.urls = append(j.urls, u)
		}
	}
	return j
}

// A download is the state of one job. The bytes in out always come from one
// source: since only the hash of the whole is known, nobody could say whose
// part was wrong if they were mixed.
type download struct {
	f   *Fetcher
	job job
	out *output

	owner     string // the URL that out's bytes came from
	validator string // what If-Range needs to go on there; empty: cannot

	round    int
	attempts []Attempt
	lied     map[string]bool // gave other bytes; never asked again
	absent   map[string]bool // last answer was that it has no such file
	log      *slog.Logger
	report   *reporter
}

// fetch fills dst with the job's bytes, or returns an *Error, a *LocalError.
// After an error dst's content is meaningless.
func (f *Fetcher) fetch(ctx context.Context, j job, dst sink) error {
	log := f.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("artifact", j.name)
	d := &download{
		f: f, job: j, log: log,
		out: &output{job: j, dst: dst, hash: sha256.New(), store: f.Store,
			warn: func(msg string, err error) { log.Warn(msg, "err", err) }},
		lied: map[string]bool{}, absent: map[string]bool{},
		report: &reporter{call: f.Progress, last: Progress{Name: j.name, Total: j.size}},
	}
	defer d.out.dropTee()
	err := d.run(ctx)
	if err == nil {
		d.out.keep()
		d.report.final(j.size)
		return nil
	}
	var local localError
	if errors.As(err, &local) {
		return &LocalError{Artifact: j.name, Err: local.error}
	}
	return d.failure(ctx)
}

var errNoSource = errors.New("no source gave it")

// run asks the cache once, then all sources in rounds.
func (d *download) run(ctx context.Context) error {
	if done, err := d.fromStore(ctx); done || err != nil {
		return err
	}
	d.dropRemote()
	retries := d.f.Retries
	if retries <= 0 {
		retries = defaultRetries
	}
	for d.round = 1; d.round <= retries; d.round++ {
		urls := d.order()
		if len(urls) == 0 {
			break
		}
		if d.round > 1 && !d.pause(ctx) {
			break
		}
		for _, u := range urls {
			if ctx.Err() != nil {
				return errNoSource
			}
			err := d.try(ctx, u)
			var local localError
			if err == nil || errors.As(err, &local) {
				return err
			}
		}
	}
	d.round--
	return errNoSource
}

// order is the sources still worth asking. After the first round the one
// whose bytes we hold comes first: it can go on where it stopped.
func (d *download) order() []string {
	var urls []string
	for _, u := range d.job.urls {
		switch {
		case d.lied[u]:
		case u == d.owner && d.out.n > 0:
			urls = slices.Insert(urls, 0, u)
		default:
			urls = append(urls, u)
		}
	}
	return urls
}

// pause waits before a further round, between half and one and a half of the
// nominal time so that machines that started together spread out. It is false
// if the caller gave up meanwhile.
func (d *download) pause(ctx context.Context) bool {
	mean := d.f.Backoff
	if mean <= 0 {
		mean = defaultBackoff
	}
	mean <<= d.round - 2
	t := time.NewTimer(mean/2 + rand.N(mean))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// fromStore copies the blob from the cache, hashing it on the way like any
// other source. A corrupt one is removed.
func (d *download) fromStore(ctx context.Context) (bool, error) {
	if d.f.Store == nil || !d.f.Store.Has(d.job.digest) {
		return false, nil
	}
	start := time.Now()
	err := d.copyStored(ctx)
	if err == nil {
		return true, nil
	}
	d.record(cacheSource, start, err)
	var corrupt *store.CorruptError
	if isMismatch(err) || errors.As(err, &corrupt) || errors.Is(err, ErrShort) {
		if err := d.f.Store.Remove(d.job.digest); err != nil {
			d.log.Warn("cannot remove the corrupt blob from the cache", "err", err)
		}
	}
	var local localError
	if errors.As(err, &local) {
		return false, err
	}
	return false, nil
}

func (d *download) copyStored(ctx context.Context) error {
	file, err := d.f.Store.OpenUnverified(d.job.digest, d.job.size)
	if err != nil {
		return err
	}
	defer file.Close()
	d.report.source(cacheSource, 0)
	if err := d.out.copy(d.report.reader(&ctxReader{ctx, file})); err != nil {
		return err
	}
	return d.out.verify()
}

// try asks one source once, or twice: when the bytes of two answers together
// gave the wrong hash, or the server cannot do ranges, the same source gets
// one chance alone from the beginning before it is judged.
func (d *download) try(ctx context.Context, u string) error {
	from := d.resumable(u)
	err := d.attempt(ctx, u, from)
	if err != nil && from > 0 && (isMismatch(err) || errors.Is(err, ErrRange)) {
		d.log.Warn("resumed download does not fit together, starting again", "source", u, "from", from, "err", err)
		d.owner = ""
		err = d.attempt(ctx, u, 0)
	}
	if isMismatch(err) {
		d.lied[u], d.owner = true, ""
	}
	var status *StatusError
	d.absent[u] = errors.As(err, &status) && status.absent()
	return err
}

// resumable is how many bytes of u's are held and can be continued.
func (d *download) resumable(u string) int64 {
	if d.owner != u || d.validator == "" || d.out.n >= d.job.size {
		return 0
	}
	return d.out.n
}

func (d *download) record(source string, start time.Time, err error) {
	took := time.Since(start)
	d.attempts = append(d.attempts, Attempt{URL: source, Round: d.round, Err: err, Took: took})
	if err != nil {
		d.log.Warn("source failed", "source", source, "round", d.round, "took", took.Round(time.Millisecond), "err", err)
	}
}

// failure makes the error that a person sees. A mismatch is the headline when
// every source that has the file was caught with other bytes: "could not
// fetch" would hide an attack, and one honest source that was merely
// unreachable means that nobody knows yet.
func (d *download) failure(ctx context.Context) *Error {
	e := &Error{Artifact: d.job.name, Want: d.job.digest, Rounds: d.round, Attempts: d.attempts}
	if err := ctx.Err(); err != nil {
		e.Cause = context.Cause(ctx)
		return e
	}
	e.Mismatch = len(d.lied) > 0
	for _, u := range d.job.urls {
		if !d.lied[u] && !d.absent[u] {
			e.Mismatch = false
		}
	}
	return e
}

// ctxReader lets a copy from a slow disk be given up between two reads.
type ctxReader struct {
	ctx context.Context
	r   interface{ Read([]byte) (int, error) }
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, fmt.Errorf("given up: %w", err)
	}
	return c.r.Read(p)
}
