package node_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/wasm/wasmtest"
	"github.com/phasebased/phase/receipt"
)

// maxGrowth is how much memory an attack of this file may cost the node, in bytes:
// a few modules of the largest size that pass through at once.
const maxGrowth = 512 << 20

// wasi are the imports of the modules below.
const wasi = `
	(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
	(import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
	(import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
	(memory (export "memory") 17)`

// gibibyte writes 1 GiB, a MiB at a time.
const gibibyte = `(module ` + wasi + `(func (export "_start") (local $n i32)
	i32.const 4 i32.const 1048576 i32.store
	loop $more
		i32.const 1 i32.const 0 i32.const 1 i32.const 8 call $fd_write drop
		local.get $n i32.const 1 i32.add local.tee $n i32.const 1024 i32.ne br_if $more
	end))`

func assemble(t testing.TB, text string) []byte {
	t.Helper()
	module, err := wasmtest.Assemble(text)
	nettest.Check(t, err)
	return module
}

// functions is a module of so many functions that do nothing.
func functions(count int) []byte {
	vector := func(entry string) []byte { return append(uleb(count), strings.Repeat(entry, count)...) }
	module := oneSection(1, []byte("\x01\x60\x00\x00"))
	module = section(module, 3, vector("\x00"))
	module = section(module, 7, []byte("\x01\x06_start\x00\x00"))
	return section(module, 10, vector("\x02\x00\x0b"))
}

func section(module []byte, id byte, body []byte) []byte {
	return append(append(append(module, id), uleb(len(body))...), body...)
}

func oneSection(id byte, body []byte) []byte {
	return section([]byte("\x00asm\x01\x00\x00\x00"), id, body)
}

func uleb(v int) (out []byte) {
	for ; v >= 0x80; v >>= 7 {
		out = append(out, byte(v)|0x80)
	}
	return append(out, byte(v))
}

// TestHostileModules: each ends as it must, with a receipt or a stated refusal,
// and others are served all the while.
func TestHostileModules(t *testing.T) {
	mallory, alice := newKey(t), newKey(t)
	n := start(t, nil, mallory, alice)
	o := n.serve(t, alice)
	n.resetPeak()
	before := n.memory("VmRSS")
	soon := func(s *job.Spec) { s.Limits.DeadlineMS = 1500 }
	poor := func(s *job.Spec) { s.Limits.Fuel = 1e6 }
	loop := `(module (func $f loop $l br $l end) (func (export "_start")) (start $f))`
	grow := `(module (memory 1) (func (export "_start") loop $l i32.const 1 memory.grow drop br $l end))`
	for _, c := range []struct {
		name   string
		module []byte
		change func(*job.Spec)
		end    job.State
		reason job.Reason // of Refused
	}{
		{"empty", nil, nil, job.Refused, job.Malformed},
		{"bad magic", []byte("\x00asl\x01\x00\x00\x00"), nil, job.Refused, job.Malformed},
		{"a program", []byte("\x7fELF\x02\x01\x01\x00"), nil, job.Refused, job.Malformed},
		{"64 MiB of zeros", append([]byte("\x00asm\x01\x00\x00\x00"), make([]byte, job.MaxModuleBytes-8)...), nil, job.Refused, job.TooBig},
		{"20 million types", oneSection(1, append(uleb(20_000_000), bytes.Repeat([]byte("\x60\x00\x00"), 20_000_000)...)), nil, job.Refused, job.TooBig},
		{"a million functions", functions(1_000_000), nil, job.Refused, job.TooBig},
		{"a hundred thousand functions", functions(100_000), nil, job.Exited, ""},
		{"infinite loop in start, by time", assemble(t, loop), soon, job.Deadline, ""},
		{"infinite loop in start, by fuel", assemble(t, loop), poor, job.OutOfFuel, ""},
		{"memory.grow loop, by time", assemble(t, grow), soon, job.Deadline, ""},
		{"memory.grow loop, by fuel", assemble(t, grow), poor, job.OutOfFuel, ""},
		{"1 GiB of output", assemble(t, gibibyte), nil, job.OutputCap, ""},
		{"1 GiB of output, at the node's cap", assemble(t, gibibyte), func(s *job.Spec) { s.Limits.StdoutBytes = 8 << 20 }, job.OutputCap, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o.during(t, func() { attack(t, n.as(mallory), c.module, c.change, c.end, c.reason) })
		})
	}
	if after := n.memory("VmHWM"); after > before+maxGrowth {
		t.Errorf("the node grew from %d to %d MiB", before>>20, after>>20)
	} else {
		t.Logf("the node's memory: %d MiB before, at most %d MiB", before>>20, after>>20)
	}
}

