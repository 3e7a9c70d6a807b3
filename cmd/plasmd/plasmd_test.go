package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/internal/wasm/wasmtest"
	"github.com/phasebased/phase/receipt"
)

// TestMain lets the test binary be plasmd, also when plasmd starts itself as
// a runner.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == runnerCommand {
		main()
	}
	testscript.Main(m, map[string]func(){"plasmd": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: prepareScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"assemble":    cmdAssemble,
			"jobfile":     cmdJobFile,
			"blobserver":  cmdBlobServer,
			"waitfor":     cmdWaitFor,
			"checkevents": cmdCheckEvents,
			"receiptof":   cmdReceiptOf,
			"verify":      cmdVerify,
			"publish":     cmdPublish,
			"truncate":    cmdTruncate,
			"waitstatus":  cmdWaitStatus,
			"nodeconfig":  cmdNodeConfig,
			"samenode":    cmdSameNode,
		},
	})
}

// prepareScript gives each script a home of its own and the hello job.
func prepareScript(env *testscript.Env) error {
	env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
	env.Setenv("RUNTIME_DIRECTORY", filepath.Join(env.WorkDir, "run")) // of the job socket
	hello, err := os.ReadFile("../../examples/hello/hello.wasm")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(env.WorkDir, "hello.wasm"), hello, 0o644)
}

// assemble IN.wat OUT.wasm
func cmdAssemble(ts *testscript.TestScript, _ bool, args []string) {
	module, err := wasmtest.Assemble(ts.ReadFile(args[0]))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), module, 0o644))
}

// jobfile OUT.json MODULE.wasm args… writes a job file; NAME=+FILE is an input.
func cmdJobFile(ts *testscript.TestScript, _ bool, args []string) {
	module := ts.ReadFile(args[1])
	spec := job.Spec{Version: job.SpecVersion, Module: blob.Of([]byte(module)), Inputs: map[string]job.Input{}}
	for _, arg := range args[2:] {
		if name, file, ok := strings.Cut(arg, "=+"); ok { // an input
			data := []byte(ts.ReadFile(file))
			spec.Inputs[name] = job.Input{Digest: blob.Of(data), Size: int64(len(data))}
			continue
		}
		spec.Args = append(spec.Args, arg)
	}
	j, err := job.New(spec)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), j.Payload(), 0o644))
}

// blobserver MODULE.wasm [BYTES|+FILE] serves a module under its hash, or BYTES in
// its place, or a file under its own hash as well, takes receipts into the folder received, and sets $BASE.
func cmdBlobServer(ts *testscript.TestScript, _ bool, args []string) {
	module := []byte(ts.ReadFile(args[0]))
	path := "/blobs/" + blob.Of(module).Hex()[:2] + "/" + blob.Of(module).Hex() + ".bin"
	mux := http.NewServeMux()
	if len(args) > 1 {
		if file, ok := strings.CutPrefix(args[1], "+"); ok {
			data := []byte(ts.ReadFile(file))
			name := blob.Of(data).Hex()
			mux.HandleFunc("GET /blobs/"+name[:2]+"/"+name+".bin", func(w http.ResponseWriter, r *http.Request) {
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
			})
		} else {
			module = []byte(args[1])
		}
	}
	dir := ts.MkAbs("received")
	ts.Check(os.MkdirAll(dir, 0o755))
	mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(module) })
	mux.HandleFunc("POST /receipts", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, receipt.MaxBytes))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "receipt.json"), body, 0o644)
		}
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	server := httptest.NewServer(mux)
	ts.Defer(server.Close)
	ts.Setenv("BASE", server.URL)
	config, err := json.Marshal(map[string]any{
		"listen_addrs": []string{}, "boot_jobs": []string{ts.MkAbs("hello.json")}, "providers": []string{server.URL},
	})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("config.json"), config, 0o644))
}

// waitfor FILE TEXT waits until FILE holds TEXT.
func cmdWaitFor(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		if data, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && strings.Contains(string(data), args[1]) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	data, _ := os.ReadFile(ts.MkAbs(args[0]))
	ts.Fatalf("%s never held %q:\n%s", args[0], args[1], data)
}

// checkevents FILE EVENT… reads FILE as whoever watches a node does, and wants
// these events in this order among the others.
func cmdCheckEvents(ts *testscript.TestScript, _ bool, args []string) {
	var got []string
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		e, err := timeline.ParseEvent([]byte(line))
		ts.Check(err)
		if e.Kernel != timeline.KernelNode || e.AtNS <= 0 {
			ts.Fatalf("event without kernel or time: %s", line)
		}
		name := e.Event
		if e.Stage != "" {
			name += ":" + e.Stage
		}
		if e.Code != "" {
			name += ":" + e.Code
		}
		got = append(got, name)
	}
	rest := got
	for _, want := range args[1:] {
		at := slices.Index(rest, want)
		if at < 0 {
			ts.Fatalf("no %q in its place among %q", want, got)
		}
		rest = rest[at+1:]
	}
}

