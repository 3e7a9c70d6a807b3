package main

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/keyfile"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/receipt"
)

// TestJobScripts runs the job commands against a real plasmd.
func TestJobScripts(t *testing.T) {
	plasmd := filepath.Join(t.TempDir(), "plasmd")
	build := exec.Command("go", "build", "-o", plasmd, "../plasmd")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	beside := filepath.Join(filepath.Dir(plasmd), "phase")
	self, err := os.Executable()
	if err == nil {
		err = copyFile(self, beside) // a link would be followed
	}
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/job",
		Setup: func(env *testscript.Env) error {
			// Not below the test's folder: the path of a socket is short.
			dir, err := os.MkdirTemp("", "phase-job")
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(dir) })
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("SOCKET", filepath.Join(dir, "s"))
			env.Setenv("PLASMD", plasmd)
			env.Setenv("PHASE", beside)
			hello, err := os.ReadFile("../../examples/hello/hello.wasm")
			if err != nil {
				return err
			}
			key, err := keyfile.Generate()
			if err != nil {
				return err
			}
			if err := keyfile.Write(filepath.Join(env.WorkDir, "alice.pem"), key, keyfile.Passphrase{}); err != nil {
				return err
			}
			stranger, err := keyfile.Generate()
			if err != nil {
				return err
			}
			if err := keyfile.Write(filepath.Join(env.WorkDir, "mallory.pem"), stranger, keyfile.Passphrase{}); err != nil {
				return err
			}
			env.Setenv("ALICE", job.FormatKey(key.Public().(ed25519.PublicKey)))
			for name, vector := range map[string]string{"fraud.json": "fraud-results.json", "nofraud.json": "fraud-same-result.json"} {
				raw, err := os.ReadFile("../../quorum/testdata/vectors/" + vector)
				if err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), raw, 0o644); err != nil {
					return err
				}
			}
			for name, module := range map[string][]byte{"hello.wasm": hello, "loop.wasm": loopModule, "trap.wasm": trapModule, "reads.wasm": readsModule} {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), module, 0o644); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"node": cmdNode, "town": cmdTown, "awaitnodes": cmdAwaitNodes, "nodekey": cmdNodeKey, "known": cmdKnown, "killnode": cmdKillNode, "status": cmdStatus, "forge": cmdForge, "crowd": cmdCrowd, "submitmany": cmdSubmitMany, "receipts": cmdReceipts,
		},
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// Modules as bytes: (module (func (export "_start") loop br 0 end)) and the same
// with unreachable.
var (
	loopModule = []byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x07\x0a\x01\x06_start\x00\x00\x0a\x09\x01\x07\x00\x03\x40\x0c\x00\x0b\x0b")
	trapModule = []byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x07\x0a\x01\x06_start\x00\x00\x0a\x05\x01\x03\x00\x00\x0b")
)

// readsModule writes the first five bytes of the input a.txt. Its text is that of
// readsInput in the tests of package jobpeer, with that name.
var readsModule = []byte("\x00asm\x01\x00\x00\x00\x01\x19\x03`\t\x7f\x7f\x7f\x7f\x7f~~\x7f\x7f\x01\x7f`\x04\x7f\x7f\x7f\x7f\x01\x7f`\x00\x00\x02g\x03\x16wasi_snapshot_preview1\tpath_open\x00\x00\x16wasi_snapshot_preview1\afd_read\x00\x01\x16wasi_snapshot_preview1\bfd_write\x00\x01\x03\x02\x01\x02\x05\x03\x01\x00\x01\a\x13\x02\x06memory\x02\x00\x06_start\x00\x03\n?\x01=\x00A\x00A\x80\x016\x02\x00A\x04A\x056\x02\x00A\x03A\x00A\xc0\x00A\x05A\x00B\x02B\x00A\x00A \x10\x00\x1aA\x04A\x00A\x01A \x10\x01\x1aA\x01A\x00A\x01A \x10\x02\x1a\v\v\f\x01\x00A\xc0\x00\v\x05a.txt")

// node NAME [KEY=JSON…] starts plasmd with state and log of that name and waits
// for its socket.
func cmdNode(ts *testscript.TestScript, _ bool, args []string) {
	config := map[string]any{"listen_addrs": []string{}, "job_socket": ts.Getenv("SOCKET"), "serve_port": 0}
	for _, kv := range args[1:] {
		name, value, _ := strings.Cut(kv, "=")
		config[name] = json.RawMessage(value)
	}
	raw, err := json.Marshal(config)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("node.json"), raw, 0o644))
	log, err := os.OpenFile(ts.MkAbs(args[0]+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	ts.Check(err)
	cmd := exec.Command(ts.Getenv("PLASMD"), "start", "-c", ts.MkAbs("node.json"), "--state", ts.MkAbs(args[0]), "-v")
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, []string{"HOME=" + ts.Getenv("WORK"), "PATH=" + ts.Getenv("PATH")}
	ts.Check(cmd.Start())
	ts.Setenv("NODE_PID", strconv.Itoa(cmd.Process.Pid))
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait(); log.Close() }()
	ts.Defer(func() { _ = cmd.Process.Kill() })
	for range 600 {
		if c, err := net.Dial("unix", ts.Getenv("SOCKET")); err == nil {
			c.Close()
			return
		}
		select {
		case err := <-ended:
			ts.Fatalf("plasmd ended: %v\n%s", err, ts.ReadFile(args[0]+".log"))
		case <-time.After(50 * time.Millisecond):
		}
	}
	ts.Fatalf("plasmd does not listen:\n%s", ts.ReadFile(args[0]+".log"))
}

