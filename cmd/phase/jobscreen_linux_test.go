package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
)

// slowNode is a node that takes half of an upload, and goes on when it is told to.
type slowNode struct {
	http.ServeMux
	on chan struct{}
}

// tellStatus writes a line of the answer to a run.
func tellStatus(w http.ResponseWriter, stage job.Stage, end *job.End) {
	s := job.Status{ID: blob.Of(nil), Module: blob.Of(nil), Stage: stage, End: end}
	_ = json.NewEncoder(w).Encode(map[string]any{"status": s})
	_ = http.NewResponseController(w).Flush()
}

func refuse(w http.ResponseWriter, f job.Failure) {
	w.WriteHeader(http.StatusConflict)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": f})
}

// socket is where it listens.
func (n *slowNode) socket(t *testing.T) string {
	t.Helper()
	n.on = make(chan struct{})
	n.HandleFunc("HEAD /v1/blobs/{digest}", http.NotFound)
	n.HandleFunc("PUT /v1/blobs/{digest}", func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > 1<<20 {
			_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
			select {
			case <-n.on:
			case <-r.Context().Done():
				return
			}
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
	})
	dir, err := os.MkdirTemp("", "phase-job") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: n}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return path
}

// phaseHere is this program as phase, and a folder with a module, loop.wasm, and an
// input of 4 MB.
func phaseHere(t *testing.T) (phase, dir string) {
	t.Helper()
	dir = t.TempDir()
	self, err := os.Executable()
	phase = filepath.Join(dir, "phase")
	if err := errors.Join(err, os.Symlink(self, phase), os.WriteFile(filepath.Join(dir, "loop.wasm"), loopModule, 0o600),
		os.WriteFile(filepath.Join(dir, "large"), make([]byte, 4e6), 0o600)); err != nil {
		t.Fatal(err)
	}
	return phase, dir
}

// lines is what stands on the screen in the end, without blanks at the ends of lines
// and the terminal's own echo of Ctrl-C.
func (p *person) lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(string(p.shown), "")
	var all []string
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		var row []rune
		for over := range strings.SplitSeq(line, "\r") {
			over := []rune(over)
			row = append(over, row[min(len(over), len(row)):]...)
		}
		all = append(all, strings.TrimRight(strings.ReplaceAll(string(row), "^C", ""), " "))
	}
	return all
}

// leaves waits for the program's end, and wants these lines on the screen, which are
// patterns.
func (p *person) leaves(status int, patterns ...string) {
	p.Helper()
	if err := p.cmd.Wait(); p.cmd.ProcessState.ExitCode() != status {
		p.Errorf("%v, want status %d", err, status)
	}
	p.sees(patterns[len(patterns)-1][:20]) // the screen comes later than the end
	got := p.lines()
	for i, want := range append(patterns, "") {
		if i >= len(got) || !regexp.MustCompile("^"+want+"$").MatchString(got[i]) {
			p.Fatalf("no %q in line %d of %q", want, i, got)
		}
	}
}

// TestUploadOnTerminal: after two seconds a person sees how far a large input is, to the
// byte in the end; what comes after it stands in lines of its own.
func TestUploadOnTerminal(t *testing.T) {
	for name, tt := range map[string]struct {
		env   []string
		args  []string
		plain bool
	}{
		"text":     {nil, nil, false},
		"NO_COLOR": {[]string{"NO_COLOR=1"}, nil, true},
		"json":     {nil, []string{"--format", "json"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var node slowNode
			node.HandleFunc("POST /v1/runs", func(w http.ResponseWriter, _ *http.Request) {
				refuse(w, job.Failure{Reason: job.Unauthorised, Code: "NODE-002", Text: "not yours", Hint: "Ask its owner."})
			})
			socket := node.socket(t)
			phase, dir := phaseHere(t)
			args := append([]string{"job", "--socket", socket}, tt.args...)
			args = append(args, "run", "--input", "a="+filepath.Join(dir, "large"), filepath.Join(dir, "loop.wasm"))
			p := sit(t, append(tt.env, "TERM=xterm"), phase, args...)
			p.sees(" of 4.0 MB")
			if text := p.lines()[0]; !strings.HasPrefix(text, "             upload") || strings.Contains(text, "100 %") || len([]rune(text)) > 80 {
				t.Errorf("%q", text)
			}
			close(node.on)
			p.sees("100 %  4.0 MB of 4.0 MB")
			p.leaves(statusNoModule, `phase: not yours \[NODE-002\]`, `phase: hint: Ask its owner\.`)
			if plain := !strings.Contains(string(p.shown), "\x1b"); plain != tt.plain {
				t.Errorf("%q", p.shown)
			}
		})
	}
}