// attack submits a module and holds its end to what must come of it.
func attack(t *testing.T, s submitter, module []byte, change func(*job.Spec), state job.State, reason job.Reason) {
	t.Helper()
	nettest.Check(t, s.client.Upload(t.Context(), module))
	j := newJob(t, blob.Of(module), change)
	_, err := s.submit(t.Context(), j)
	nettest.Check(t, err)
	end := s.wait(j.ID())
	if end.State != state {
		t.Fatalf("ended as %s %s, want %s", end.State, end.Detail, state)
	}
	if state == job.Refused {
		if end.Failure == nil || end.Failure.Reason != reason || end.Failure.Code == "" || end.Failure.Hint == "" || end.Receipt {
			t.Fatalf("the failure is %+v, want %s", end.Failure, reason)
		}
		return
	}
	raw, err := s.client.Receipt(t.Context(), j.ID())
	nettest.Check(t, err)
	_, statement, err := receipt.Judge(raw, receipt.Expectation{
		NodeKey: s.node.key, JobID: j.ID(), Stdout: end.Stdout.Digest, Stderr: end.Stderr.Digest, Now: time.Now(),
	})
	nettest.Check(t, err)
	limits := j.Limits()
	if got := statement.Result; got.EndState != receipt.EndState(state) || got.Stdout.Size > limits.StdoutBytes ||
		got.Stdout.Truncated != (state == job.OutputCap) || got.Fuel.Used > limits.Fuel {
		t.Fatalf("the receipt says %+v", got)
	}
	var out bytes.Buffer
	nettest.Check(t, s.client.Output(t.Context(), j.ID(), "stdout", end.Stdout, &out))
	if int64(out.Len()) != end.Stdout.Size {
		t.Fatalf("%d bytes of output, want %d", out.Len(), end.Stdout.Size)
	}
}

// endless gives zeros for ever.
type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestModuleOf200MiB: neither who uploads it nor a provider that answers with it gets
// more than the node's cap into the sandbox, and nothing of it into the node's memory.
// As a file it could be an input of a job, which may be larger than a module.
func TestModuleOf200MiB(t *testing.T) {
	const size = 200 << 20
	mallory, alice := newKey(t), newKey(t)
	var sent atomic.Int64
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/blobs/") {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			count, _ := io.CopyN(w, endless{}, size)
			sent.Add(count)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(provider.Close)
	n := start(t, map[string]any{"providers": []string{provider.URL}}, mallory, alice)
	o := n.serve(t, alice)
	n.resetPeak()
	before := n.memory("VmRSS")
	name := blob.Of([]byte("a large module"))
	t.Run("said in advance", func(t *testing.T) {
		o.during(t, func() { wantStatus(t, n, putHead(name, "Content-Length: 1073741825"), endless{}, 413) })
	})
	t.Run("under another name", func(t *testing.T) {
		o.during(t, func() { wantStatus(t, n, putHead(name, "Content-Length: 209715200"), endless{}, 400) })
	})
	t.Run("whole", func(t *testing.T) {
		digest := zeros(t, size)
		o.during(t, func() {
			nettest.Check(t, n.client.UploadFrom(t.Context(), digest, size, zeroAt{}))
			tooBig(t, n.as(mallory), digest)
		})
	})
	t.Run("where no job has inputs", func(t *testing.T) {
		n := start(t, map[string]any{"limits": map[string]any{"max_input_bytes": 0}}, mallory, alice)
		o := n.serve(t, alice)
		o.during(t, func() { wantStatus(t, n, putHead(name, "Content-Length: 209715200"), endless{}, 413) })
	})
	t.Run("of no stated size", func(t *testing.T) {
		o.during(t, func() { wantStatus(t, n, putHead(name, "Transfer-Encoding: chunked"), endless{}, 400) })
	})
	t.Run("from a provider", func(t *testing.T) {
		o.during(t, func() {
			j := newJob(t, name, nil)
			_, err := n.as(mallory).submit(t.Context(), j)
			nettest.Check(t, err)
			end := n.wait(j.ID())
			if end.State != job.Refused || end.Failure == nil || end.Failure.Reason != job.Unavailable && end.Failure.Reason != job.TooBig {
				t.Fatalf("%+v, %+v", end, end.Failure)
			}
		})
		if sent.Load() == 0 {
			t.Error("the provider was never asked")
		}
		t.Logf("the provider sent %d MiB, the last job was refused", sent.Load()>>20)
	})
	if after := n.memory("VmHWM"); after > before+maxGrowth {
		t.Errorf("the node grew from %d to %d MiB", before>>20, after>>20)
	}
	wantOnlyBlobs(t, n)
}

