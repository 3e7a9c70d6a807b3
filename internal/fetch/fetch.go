// Package fetch brings verified bytes onto this machine.
//
// What to fetch is trusted: the digest and the size come from a signed
// manifest (*manifest.Verified), or from a signed pointer that names one.
// Where it comes from is not: a mirror, a neighbour, a proxy in between and
// our own cache may lie, stall, answer with something else, or never stop. So
// never more bytes are taken than the manifest states, and nothing leaves this
// package before the digest of the whole was right, read back from where it is
// kept. A source can waste a bounded time, and nothing else.
//
// Where the manifest names a chunk list (blob.Chunks), each MiB is hashed before
// it is written. Then sources are mixed freely, one that lies is known by its
// first chunk, a slow one loses its chunks to a faster one, and whatever an
// interrupted transfer left is hashed and used. A planner (swarm, board) gives
// spans of chunks to connections, a receiver judges each chunk that arrives, and
// a follower hashes the whole behind them. Without a list one source at a time
// gives the whole (straight).
//
// On Linux an artifact ends in a sealed memory file: written once, hashed on
// the way, then sealed by the kernel so that nobody, this process included,
// can change it between the check and its use.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/manifest"
)

// MaxSmall is the largest document that Small fetches, in bytes.
const MaxSmall = 64 << 10

// A Fetcher downloads blobs. Its zero value works with the defaults named
// below. It must not be changed while it is used; its methods are then safe
// for concurrent use.
type Fetcher struct {
	// Client makes the requests; nil means a NewClient(nil, nil), or with
	// LocalOnly a NewLocalClient(nil, nil), for each download. Redirects follow this package's policy, whatever the client's
	// says, and there are no cookies.
	Client *http.Client
	// LocalOnly drops every URL that CheckLocal refuses, also one that a
	// source redirects to: not even its name is looked up. In an *Error they
	// are attempts with ErrNotLocal. What a .local name stands for is the
	// client's to check, which should be a NewLocalClient.
	LocalOnly bool
	// Retries is how many rounds over all sources are made; 0 means 3.
	Retries int
	// Timeout bounds one attempt at one source from its request to its last
	// byte; 0 means that only Stall and MinRate do.
	Timeout time.Duration
	// Stall is how long a source may send nothing, also before its headers;
	// 0 means 20 s.
	Stall time.Duration
	// MinRate is the least average speed over each Stall of waiting, in
	// bytes per second; 0 means 16 KiB/s, negative means no such limit.
	MinRate int64
	// Backoff is the mean pause before the second round, doubled for each
	// further one; 0 means 1 s.
	Backoff time.Duration
	// Store is asked before the network and receives what the network gave;
	// nil means none. Its faults are logged and never fail a download.
	Store *store.Store
	// Sources are asked beside an artifact's URLs: given by the program or typed
	// by a person, never by a document.
	Sources []Source
	// Finders look for further sources of an artifact beside its transfer.
	Finders []Finder
	// Patience is how long an artifact of which nobody is left to give more waits
	// for what Finders may yet find, since the last bytes or find; 0 means Stall.
	Patience time.Duration
	// Gateways are base URLs of trustless IPFS gateways, asked for the chunks of
	// an artifact one by one.
	Gateways []string
	// Connections is how many are open at most at once for one artifact with a
	// chunk list; each needs 1 MiB of memory. 0 means 4.
	Connections int
	// Old returns the content of a blob that this machine has outside the Store,
	// to make an artifact from it with a patch. What it gives is not trusted. nil
	// means none.
	Old func(d blob.Digest) (content io.ReaderAt, size int64, ok bool)
	// Report, if not nil, is called once at the end of each artifact, whether it
	// came or not.
	Report func(Report)
	// Progress, if not nil, is called at most 20 times a second and once
	// at the end of each artifact, from the goroutine that fetches it.
	Progress func(Progress)
	// Log receives one line per failed attempt; nil means none.
	Log *slog.Logger
}

// Progress says how far one artifact is. With a chunk list Done only grows;
// without one it falls back to 0 when another source has to start from the
// beginning.
type Progress struct {
	Name        string
	Done, Total int64  // bytes
	Source      string // that gave the last bytes: URL, or "cache"
	Sources     int    // that are giving bytes at the moment
}

// Report says where an artifact came from, for people and for JSON.
type Report struct {
	Name    string         `json:"name"`
	Size    int64          `json:"size"` // bytes
	Kept    int64          `json:"kept"` // bytes that were here before: an interrupted transfer's, the cache's, an older release's
	Patch   *PatchReport   `json:"patch,omitempty"`
	Seconds float64        `json:"seconds"` // of the whole
	Sources []SourceReport `json:"sources"` // in the order in which they became known
	Error   string         `json:"error,omitempty"`
}

// PatchReport is the patch that made an artifact from an older one.
type PatchReport struct {
	From blob.Digest `json:"from"`
	Size int64       `json:"size"` // bytes of the patch
}

// SourceReport is what one source did for an artifact.
type SourceReport struct {
	Source  string  `json:"source"`
	Bytes   int64   `json:"bytes"`   // that were right
	Seconds float64 `json:"seconds"` // that it was reading
	Rate    float64 `json:"rate"`    // bytes per second
	Verdict string  `json:"verdict"` // "good", "unused", "wrong bytes", or its last error
}