// TestUploadElsewhere: where nobody looks, nothing is shown; standard error is the
// module's.
func TestUploadElsewhere(t *testing.T) {
	t.Parallel()
	var node slowNode
	node.HandleFunc("POST /v1/jobs", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(job.Status{ID: blob.Of(nil), Module: blob.Of(nil), Stage: job.Queued})
	})
	socket := node.socket(t)
	phase, dir := phaseHere(t)
	cmd := exec.CommandContext(t.Context(), phase, "job", "--socket", socket, "submit", "--input", "a="+filepath.Join(dir, "large"), filepath.Join(dir, "loop.wasm"))
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	time.AfterFunc(unshown+time.Second, func() { close(node.on) }) // by then it would be shown
	if err := cmd.Run(); err != nil || out.String() != blob.Of(nil).String()+"\n" || said.Len() > 0 {
		t.Errorf("%v, %q, %q", err, out.String(), said.String())
	}
}

// TestInterruptedUpload: Ctrl-C ends an upload, and leaves no bar behind.
func TestInterruptedUpload(t *testing.T) {
	t.Parallel()
	var node slowNode
	socket := node.socket(t)
	phase, dir := phaseHere(t)
	p := sit(t, nil, phase, "job", "--socket", socket, "run", "--input", "a="+filepath.Join(dir, "large"), filepath.Join(dir, "loop.wasm"))
	p.sees(" of 4.0 MB")
	p.types("\x03")
	p.leaves(statusNoModule, `phase: interrupted: the job was not handed in`)
}

// TestStagesOnTerminal: a person sees how far a job is while it is, and how it ended.
func TestStagesOnTerminal(t *testing.T) {
	const queued, running = `  \[ *\d+\.\d\d s\] queued       ok`, `  \[ *\d+\.\d\d s\] running      failed`
	for name, tt := range map[string]struct {
		end  *job.End // nil: it does not
		keys string
		want []string
	}{
		"failed": {&job.End{
			Stdout: job.Output{Digest: blob.Of(nil)}, Stderr: job.Output{Digest: blob.Of(nil)},
			Failure: &job.Failure{Code: "NODE-012", Text: "was cancelled", Hint: "Ask who did it."},
		}, "", []string{queued, running, `phase: was cancelled \[NODE-012\]`, `phase: hint: Ask who did it\.`}},
		"Ctrl-C": {nil, "\x03", []string{queued, running, `phase: interrupted: the job is cancelled`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var node slowNode
			cancelled := make(chan struct{})
			node.HandleFunc("POST /v1/runs", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/x-ndjson")
				tellStatus(w, job.Queued, nil)
				<-node.on
				tellStatus(w, job.Running, nil)
				<-node.on
				if tt.end == nil {
					<-r.Context().Done()
					return
				}
				tellStatus(w, job.Ended, tt.end)
			})
			node.HandleFunc("DELETE /v1/jobs/{id}", func(w http.ResponseWriter, _ *http.Request) {
				close(cancelled)
				_ = json.NewEncoder(w).Encode(job.Status{ID: blob.Of(nil), Module: blob.Of(nil)})
			})
			socket := node.socket(t)
			phase, dir := phaseHere(t)
			p := sit(t, nil, phase, "job", "--socket", socket, "run", filepath.Join(dir, "loop.wasm"))
			for _, stage := range []string{"queued", "running"} {
				p.sees(" s] " + stage)
				node.on <- struct{}{}
			}
			if tt.keys != "" {
				p.types(tt.keys)
				<-cancelled
			}
			p.leaves(statusNoModule, tt.want...)
		})
	}
}

// TestStages: a job that came to its end by itself, and those that did not.
func TestStages(t *testing.T) {
	for name, tt := range map[string]struct {
		end  *job.End
		want string
	}{
		"exited":  {&job.End{State: job.Exited, ExitCode: 3}, "ok"},
		"trapped": {&job.End{State: job.Trapped}, "failed"},
		"refused": {&job.End{State: job.Exited, Failure: &job.Failure{}}, "failed"},
		"unknown": {nil, "failed"},
	} {
		out, console := screenOf()
		s := stages{console: console}
		s.tell(job.Status{Stage: job.Running})
		s.tell(job.Status{Stage: job.Ended, End: tt.end})
		s.end(tt.end)
		if got := out.String(); got != "  [  0.00 s] running      "+tt.want+"\n" {
			t.Errorf("%s: %q", name, got)
		}
	}
	out, console := screenOf()
	s := stages{console: console}
	s.end(&job.End{State: job.Exited})
	if out.Len() != 0 {
		t.Errorf("of a short job: %q", out.String())
	}
}

// TestReadingInputs is ended by the person, and counts what was there when it was read.
func TestReadingInputs(t *testing.T) {
	_, dir := phaseHere(t)
	arg := "a=" + filepath.Join(dir, "large")
	_, console := screenOf()
	inputs, files, err := openInputs(t.Context(), console, []string{arg})
	if want := (job.Input{Digest: blob.Of(make([]byte, 4e6)), Size: 4e6}); err != nil || inputs["a"] != want || len(files) != 1 || files[0].Input != want {
		t.Errorf("%v, %v, %v", inputs, files, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := openInputs(ctx, console, []string{arg}); err == nil || err.Error() != "interrupted: the job was not handed in" {
		t.Error(err)
	}
}
