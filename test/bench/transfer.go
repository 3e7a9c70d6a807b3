package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/test/peers"
)

const (
	transferSize = 512 << 20
	// limitedRate is that of a source that is slower than this machine, in bytes
	// per second.
	limitedRate = 25_000_000
	// transferWithin bounds one transfer.
	transferWithin = 3 * time.Minute
)

// transfer is one published release with a rootfs of transferSize, in memory where
// there is room for it: disks differ more than programs.
type transfer struct {
	work           string // what is fetched goes here
	dir            string // what is published
	manifest, root string
	blob           string // path of the rootfs behind a base URL
	hex            string
	fetch, plasmd  string // programs
}

// transferFigures compares phase-fetch with what people have, and plasmd's provider
// with nginx. The same nginx serves both sides.
func transferFigures(ctx context.Context, pairs int) ([]Figure, error) {
	t, err := newTransfer(ctx)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(filepath.Dir(t.work))
	var out []Figure
	for _, measure := range []func(context.Context, int) ([]Figure, error){
		t.against, t.several, t.resumed, t.provided, t.held,
	} {
		figures, err := measure(ctx, pairs)
		if err != nil {
			return nil, err
		}
		out = append(out, figures...)
	}
	return out, nil
}

func newTransfer(ctx context.Context) (*transfer, error) {
	base, err := roomFor(4 * transferSize)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "transfer: all files are in %s\n", base)
	t := &transfer{work: filepath.Join(base, "out"), dir: filepath.Join(base, "published")}
	if t.fetch, err = buildProgram(ctx, "./cmd/phase-fetch"); err != nil {
		return nil, err
	}
	if t.plasmd, err = buildProgram(ctx, "./cmd/plasmd"); err != nil {
		return nil, err
	}
	return t, t.publish(base)
}

// roomFor makes a folder in memory, or else below build.
func roomFor(need uint64) (string, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &fs); err == nil && fs.Bavail*uint64(fs.Bsize) > need {
		return os.MkdirTemp("/dev/shm", "phase-bench-")
	}
	dir := filepath.Join("build", "bench")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return os.MkdirTemp(dir, "transfer-")
}

func buildProgram(ctx context.Context, from string) (string, error) {
	program, err := filepath.Abs(filepath.Join("build", "bench", filepath.Base(from)))
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", program, from)
	cmd.Stderr, cmd.Env = os.Stderr, append(os.Environ(), "CGO_ENABLED=0")
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build %s: %w", from, err)
	}
	return program, nil
}

