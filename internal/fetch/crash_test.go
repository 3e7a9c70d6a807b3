package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/store"
)

// crashing is the artifact that is fetched while the process is killed.
var crashing = content(4*blob.ChunkSize + 77)

// lanes is how many such processes there are at once.
const lanes = 4

const crashDir, crashURL = "PHASE_FETCH_CRASH_DIR", "PHASE_FETCH_CRASH_URL"

// crashJob is the same in the parent and in the child.
func crashJob(url string) job {
	j := jobFor(crashing, url+"/kernel")
	list, _, _, _ := blob.ChunksOf(bytes.NewReader(crashing))
	j.chunks, j.bases = blob.Of(list.Bytes()), []string{url}
	return j
}

func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("this is the child of TestKilled")
	}
	s, err := store.Open(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	f := quick(t)
	f.Store = s
	if err := f.toPath(context.Background(), crashJob(os.Getenv(crashURL)), filepath.Join(dir, "kernel")); err != nil {
		t.Fatal(err)
	}
}

// TestKilled kills a transfer into a file and the cache at 200 points. Whatever
// is there afterwards, nothing wrong has a name, and the next one goes on.
func TestKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("200 processes")
	}
	for lane := range lanes {
		t.Run(fmt.Sprint(lane), func(t *testing.T) {
			t.Parallel()
			killed(t, rand.New(rand.NewPCG(1, uint64(lane))), 200/lanes)
		})
	}
}

func killed(t *testing.T, random *rand.Rand, times int) {
	side := blobs(listOf(t, crashing).Bytes())
	var gone atomic.Int64
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/kernel") {
			side(w, r)
			return
		}
		w.Header().Set("ETag", `"x"`)
		http.ServeContent(&counting{w, &gone}, r, "", time.Time{}, bytes.NewReader(crashing))
	})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, finished := nettest.MemoryDir(t), 0
	for range times {
		child := exec.Command(self, "-test.run=^TestCrashChild$")
		child.Env = append(os.Environ(), crashDir+"="+dir, crashURL+"="+url)
		before := gone.Load()
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- child.Wait() }()
		killAfter(child, ended, &gone, before, random)
		if checkCrash(t, dir) {
			finished++
			clearCrash(t, dir)
		}
	}
	t.Logf("%d of %d finished before they were killed", finished, times)
	completes(t, dir, url)
}

// completes wants the next transfer to go on with whatever is there, to the end.
func completes(t *testing.T, dir, url string) {
	t.Helper()
	f := quick(t)
	var err error
	if f.Store, err = store.Open(filepath.Join(dir, "store")); err != nil {
		t.Fatal(err)
	}
	defer f.Store.Close()
	if err := f.toPath(context.Background(), crashJob(url), filepath.Join(dir, "kernel")); err != nil {
		t.Fatal(err, attempts(err))
	}
	if !checkCrash(t, dir) || !f.Store.Has(blob.Of(crashing)) {
		t.Error("it is not there in the end")
	}
	left, _ := filepath.Glob(filepath.Join(dir, durable.TempPrefix+"*"))
	if len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// killAfter kills the child some time after some bytes were sent to it, unless it
// has ended before.
func killAfter(child *exec.Cmd, ended <-chan error, gone *atomic.Int64, before int64, random *rand.Rand) {
	bytes, later := random.Int64N(int64(len(crashing))/3), time.Duration(random.Int64N(int64(8*time.Millisecond)))
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for enough := false; ; {
		select {
		case <-ended:
			return
		case <-poll.C:
		}
		if !enough {
			enough = gone.Load()-before > bytes
			continue
		}
		time.Sleep(later) // wherever it is then
		child.Process.Kill()
		<-ended
		return
	}
}

// counting counts what was sent.
type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *counting) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