// BlobURLs are the places where providers with the given base URLs would have
// the blob d: <base>/blobs/<aa>/<hex>.bin. Bases that are not absolute http
// or https URLs are left out.
func BlobURLs(d blob.Digest, bases []string) []string {
	hex := d.Hex()
	var urls []string
	for _, base := range bases {
		u := strings.TrimRight(base, "/") + "/blobs/" + hex[:2] + "/" + hex + ".bin"
		if checkURL(u) == nil && !slices.Contains(urls, u) {
			urls = append(urls, u)
		}
	}
	return urls
}

// Artifact fetches the artifact called name ("kernel", "initramfs",
// "rootfs") of a verified manifest: from the store, then from the manifest's
// URLs, then from the blob URLs of bases (which are hints and not trusted).
// The error is an *Error that keeps every attempt, or a *LocalError if this
// machine could not take the bytes. The caller closes the File.
func (f *Fetcher) Artifact(ctx context.Context, v *manifest.Verified, name string, bases []string) (*File, error) {
	j, err := f.artifactJob(v, name, bases)
	if err != nil {
		return nil, err
	}
	return f.file(ctx, j)
}

func (f *Fetcher) file(ctx context.Context, j job) (*File, error) {
	mem, err := newMemory(j.name, j.size)
	if err != nil {
		return nil, &LocalError{Artifact: j.name, Err: err}
	}
	defer mem.Close()
	if err := f.fetch(ctx, j, mem); err != nil {
		return nil, err
	}
	ro, err := mem.Seal()
	if err != nil {
		return nil, &LocalError{Artifact: j.name, Err: err}
	}
	return &File{name: j.name, digest: j.digest, size: j.size, file: ro}, nil
}

// ArtifactTo is Artifact into a file: path appears, replacing what was there,
// only when all its bytes were right and on disk. Until then they are in a hidden
// file beside it. If the artifact has a chunk list, that file stays when the
// transfer is interrupted, and the next ArtifactTo goes on with it.
func (f *Fetcher) ArtifactTo(ctx context.Context, v *manifest.Verified, name string, bases []string, path string) error {
	j, err := f.artifactJob(v, name, bases)
	if err != nil {
		return err
	}
	return f.toPath(ctx, j, path)
}

func (f *Fetcher) toPath(ctx context.Context, j job, path string) error {
	temp, err := openTemp(path, j.digest, j.size)
	if err != nil {
		return &LocalError{Artifact: j.name, Err: err}
	}
	defer func() { temp.end(!j.chunks.IsZero()) }()
	if err := f.fetch(ctx, j, temp); err != nil {
		return err
	}
	if err := temp.commit(); err != nil {
		return &LocalError{Artifact: j.name, Err: err}
	}
	return nil
}

// Small fetches a document of at most MaxSmall bytes by its digest, from the store
// or from urls. name is for messages. Errors are those of Artifact.
func (f *Fetcher) Small(ctx context.Context, name string, d blob.Digest, size int64, urls []string) ([]byte, error) {
	if size < 0 || size > MaxSmall {
		return nil, fmt.Errorf("fetch %s: size %d is not within 0 and %d bytes", name, size, MaxSmall)
	}
	if d.IsZero() {
		return nil, fmt.Errorf("fetch %s: no digest", name)
	}
	var mem document
	if err := f.fetch(ctx, newJob(name, d, size, urls), &mem); err != nil {
		return nil, err
	}
	return mem.data, nil
}

// ErrNoArtifact says that a manifest does not have the artifact asked for.
var ErrNoArtifact = errors.New("the manifest has no such artifact")

func (f *Fetcher) artifactJob(v *manifest.Verified, name string, bases []string) (job, error) {
	if !v.Valid() {
		return job{}, fmt.Errorf("fetch %s: no verified manifest", name)
	}
	m := v.Manifest()
	a, ok := m.Artifact(name)
	if !ok {
		return job{}, fmt.Errorf("fetch %s: %w", name, ErrNoArtifact)
	}
	j := newJob(name, a.Hash, a.Size, slices.Concat(a.URLs, BlobURLs(a.Hash, bases)))
	j.bases = slices.Concat(bases, basesOf(m, name, a))
	j.chunks, j.deltas = a.Chunks, a.Deltas
	j.sources, j.gateways, j.finders = f.Sources, f.Gateways, f.Finders
	return j, nil
}

// A File is an artifact whose digest was right. Only this package makes one.
// On Linux its bytes are sealed and cannot change any more; elsewhere it is a
// temporary file without a name.
type File struct {
	name   string
	digest blob.Digest
	size   int64
	file   *os.File
}

// Name is the artifact's name in its manifest, for example "kernel".
func (f *File) Name() string { return f.name }

// Digest is the SHA-256 of the whole content.
func (f *File) Digest() blob.Digest { return f.digest }

// Size is the length in bytes.
func (f *File) Size() int64 { return f.size }

// File is the open content, read-only, owned by f. Its offset is shared by
// all who use it: prefer ReadAt, or io.NewSectionReader.
func (f *File) File() *os.File { return f.file }

// Close releases the memory that the content occupies.
func (f *File) Close() error { return f.file.Close() }