// zeroAt is as many zeros as anybody wants.
type zeroAt struct{}

func (zeroAt) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

// zeros is the digest of so many.
func zeros(t *testing.T, size int64) blob.Digest {
	t.Helper()
	h := sha256.New()
	_, err := io.CopyN(h, endless{}, size)
	nettest.Check(t, err)
	return blob.FromSum([sha256.Size]byte(h.Sum(nil)))
}

// tooBig: a job with this file as its module ends as refused for its size.
func tooBig(t *testing.T, s submitter, module blob.Digest) {
	t.Helper()
	j := newJob(t, module, nil)
	_, err := s.submit(t.Context(), j)
	nettest.Check(t, err)
	if end := s.wait(j.ID()); end.State != job.Refused || end.Receipt || end.Failure == nil || end.Failure.Reason != job.TooBig {
		t.Fatalf("%+v, %+v", end, end.Failure)
	}
}

// putHead is the head of an upload.
func putHead(name blob.Digest, header string) string {
	return "PUT /v1/blobs/" + name.String() + " HTTP/1.1\r\nHost: node\r\n" + header + "\r\n\r\n"
}

// wantStatus sends a request by hand, with as much of a body as the node takes.
func wantStatus(t *testing.T, n *node, head string, body io.Reader, want int) {
	t.Helper()
	c, err := dial(t.Context(), n)
	nettest.Check(t, err)
	defer c.Close()
	nettest.Check(t, c.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(c, head)
	nettest.Check(t, err)
	if body != nil {
		go func() { _, _ = io.Copy(c, body) }() // ends with the connection
	}
	got := make([]byte, len("HTTP/1.1 400"))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != fmt.Sprintf("HTTP/1.1 %d", want) {
		t.Fatalf("the answer to %.60q begins with %q (%v), want status %d", head, got, err, want)
	}
}

// dial connects, also while many others do: the kernel says EAGAIN then.
func dial(ctx context.Context, n *node) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		c, err := new(net.Dialer).DialContext(ctx, "unix", n.socket)
		if err == nil || ctx.Err() != nil || !isAgain(err) {
			return c, err
		}
		time.Sleep(time.Millisecond)
	}
}

// tricks are names that lead elsewhere where a path is made of them.
var tricks = []string{
	"../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/node.key", "sha256:../../node.key",
	"sha256:..%2f..%2fnode.key", "sha256:" + strings.Repeat("A", 64), "sha256:" + strings.Repeat("0", 63) + "%2f",
	"sha256:" + strings.Repeat("0", 63), "sha256:" + strings.Repeat("0", 64) + "%00.bin", "/etc/passwd", "%00", "..",
	"sha256:" + strings.Repeat("0", 64) + "/../../../../etc/passwd",
}