// checkCrash wants what has a name to be right, and says whether the file has one.
func checkCrash(t *testing.T, dir string) bool {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(dir, "kernel"))
	if err == nil && !bytes.Equal(got, crashing) {
		t.Fatalf("%d wrong bytes under the final name", len(got))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	hex := blob.Of(crashing).Hex()
	cached, cacheErr := os.ReadFile(filepath.Join(dir, "store", "blobs", hex[:2], hex+".bin"))
	if cacheErr == nil && !bytes.Equal(cached, crashing) {
		t.Fatalf("%d wrong bytes in the cache", len(cached))
	}
	return err == nil
}

// clearCrash begins again, now and then with what is unfinished.
func clearCrash(t *testing.T, dir string) {
	t.Helper()
	hex := blob.Of(crashing).Hex()
	os.Remove(filepath.Join(dir, "store", "blobs", hex[:2], hex+".bin"))
	if err := os.Remove(filepath.Join(dir, "kernel")); err != nil {
		t.Fatal(err)
	}
}

func TestResumeFetchesOnlyWhatIsMissing(t *testing.T) {
	var asked requests
	dir := t.TempDir()
	path := filepath.Join(dir, "kernel")
	j := chunkedJob(t, large, serve(t, asked.counted(honest(large))))
	// What a killed process left: right chunks, a wrong one, and holes.
	half := bytes.Clone(damaged(4)[:15*blob.ChunkSize])
	clear(half[8*blob.ChunkSize : 9*blob.ChunkSize])
	part := filepath.Join(dir, durable.TempPrefix+"kernel-"+j.digest.Hex()[:16]+partSuffix)
	old := filepath.Join(dir, durable.TempPrefix+"kernel-0123456789abcdef"+partSuffix)
	for _, p := range []string{part, old} {
		if err := os.WriteFile(p, half, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f := quick(t)
	r := reported(f)
	if err := f.toPath(context.Background(), j, path); err != nil {
		t.Fatal(err, attempts(err))
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, large) {
		t.Error("wrong content")
	}
	for i := range 21 {
		want := i == 4 || i == 8 || i >= 15
		if got := asked.all()[i] > 0; got != want {
			t.Errorf("chunk %d: asked for is %v", i, got)
		}
	}
	if r.Kept != 13*blob.ChunkSize {
		t.Errorf("%d bytes were kept", r.Kept)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestInterruptedTransferStays(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Range"), "bytes=0-") {
			honest(large)(w, r)
			return
		}
		cancel()
		<-r.Context().Done()
	})
	f := quick(t)
	f.Store = openStore(t)
	err := f.toPath(ctx, chunkedJob(t, large, url), filepath.Join(dir, "kernel"))
	var e *Error
	if !errors.As(err, &e) || e.Code() != "FETCH-004" {
		t.Fatalf("%v%s", err, attempts(err))
	}
	// The next one has it from either place.
	for _, name := range []string{"kernel", "elsewhere"} {
		var asked requests
		r := reported(f)
		if err := f.toPath(context.Background(), chunkedJob(t, large, serve(t, asked.counted(honest(large)))), filepath.Join(dir, name)); err != nil {
			t.Fatal(err, attempts(err))
		}
		if r.Kept < newSpan*blob.ChunkSize || asked.all()[0] > 0 {
			t.Errorf("%s: kept %d", name, r.Kept)
		}
	}
}

// TestRottenCacheIsRepaired: only the rotten chunk comes from the network.
func TestRottenCacheIsRepaired(t *testing.T) {
	var asked requests
	f := quick(t)
	f.Store = openStore(t)
	j := chunkedJob(t, large, serve(t, asked.counted(honest(large))))
	path := f.Store.Path(j.digest)
	os.MkdirAll(filepath.Dir(path), 0o755)
	if err := os.WriteFile(path, damaged(6), 0o644); err != nil {
		t.Fatal(err)
	}
	mustFile(t, f, j, large)
	if all := asked.all(); len(all) != 1 || all[6] != 1 {
		t.Errorf("asked for %v", all)
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, large) {
		t.Error("the cache is not repaired")
	}
}