// publish makes the release, of bytes that nothing compresses.
func (t *transfer) publish(base string) error {
	files := map[string]int64{"kernel": 1000, "initramfs": 1000, "rootfs": transferSize}
	for name, size := range files {
		f, err := os.Create(filepath.Join(base, name))
		if err != nil {
			return err
		}
		_, err = io.CopyN(f, rand.Reader, size)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	keys, err := release.NewKeys()
	if err != nil {
		return err
	}
	root, err := keys.RootFile(time.Now().AddDate(1, 0, 0))
	if err != nil {
		return err
	}
	out, err := release.Publish(t.dir, release.Release{
		Channel: "stable", Arch: "x86_64", Version: 1, Created: time.Now().Add(-time.Hour),
		Expires: time.Now().AddDate(0, 3, 0), PointerExpiry: time.Now().AddDate(0, 0, 7),
		Bases:  []string{"http://127.0.0.1:1"}, // where nobody is
		Kernel: filepath.Join(base, "kernel"), Initramfs: filepath.Join(base, "initramfs"), Rootfs: filepath.Join(base, "rootfs"),
	}, keys, root)
	if err != nil {
		return err
	}
	t.manifest, t.root = filepath.Join(out.Dir, "manifest.json"), filepath.Join(base, "root.json")
	rootfs, err := os.Open(filepath.Join(base, "rootfs"))
	if err != nil {
		return err
	}
	defer rootfs.Close()
	_, d, _, err := blob.ChunksOf(rootfs)
	t.hex = d.Hex()
	t.blob = "/blobs/" + t.hex[:2] + "/" + t.hex + ".bin"
	return errors.Join(err, os.WriteFile(t.root, root, 0o644), os.Remove(rootfs.Name()))
}

// taken is what one run of a program took.
type taken struct {
	seconds float64
	cpu     float64 // seconds
}

// run runs a program in an empty folder.
func (t *transfer) run(ctx context.Context, args ...string) (taken, error) {
	if err := errors.Join(os.RemoveAll(t.work), os.MkdirAll(t.work, 0o755)); err != nil {
		return taken{}, err
	}
	return t.again(ctx, args...)
}

// again runs a program in the folder as it is.
func (t *transfer) again(ctx context.Context, args ...string) (taken, error) {
	ctx, cancel := context.WithTimeout(ctx, transferWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = t.work
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began).Seconds()
	if err != nil {
		return taken{}, fmt.Errorf("%s: %w\n%.2000s", filepath.Base(args[0]), err, out)
	}
	return taken{seconds: took, cpu: (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()}, nil
}

// phaseFetch is its command line for some sources.
func (t *transfer) phaseFetch(bases ...string) []string {
	args := []string{t.fetch, "-m", t.manifest, "-k", t.root, "-a", "rootfs", "-o", t.work, "--progress", "none"}
	for _, b := range bases {
		args = append(args, "--source", b)
	}
	return args
}

// takeTurns runs command lines one after the other, once to bring all into memory
// and then as often as there are pairs.
func (t *transfer) takeTurns(ctx context.Context, pairs int, lines ...[]string) ([][]taken, error) {
	out := make([][]taken, len(lines))
	for i := range pairs + 1 {
		for n, line := range lines {
			took, err := t.run(ctx, line...)
			if err != nil {
				return nil, err
			}
			if i > 0 {
				out[n] = append(out[n], took)
			}
		}
	}
	return out, nil
}

func seconds(t taken) float64 { return t.seconds }

// against compares a whole transfer with the commands that do the same: fetch, keep
// and hash.
func (t *transfer) against(ctx context.Context, pairs int) ([]Figure, error) {
	web, err := peers.Nginx{Dir: t.dir}.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer web.Stop()
	url := web.URL + t.blob
	runs, err := t.takeTurns(ctx, pairs,
		t.phaseFetch(web.URL),
		[]string{"sh", "-c", fmt.Sprintf("curl -sS --noproxy '*' %s | tee rootfs | sha256sum", url)},
		[]string{"aria2c", "-q", "--no-conf", "--no-proxy=*", "-x4", "-s4", "--file-allocation=none", "--checksum=sha-256=" + t.hex, "-o", "rootfs", url},
	)
	if err != nil {
		return nil, err
	}
	ours, curl, aria := medianOf(runs[0], seconds), medianOf(runs[1], seconds), medianOf(runs[2], seconds)
	cpu := func(t taken) float64 { return t.cpu }
	peak, err := t.peak(ctx, web.URL)
	return []Figure{
		{"fetch 512 MiB on loopback (reference: curl | tee file | sha256sum)", ours, "s", curl, ours / curl, "ratio <= 0.45"},
		{"fetch 512 MiB on loopback (reference: aria2c, 4 connections, with checksum)", ours, "s", aria, ours / aria, ""},
		{"fetch 512 MiB: processor time (reference: curl | tee file | sha256sum)", medianOf(runs[0], cpu), "s", medianOf(runs[1], cpu), medianOf(runs[0], cpu) / medianOf(runs[1], cpu), ""},
		{"fetch 512 MiB: peak memory", peak, "MiB", 0, 0, "<= 40"},
	}, err
}

// peak is the most memory that phase-fetch holds, in MiB.
func (t *transfer) peak(ctx context.Context, base string) (float64, error) {
	if err := os.RemoveAll(t.work); err != nil {
		return 0, err
	}
	args := t.phaseFetch(base)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	return runWatched(cmd, cmd.Start)
}

// several compares four slow sources with one.
func (t *transfer) several(ctx context.Context, pairs int) ([]Figure, error) {
	var bases []string
	for range 4 {
		web, err := peers.Nginx{Dir: t.dir, Rate: limitedRate}.Start(ctx)
		if err != nil {
			return nil, err
		}
		defer web.Stop()
		bases = append(bases, web.URL)
	}
	var four, one []taken
	for range min(pairs, 3) { // each takes half a minute, and waits for most of it
		f, err := t.run(ctx, t.phaseFetch(bases...)...)
		if err != nil {
			return nil, err
		}
		o, err := t.run(ctx, t.phaseFetch(bases[0])...)
		if err != nil {
			return nil, err
		}
		four, one = append(four, f), append(one, o)
	}
	const mb = transferSize / 1e6
	fast, slow := mb/medianOf(four, seconds), mb/medianOf(one, seconds)
	return []Figure{{"fetch from 4 sources of 25 MB/s each (reference: from one)", fast, "MB/s", slow, fast / slow, "ratio >= 3.6"}}, nil
}

// resumed compares going on at half with a whole transfer.
func (t *transfer) resumed(ctx context.Context, pairs int) ([]Figure, error) {
	web, err := peers.Nginx{Dir: t.dir}.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer web.Stop()
	steady, err := peers.Nginx{Dir: t.dir, Rate: 6 * limitedRate}.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer steady.Stop()
	var half, whole []taken
	for range pairs {
		w, err := t.run(ctx, t.phaseFetch(web.URL)...)
		if err != nil {
			return nil, err
		}
		if err := t.cutOff(ctx, steady.URL); err != nil {
			return nil, err
		}
		h, err := t.again(ctx, t.phaseFetch(web.URL)...)
		if err != nil {
			return nil, err
		}
		half, whole = append(half, h), append(whole, w)
	}
	h, w := medianOf(half, seconds), medianOf(whole, seconds)
	return []Figure{{"fetch 512 MiB of which half is there (reference: all of it)", h, "s", w, h / w, ""}}, nil
}

// cutOff kills phase-fetch when half has come.
func (t *transfer) cutOff(ctx context.Context, base string) error {
	if err := os.RemoveAll(t.work); err != nil {
		return err
	}
	args := append(t.phaseFetch(base), "--progress", "json")
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var now struct{ Done int64 }
	for lines := bufio.NewScanner(stderr); now.Done < transferSize/2 && lines.Scan(); {
		if err := json.Unmarshal(lines.Bytes(), &now); err != nil {
			return fmt.Errorf("progress %q: %w", lines.Text(), err)
		}
	}
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait()
	if now.Done < transferSize/2 {
		return errors.New("the transfer ended before its half")
	}
	return nil
}
