package fetch

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/manifest"
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
	name     string
	digest   blob.Digest
	size     int64
	urls     []string
	bases    []string // where its chunk list and patches may be
	chunks   blob.Digest
	deltas   []manifest.Delta
	sources  []Source
	gateways []string
	finders  []Finder
	hedged   bool // small, and yet asked of several sources at once
	kept     bool // its target is the store itself
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

// beside is the job of another blob that is where j's is.
func (j job) beside(what string, d blob.Digest, size int64) job {
	side := newJob(j.name+"'s "+what, d, size, BlobURLs(d, j.bases))
	side.sources, side.gateways, side.finders = j.sources, j.gateways, j.finders
	return side
}

// A download is the state of one job, in the order in which things are tried:
// the cache, what an interrupted transfer left, a patch, everybody.
type download struct {
	f      *Fetcher
	job    job
	dst    target
	out    *output
	log    *slog.Logger
	roster *roster
	report *reporter
	began  time.Time
	list   *blob.Chunks // nil: there is none, or nobody gave it
	board  *board       // nil until list is there
	kept   int64        // bytes that need not be transferred
	made   *PatchReport // nil: without a patch
}

// fetch fills dst with the job's bytes, or returns an *Error, a *LocalError, a
// *ListError. What dst holds before is used, if there is a chunk list; after an
// error its content is meaningless to anybody else.
func (f *Fetcher) fetch(ctx context.Context, j job, dst target) error {
	d := f.newDownload(j, dst)
	err := d.told(ctx, d.run(ctx))
	if err == nil {
		d.report.final(j.size)
	}
	d.tell(err)
	return err
}

func (f *Fetcher) newDownload(j job, dst target) *download {
	log := f.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("artifact", j.name)
	d := &download{
		f: f, job: j, dst: dst, log: log, began: time.Now(),
		out:    &output{dst: dst},
		roster: &roster{f: f, log: log, retries: f.Retries},
		report: &reporter{call: f.Progress, last: Progress{Name: j.name, Total: j.size}},
	}
	if f.Retries <= 0 {
		d.roster.retries = defaultRetries
	}
	return d
}

// told is the error that a caller sees.
func (d *download) told(ctx context.Context, err error) error {
	var local localError
	var list *ListError
	switch {
	case err == nil, errors.As(err, &list):
		return err
	case errors.As(err, &local):
		return &LocalError{Artifact: d.job.name, Err: local.error}
	}
	return d.roster.failure(ctx, d.job)
}

func (d *download) tell(err error) {
	if d.f.Report == nil {
		return
	}
	r := Report{Name: d.job.name, Size: d.job.size, Kept: d.kept, Patch: d.made, Seconds: time.Since(d.began).Seconds(), Sources: d.roster.report()}
	if err != nil {
		r.Error = err.Error()
	}
	d.f.Report(r)
}

var errNoSource = errors.New("no source gave it")

func (d *download) run(ctx context.Context) error {
	if done, err := d.fromStore(ctx); done || err != nil {
		return err
	}
	d.invite()
	d.chunkList(ctx)
	d.out.cache = openCache(d.storeFor(), d.job.digest, d.job.size, func(msg string, err error) { d.log.Warn(msg, "err", err) })
	defer d.out.cache.drop()
	if d.list == nil {
		if p := d.patchFor(d.job.size); p != nil && d.patched(ctx, p) {
			d.out.cache.keep(d.job.digest)
			return nil
		}
		return d.straight(ctx)
	}
	defer d.out.cache.leave()
	return d.swarm(ctx)
}

// invite makes everybody known who may have it, but those that must not be asked.
func (d *download) invite() {
	client := d.f.client()
	for _, u := range d.job.urls {
		if d.mayAsk(u) {
			d.roster.add(NewHTTP(client, u))
		}
	}
	for _, s := range d.job.sources {
		d.roster.add(s)
	}
	for _, g := range d.job.gateways {
		if d.mayAsk(g) && (!d.job.chunks.IsZero() || d.job.size <= blob.ChunkSize) {
			d.roster.add(NewGateway(client, g))
		}
	}
}

// mayAsk is false for what is not local in Local mode. A malformed URL is told
// by its attempt.
func (d *download) mayAsk(u string) bool {
	err := d.f.permitted(u)
	if errors.Is(err, ErrNotLocal) {
		d.roster.note(Attempt{URL: u, Err: err})
		return false
	}
	return true
}

// straight gets the whole from one source at a time.
func (d *download) straight(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer d.roster.search(ctx, d.job)()
	defer cancel()
	s := &straight{f: d.f, job: d.job, roster: d.roster, out: d.out, report: d.report}
	if err := s.run(ctx); err != nil {
		return err
	}
	d.out.cache.keep(d.job.digest)
	return nil
}