// town N [FLAG…] starts so many nodes that take alice's jobs from others, on loopback; the
// first is where the others join. Sets $KEY1 and $ADDR1 and so on, and $JOIN. Flags
// are for plasmd start.
func cmdTown(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	join := []string{}
	for i := range n {
		name := strconv.Itoa(i + 1)
		config, err := json.Marshal(map[string]any{
			"listen_addrs": []string{"/ip4/127.0.0.1/tcp/0"}, "bootstrap_peers": join, "submitters": []string{ts.Getenv("ALICE")},
			"job_socket": "none", "serve_port": 0, "max_concurrent_jobs": 1,
		})
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs("town"+name+".json"), config, 0o644))
		events := ts.MkAbs("town" + name + ".events")
		ts.Check(os.WriteFile(events, nil, 0o644))
		log, err := os.OpenFile(ts.MkAbs("town"+name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		ts.Check(err)
		flags := []string{"start", "-c", ts.MkAbs("town" + name + ".json"), "--state", ts.MkAbs("town" + name), "--events", events, "-v"}
		cmd := exec.Command(ts.Getenv("PLASMD"), append(flags, args[1:]...)...)
		cmd.Stdout, cmd.Stderr, cmd.Env = log, log, []string{"HOME=" + ts.Getenv("WORK"), "PATH=" + ts.Getenv("PATH")}
		ts.Check(cmd.Start())
		go func() { _ = cmd.Wait(); log.Close() }()
		ts.Defer(func() { _ = cmd.Process.Kill() })
		ts.Setenv("PID"+name, strconv.Itoa(cmd.Process.Pid))
		key, addr := readyNode(ts, events)
		ts.Setenv("KEY"+name, key)
		ts.Setenv("ADDR"+name, addr)
		if i == 0 {
			join = []string{addr}
			ts.Setenv("JOIN", `bootstrap_peers=["`+addr+`"]`)
		}
	}
}

// readyNode waits until a node is up, and gives its key and an address.
func readyNode(ts *testscript.TestScript, events string) (key, addr string) {
	for range 1200 {
		raw, err := os.ReadFile(events)
		ts.Check(err)
		for line := range strings.Lines(string(raw)) {
			var e struct {
				Event string
				Data  struct {
					Key   string   `json:"node_key"`
					Addrs []string `json:"p2p_addrs"`
				}
			}
			if json.Unmarshal([]byte(line), &e) == nil && e.Event == timeline.EventNodeReady && len(e.Data.Addrs) > 0 {
				return e.Data.Key, e.Data.Addrs[0]
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("the node is not up:\n%s", ts.ReadFile(strings.TrimSuffix(events, ".events")+".log"))
	return "", ""
}

// nodekey NAME sets $NAME to the key of the node at the socket.
func cmdNodeKey(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec("phase", "job", "--socket", ts.Getenv("SOCKET"), "--format", "json", "nodes"))
	var nodes []struct{ Key string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &nodes))
	ts.Setenv(args[0], nodes[0].Key)
}

// known FILE KEY[,OPERATOR[,ADDR]]… writes a list of known nodes.
func cmdKnown(ts *testscript.TestScript, _ bool, args []string) {
	list := []map[string]any{}
	for _, arg := range args[1:] {
		parts := strings.Split(arg, ",")
		n := map[string]any{"key": parts[0]}
		if len(parts) > 1 {
			n["operator"] = parts[1]
		}
		if len(parts) > 2 {
			n["addrs"] = parts[2:]
		}
		list = append(list, n)
	}
	raw, err := json.Marshal(map[string]any{"nodes": list})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), raw, 0o644))
}

