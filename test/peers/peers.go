package peers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/phasebased/phase/internal/debpkg"
)

// A Server is a running program that answers HTTP.
type Server struct {
	URL string // without a slash at the end
	PID int

	cmd   *exec.Cmd
	log   *tail
	ended chan struct{}
	err   error // of the process, once ended is closed
}

// Stop ends the program and waits until it has ended.
func (s *Server) Stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)                                                    // it may have ended by itself
	kill := time.AfterFunc(10*time.Second, func() { _ = syscall.Kill(-s.PID, syscall.SIGKILL) }) // and its children
	defer kill.Stop()
	<-s.ended
}

// Log is the end of what the program said.
func (s *Server) Log() string { return s.log.String() }

// start runs a program that ends with ctx, and with this process.
func start(ctx context.Context, cmd *exec.Cmd, url string) (*Server, error) {
	s := &Server{URL: url, cmd: cmd, log: &tail{}, ended: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = s.log
	}
	cmd.Stderr = s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	cmd.WaitDelay = 10 * time.Second
	// The thread that starts it must live as long as it does (prctl(2), PR_SET_PDEATHSIG).
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			s.err = cmd.Wait()
			close(s.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	s.PID = cmd.Process.Pid
	context.AfterFunc(ctx, s.Stop)
	return s, nil
}

// tail keeps the last kilobytes of a log.
type tail struct {
	mu   sync.Mutex
	data []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const most = 16 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	t.data = t.data[max(0, len(t.data)-most):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.data)
}

// Nginx describes an nginx in front of a folder.
type Nginx struct {
	Dir string // what is served
	// Rate is the most that one connection gets, in bytes per second; 0: no limit.
	Rate int64
	// Program is the binary; empty means the one that FindNginx finds.
	Program string
}

// Start starts it with sendfile, as Debian's configuration has it, without logs of
// requests. It listens on a socket of this process, by the way on which nginx hands
// sockets to its successor (the environment variable NGINX), so that no two can be
// given the same port.
func (n Nginx) Start(ctx context.Context) (s *Server, err error) {
	if n.Program == "" {
		if n.Program, err = FindNginx(ctx); err != nil {
			return nil, err
		}
	}
	// A multipath socket, which Go prefers, is none that nginx would make, and a
	// transfer through one stands still now and then (nginx 1.22, Linux 6.18).
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	l, err := plain.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	state, err := os.MkdirTemp("", "phase-nginx-")
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(state, "nginx.conf")
	if err := os.WriteFile(conf, []byte(n.config(state, l.Addr().String())), 0o644); err != nil {
		return nil, errors.Join(err, os.RemoveAll(state))
	}
	cmd := exec.Command(n.Program, "-p", state, "-c", conf, "-e", "stderr")
	cmd.ExtraFiles, cmd.Env = []*os.File{socket}, append(os.Environ(), "NGINX=3;")
	if s, err = start(ctx, cmd, "http://"+l.Addr().String()); err != nil {
		return nil, errors.Join(err, os.RemoveAll(state))
	}
	go func() {
		<-s.ended
		os.RemoveAll(state)
	}()
	return s, nil
}

func (n Nginx) config(state, address string) string {
	user, limit := "", ""
	if os.Geteuid() == 0 {
		user = "user root;\n" // the folder may be of a test, which others cannot enter
	}
	if n.Rate > 0 {
		limit = fmt.Sprintf("limit_rate %d;", n.Rate)
	}
	var temp strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temp, "%s_temp_path %s/%s; ", kind, state, kind)
	}
	return user + `daemon off;
worker_processes auto;
pid ` + state + `/pid;
error_log stderr warn;
events { worker_connections 8192; }
http {
	access_log off;
	sendfile on;
	tcp_nopush on;
	default_type application/octet-stream;
	` + temp.String() + `
	server {
		listen ` + address + `;
		root "` + n.Dir + `";
		` + limit + `
	}
}
`
}

// FindNginx returns the path of the installed nginx, or else of one that is unpacked
// from Debian's package without installing it: installed, it starts, and serves this
// machine's port 80 to the network, which no test may do to its user.
func FindNginx(ctx context.Context) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		path := filepath.Join(dir, "nginx")
		if _, err := exec.LookPath(path); err == nil {
			return path, nil
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	packages := debpkg.Cache{Dir: filepath.Join(cache, "phase", "test-packages")}
	// Its libraries are those of curl and git, which are there.
	p, err := packages.Get(ctx, "nginx", runtime.GOARCH)
	if err != nil {
		return "", fmt.Errorf("nginx cannot be had: %w", err)
	}
	root := filepath.Join(packages.Dir, "nginx")
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", p.Path(), root).CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpack nginx: %w: %s", err, out)
	}
	return filepath.Join(root, "usr", "sbin", "nginx"), nil
}

// Python starts `python3 -m http.server` in front of a folder: HTTP/1.0, no ranges,
// no entity tags, as people publish a folder in a hurry.
func Python(ctx context.Context, dir string) (*Server, error) {
	python, err := exec.LookPath("python3")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(python, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", dir, "0")
	return announced(ctx, cmd, func(line string) string { // Serving HTTP on … (http://127.0.0.1:port/) ...
		_, after, _ := strings.Cut(line, "(")
		url, _, _ := strings.Cut(after, "/)")
		return url
	})
}

// BuildGateway builds the gateway from the module in folder source, which is
// test/peers/gateway of this repository, and returns its path in dir. It takes a
// minute where nothing of it was ever built.
func BuildGateway(ctx context.Context, source, dir string) (string, error) {
	program, err := filepath.Abs(filepath.Join(dir, "gateway"))
	if err != nil {
		return "", err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, ".")
	build.Dir, build.Env = source, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the gateway: %w\n%s", err, out)
	}
	return program, nil
}

// Gateway starts the trustless gateway of IPFS, by the handler that kubo itself
// serves (github.com/ipfs/boxo/gateway), with the files of a folder as its blocks:
// each is cut into chunks of 1 MiB.
func Gateway(ctx context.Context, program, dir string) (*Server, error) {
	return announced(ctx, exec.Command(program, dir), strings.TrimSpace)
}

// announced starts a program that says its URL in its first line.
func announced(ctx context.Context, cmd *exec.Cmd, find func(line string) string) (*Server, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = w
	s, err := start(ctx, cmd, "")
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	out := bufio.NewReader(r)
	line, err := out.ReadString('\n')
	s.URL = strings.TrimRight(find(line), "/")
	if err != nil || !strings.HasPrefix(s.URL, "http://127.0.0.1:") {
		s.Stop()
		r.Close()
		return nil, fmt.Errorf("%s said %q (%v)\n%s", filepath.Base(cmd.Path), line, err, s.Log())
	}
	go func() {
		_, _ = io.Copy(s.log, out)
		r.Close()
	}()
	return s, nil
}