// swarm gets the missing chunks from everybody, and then looks at the whole.
func (d *download) swarm(ctx context.Context) error {
	whole, err := d.resume(ctx)
	if err != nil {
		return err
	}
	if p := d.patchFor(int64(d.board.left()) * blob.ChunkSize); p != nil {
		whole.stop() // a patch that fails half way leaves nobody knows what
		if d.patched(ctx, p) {
			d.out.cache.keep(d.job.digest)
			return nil
		}
		if whole, err = d.resume(ctx); err != nil {
			return err
		}
	}
	defer whole.stop()
	if err := d.gather(ctx); err != nil {
		return err
	}
	got, err := whole.sum()
	if err != nil {
		return err
	}
	if got != d.job.digest {
		return d.blame(ctx, got)
	}
	d.out.cache.keep(d.job.digest)
	return nil
}

// gather reads the missing chunks.
func (d *download) gather(ctx context.Context) error {
	search, cancel := context.WithCancel(ctx)
	defer d.roster.search(search, d.job)()
	defer cancel()
	s := &swarm{f: d.f, job: d.job, roster: d.roster, board: d.board, out: d.out, report: d.report}
	return s.run(ctx)
}

// blame says who is at fault when the chunks were right and the whole is not:
// this machine, if it does not give back what was written, or the publisher.
func (d *download) blame(ctx context.Context, got blob.Digest) error {
	if d.job.size > blob.ChunkSize {
		again := newBoard(*d.list, func(int64) {})
		if err := scan(ctx, d.dst, again, nil); err != nil {
			return err
		}
		if again.left() == 0 {
			return &ListError{Artifact: d.job.name, List: d.job.chunks, Want: d.job.digest, Got: got}
		}
	}
	return localError{errors.New("it gives back other bytes than were written")}
}

// chunkList gets the list. Without it the transfer is slower, and as safe.
func (d *download) chunkList(ctx context.Context) {
	if d.job.hedged && d.job.size <= blob.ChunkSize { // its digest is its list
		raw, _ := hex.DecodeString(d.job.digest.Hex())
		list, err := blob.ParseChunks(raw, d.job.size)
		if err == nil {
			d.list = &list
		}
		return
	}
	if d.job.chunks.IsZero() || d.job.size <= blob.ChunkSize {
		return
	}
	var raw document
	side := d.job.beside("chunk list", d.job.chunks, blob.ListSize(d.job.size))
	side.hedged = true // nothing else can begin before it is here
	err := d.side().fetch(ctx, side, &raw)
	if err == nil {
		var list blob.Chunks
		if list, err = blob.ParseChunks(raw.data, d.job.size); err == nil {
			d.list = &list
			return
		}
	}
	d.log.Warn("no chunk list, going on without", "err", err)
}

// side is the Fetcher of what is needed beside the artifact.
func (d *download) side() *Fetcher {
	f := *d.f
	f.Progress, f.Report, f.Retries = nil, nil, 1
	f.Stall = min(d.f.stall(), sideStall)
	f.Patience = min(d.f.patience(), sideStall)
	return &f
}

// sideStall is how long it is waited for what is not strictly needed.
const sideStall = 5 * time.Second

// fromStore copies the blob from the cache, hashing it on the way like any
// other source. A corrupt one is removed; its right chunks are used.
func (d *download) fromStore(ctx context.Context) (bool, error) {
	if d.f.Store == nil || !d.f.Store.Has(d.job.digest) {
		return false, nil
	}
	start := time.Now()
	err := d.copyStored(ctx)
	if err == nil {
		d.kept = d.job.size
		return true, nil
	}
	d.roster.note(Attempt{URL: cacheSource, Err: err, Took: time.Since(start)})
	var corrupt *store.CorruptError
	if isMismatch(err) || errors.As(err, &corrupt) {
		if err := d.f.Store.Remove(d.job.digest); err != nil {
			d.log.Warn("cannot remove the corrupt blob from the cache", "err", err)
		}
	}
	if isLocal(err) {
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
	return d.fill(ctx, cacheSource, func(w io.Writer) error {
		_, err := io.Copy(w, file)
		return err
	})
}

// fill writes what give gives into dst and checks the whole of it.
func (d *download) fill(ctx context.Context, name string, give func(io.Writer) error) error {
	s := &straight{f: d.f, job: d.job, out: d.out, report: d.report}
	defer s.reset()
	d.report.from(name)
	if err := guarded(func() error { return give(&filling{ctx, s}) }); err != nil {
		return err
	}
	return s.verify()
}

// filling is where the bytes of this machine's own disks enter.
type filling struct {
	ctx context.Context
	s   *straight
}

// Write implements io.Writer.
func (w *filling) Write(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	if err := w.s.write(p); err != nil {
		return 0, err
	}
	w.s.report.show(w.s.n, 0, 0)
	return len(p), nil
}

// basesOf are the providers that have an artifact's URLs, by the layout that they
// share: <base>/<channel>/<arch>/<name> and <base>/blobs/<aa>/<hex>.bin.
func basesOf(m manifest.Manifest, name string, a manifest.Artifact) []string {
	hex := a.Hash.Hex()
	var bases []string
	for _, u := range a.URLs {
		for _, end := range []string{"/" + m.Channel + "/" + m.Arch + "/" + name, "/blobs/" + hex[:2] + "/" + hex + ".bin"} {
			if base, ok := strings.CutSuffix(u, end); ok {
				bases = append(bases, base)
			}
		}
	}
	return bases
}