// awaitnodes N asks for the network's nodes until so many run alice's jobs.
func cmdAwaitNodes(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	for range 120 {
		err := ts.Exec("phase", "job", "--socket", ts.Getenv("SOCKET"), "--format", "json", "nodes", "--network", "--key", "alice.pem")
		var nodes []struct {
			Capacity *struct{ Accepts, Quorum bool }
		}
		if err == nil && json.Unmarshal([]byte(ts.ReadFile("stdout")), &nodes) == nil {
			able := 0
			for _, n := range nodes {
				if n.Capacity != nil && n.Capacity.Accepts && n.Capacity.Quorum {
					able++
				}
			}
			if able == want {
				return
			}
		}
		time.Sleep(500 * time.Millisecond)
	}
	ts.Fatalf("there are not %d nodes:\n%s\n%s", want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
}

// killnode SIGNAL ends the node that was started last and waits for its end.
func cmdKillNode(ts *testscript.TestScript, _ bool, args []string) {
	pid, err := strconv.Atoi(ts.Getenv("NODE_PID"))
	ts.Check(err)
	signal := map[string]syscall.Signal{"KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM}[args[0]]
	ts.Check(syscall.Kill(pid, signal))
	for range 600 {
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("plasmd %d does not end", pid)
}

// status N COMMAND… wants an exit status.
func cmdStatus(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("status %d, want %s", got, args[0])
	}
}

// forge IN OUT HOW makes a receipt that must not be accepted, signed by alice.
func cmdForge(ts *testscript.TestScript, _ bool, args []string) {
	key, err := keyfile.Read(ts.MkAbs("alice.pem"), nil)
	ts.Check(err)
	raw := []byte(ts.ReadFile(args[0]))
	var envelope struct{ Payload []byte }
	ts.Check(json.Unmarshal(raw, &envelope))
	var s struct {
		Predicate struct {
			Observation struct {
				NodeKey string `json:"node_key"`
			}
		}
	}
	ts.Check(json.Unmarshal(envelope.Payload, &s))
	node, err := job.ParseKey(s.Predicate.Observation.NodeKey)
	ts.Check(err)
	statement, err := receipt.Verify(raw, node)
	ts.Check(err)
	switch args[2] {
	case "output":
		statement.Result.Stdout = receipt.OutputOf([]byte("forged\n"), false)
	case "job":
		statement.Result.JobID = blob.Of([]byte("another"))
	case "future":
		statement.Observation.Timings.StartedAt = statement.Observation.Timings.StartedAt.Add(24 * time.Hour)
	case "truncated":
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), raw[:len(raw)/2], 0o644))
		return
	case "payload": // changed under the node's own signature
		other := []byte(strings.Replace(string(envelope.Payload), `"exit_code":0`, `"exit_code":1`, 1))
		e := dsse.Envelope{PayloadType: receipt.PayloadType, Payload: other, Signatures: []dsse.Signature{dsse.Sign(receipt.PayloadType, envelope.Payload, key)}}
		forged, err := e.Marshal()
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), forged, 0o644))
		return
	}
	forged, err := receipt.Sign(statement, key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), forged, 0o644))
}

// crowd N opens N connections to the node and keeps them until the end: half
// say nothing, the others begin a request that they never finish.
func cmdCrowd(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	var limit syscall.Rlimit
	ts.Check(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	n = min(n, int(limit.Cur)-200)
	var conns []net.Conn
	ts.Defer(func() {
		for _, c := range conns {
			c.Close()
		}
	})
	for i := range n {
		c, err := net.Dial("unix", ts.Getenv("SOCKET"))
		for ; errors.Is(err, syscall.EAGAIN); c, err = net.Dial("unix", ts.Getenv("SOCKET")) {
			time.Sleep(time.Millisecond)
		}
		ts.Check(err)
		conns = append(conns, c)
		if i%2 == 1 { // the node may have closed it already
			_, _ = c.Write([]byte("PUT /v1/blobs/sha256:"))
		}
	}
	ts.Logf("%d connections", n)
}

// submitmany N MODULE FILE submits jobs and writes their ids, a line each.
func cmdSubmitMany(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	var ids strings.Builder
	for i := range n {
		ts.Check(ts.Exec("phase", "job", "--socket", ts.Getenv("SOCKET"), "submit", "--deadline", "60s", args[1], strconv.Itoa(i)))
		ids.WriteString(ts.ReadFile("stdout"))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(ids.String()), 0o644))
	for i, id := range strings.Fields(ids.String()) {
		ts.Setenv("ID"+strconv.Itoa(i+1), id)
	}
}

// receipts RUN.json OUT takes the receipt out of what job run wrote, and sets
// $NODE_KEY and $JOB and the file out.
func cmdReceipts(ts *testscript.TestScript, _ bool, args []string) {
	var r struct {
		Status  job.Status
		Stdout  []byte
		Receipt json.RawMessage
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &r))
	var compact strings.Builder
	enc := json.NewEncoder(&compact)
	enc.SetEscapeHTML(false)
	ts.Check(enc.Encode(r.Receipt))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(compact.String()), 0o644))
	ts.Check(os.WriteFile(ts.MkAbs("out"), r.Stdout, 0o644))
	ts.Setenv("JOB", r.Status.ID.String())
	ts.Check(ts.Exec("phase", "job", "--socket", ts.Getenv("SOCKET"), "--format", "json", "nodes"))
	var nodes []struct{ Key string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &nodes))
	ts.Setenv("NODE_KEY", nodes[0].Key)
}