// waitstatus URL TEXT waits until the provider's status holds TEXT.
func cmdWaitStatus(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(time.Minute)
	var last []byte
	for time.Now().Before(deadline) {
		if resp, err := http.Get(args[0] + "/status"); err == nil {
			last, _ = io.ReadAll(io.LimitReader(resp.Body, maxStatus))
			resp.Body.Close()
			if strings.Contains(string(last), args[1]) {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("the status never held %q: %s", args[1], last)
}

// truncate FILE SIZE makes a file of zeros.
func cmdTruncate(ts *testscript.TestScript, _ bool, args []string) {
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), nil, 0o644))
	ts.Check(os.Truncate(ts.MkAbs(args[0]), size))
}

// publish DIR VERSION BLOB writes a signed release with a small kernel.
func cmdPublish(ts *testscript.TestScript, _ bool, args []string) {
	version, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	for _, name := range []string{"kernel", "initramfs"} {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte("the "+name+"\n"), 0o644))
	}
	keys, err := release.LoadOrCreateKeys(ts.MkAbs("keys"))
	ts.Check(err)
	now := time.Now().UTC().Truncate(time.Second)
	root, err := keys.RootFile(now.AddDate(1, 0, 0))
	ts.Check(err)
	_, err = release.Publish(ts.MkAbs(args[0]), release.Release{
		Channel: "stable", Arch: "x86_64", Version: version, Created: now.Add(-time.Minute),
		Expires: now.AddDate(0, 0, 30), PointerExpiry: now.AddDate(0, 0, 7),
		Kernel: ts.MkAbs("kernel"), Initramfs: ts.MkAbs("initramfs"), Blobs: []string{ts.MkAbs(args[2])},
		Bases: []string{"http://127.0.0.1:1"},
	}, keys, root)
	ts.Check(err)
}

// nodeconfig READY.json JOB.json writes config.json of a node that knows the
// provider of READY.json and joins the DHT through it, and sets $BASE.
func cmdNodeConfig(ts *testscript.TestScript, _ bool, args []string) {
	var ready readyFile
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &ready))
	config, err := json.Marshal(map[string]any{
		"listen_addrs": []string{"/ip4/127.0.0.1/tcp/0"}, "bootstrap_peers": ready.P2PAddrs,
		"boot_jobs": []string{ts.MkAbs(args[1])}, "providers": []string{ready.HTTP},
	})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("config.json"), config, 0o644))
	ts.Setenv("BASE", ready.HTTP)
}

// verify RECEIPT EVENTS VERSION checks a receipt against the key of the
// node-ready event, that it is about the hello job, and the booted version (0:
// none).
func cmdVerify(ts *testscript.TestScript, _ bool, args []string) {
	s, err := receipt.Verify([]byte(ts.ReadFile(args[0])), readyKey(ts, args[1]))
	ts.Check(err)
	if s.Result.Stdout != receipt.OutputOf([]byte("dlroW ,olleH\n"), false) {
		ts.Fatalf("receipt of another output: %+v", s.Result)
	}
	booted := "0"
	if s.Observation.Booted != nil {
		booted = string(rune('0' + s.Observation.Booted.ManifestVersion))
	}
	if booted != args[2] {
		ts.Fatalf("receipt names booted version %s, want %s", booted, args[2])
	}
}

// receiptof EVENTS OUT takes the receipt out of the receipt event.
func cmdReceiptOf(ts *testscript.TestScript, _ bool, args []string) {
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		e, err := timeline.ParseEvent([]byte(line))
		ts.Check(err)
		if e.Event == timeline.EventReceipt {
			ts.Check(os.WriteFile(ts.MkAbs(args[1]), e.Data, 0o644))
			return
		}
	}
	ts.Fatalf("no receipt event in %s", args[0])
}

// samenode EVENTS EVENTS compares who two nodes said they were.
func cmdSameNode(ts *testscript.TestScript, not bool, args []string) {
	if same := readyKey(ts, args[0]).Equal(readyKey(ts, args[1])); same == not {
		ts.Fatalf("%s and %s are of one node: %t", args[0], args[1], same)
	}
}

func readyKey(ts *testscript.TestScript, events string) ed25519.PublicKey {
	for line := range strings.Lines(ts.ReadFile(events)) {
		e, err := timeline.ParseEvent([]byte(line))
		ts.Check(err)
		if e.Event != timeline.EventNodeReady {
			continue
		}
		var data struct {
			NodeKey string `json:"node_key"`
		}
		ts.Check(json.Unmarshal(e.Data, &data))
		key, err := hex.DecodeString(strings.TrimPrefix(data.NodeKey, "ed25519:"))
		ts.Check(err)
		return key
	}
	ts.Fatalf("no node-ready event in %s", events)
	return nil
}