// TestPathTricks: nobody gets at a file by a name, from outside or from within a job.
func TestPathTricks(t *testing.T) {
	mallory, alice := newKey(t), newKey(t)
	n := start(t, nil, mallory, alice)
	o := n.serve(t, alice)
	t.Run("in requests", func(t *testing.T) {
		o.during(t, func() {
			for _, trick := range tricks {
				wantNothing(t, n, "GET /v1/jobs/"+trick+" HTTP/1.1\r\nHost: node\r\n\r\n")
				wantNothing(t, n, "GET /v1/jobs/"+trick+"/stdout HTTP/1.1\r\nHost: node\r\n\r\n")
				wantNothing(t, n, "PUT /v1/blobs/"+trick+" HTTP/1.1\r\nHost: node\r\nContent-Length: 1\r\n\r\nx")
			}
		})
	})
	t.Run("in specifications", func(t *testing.T) {
		o.during(t, func() {
			for _, trick := range tricks {
				spec := fmt.Appendf(nil, `{"version":1,"module_hash":%q,"args":[],"env":{},"stdin":"","limits":{},"nonce":%q}`, trick, nonce())
				if _, err := n.client.Submit(t.Context(), jobapi.TypeSpec, spec); reasonOf(err) != job.Malformed {
					t.Fatalf("%q: %v", trick, err)
				}
			}
		})
	})
	t.Run("in guests", func(t *testing.T) { o.during(t, func() { guestOpens(t, n.as(mallory)) }) })
	wantOnlyBlobs(t, n)
}

// wantNothing: the answer is no success and holds no file.
func wantNothing(t *testing.T, n *node, request string) {
	t.Helper()
	c, err := dial(t.Context(), n)
	nettest.Check(t, err)
	defer c.Close()
	nettest.Check(t, c.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(c, request)
	nettest.Check(t, err)
	answer := make([]byte, 64<<10)
	length, err := c.Read(answer)
	answer = answer[:length]
	if err != nil || !regexp.MustCompile(`^HTTP/1.1 (3|4)\d\d `).Match(answer) || bytes.Contains(answer, []byte("root:")) {
		t.Fatalf("%q: %q, %v", request, answer, err)
	}
}

// guestOpens runs a job that opens files, below each descriptor it might have. It
// exits with the number of those that it could open.
func guestOpens(t *testing.T, s submitter) {
	t.Helper()
	for _, path := range []string{"/etc/passwd", "../../../../etc/passwd", "etc/passwd", ".", "/", "/proc/self/mem", "node.key"} {
		module := assemble(t, fmt.Sprintf(`(module %s (data (i32.const 64) %q) (func (export "_start") (local $fd i32) (local $opened i32)
			loop $next
				local.get $fd i32.const 1 i32.const 64 i32.const %d i32.const 0 i64.const 2 i64.const 2 i32.const 0 i32.const 32 call $path_open
				i32.eqz local.get $opened i32.add local.set $opened
				local.get $fd i32.const 1 i32.add local.tee $fd i32.const 16 i32.ne br_if $next
			end
			local.get $opened call $proc_exit))`, wasi, path, len(path)))
		s.upload(module)
		j := newJob(t, blob.Of(module), func(s *job.Spec) { s.Args = []string{path} })
		_, err := s.submit(t.Context(), j)
		nettest.Check(t, err)
		if end := s.wait(j.ID()); end.State != job.Exited || end.ExitCode != 0 {
			t.Fatalf("%s: %s %d %s", path, end.State, end.ExitCode, end.Detail)
		}
	}
}

// wantOnlyBlobs: in the node's stores is nothing but what is named by its digest.
func wantOnlyBlobs(t *testing.T, n *node) {
	t.Helper()
	named := regexp.MustCompile(`^[0-9a-f]{2}(/[0-9a-f]{64}\.bin)?$`)
	root := filepath.Join(n.state(), "blobs")
	seen := 0
	nettest.Check(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		seen++
		name, err := filepath.Rel(root, path)
		if !named.MatchString(name) {
			t.Errorf("%s is among the modules", name)
		}
		return err
	}))
	if seen == 0 {
		t.Error("no module is kept at all")
	}
}
