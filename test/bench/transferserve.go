package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/phasebased/phase/test/peers"
)

// serving is a running plasmd.
type serving struct {
	url string // without a slash at the end
	pid int
	end func()
}

// serve starts plasmd as a provider that announces nothing.
func (t *transfer) serve(ctx context.Context) (*serving, error) {
	ready := filepath.Join(filepath.Dir(t.work), "ready.json")
	_ = os.Remove(ready)
	cmd := exec.CommandContext(ctx, t.plasmd, "serve", "-a", t.dir, "-A", "x86_64", "-b", "127.0.0.1", "-p", "0",
		"--no-dht", "--no-mdns", "--ephemeral", "--ready-file", ready)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.Discard, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s := &serving{pid: cmd.Process.Pid, end: func() { _ = cmd.Process.Signal(syscall.SIGTERM); <-ended }}
	for range 1500 {
		var said struct {
			HTTP string `json:"http"`
		}
		raw, err := os.ReadFile(ready)
		if err == nil && json.Unmarshal(raw, &said) == nil && said.HTTP != "" {
			s.url = "http://" + strings.TrimPrefix(strings.TrimRight(said.HTTP, "/"), "http://")
			return s, nil
		}
		select {
		case err := <-ended:
			return nil, fmt.Errorf("plasmd ended: %w\n%s", err, log.Bytes())
		case <-time.After(20 * time.Millisecond):
		}
	}
	s.end()
	return nil, fmt.Errorf("plasmd is not ready\n%s", log.Bytes())
}

// downloads is how many curls download at once.
const downloads = 4

// provided compares plasmd with an nginx that uses sendfile.
func (t *transfer) provided(ctx context.Context, pairs int) ([]Figure, error) {
	ours, err := t.serve(ctx)
	if err != nil {
		return nil, err
	}
	defer ours.end()
	theirs, err := peers.Nginx{Dir: t.dir}.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer theirs.Stop()
	const gib = downloads * transferSize / float64(1<<30)
	servers := []struct {
		url  string
		pid  int
		rate []float64 // GiB/s
		cpu  []float64 // seconds per GiB
	}{{url: ours.url, pid: ours.pid}, {url: theirs.URL, pid: theirs.PID}}
	for i := range pairs + 1 {
		for n := range servers {
			s := &servers[n]
			took, err := t.download(ctx, s.url+t.blob, s.pid)
			if err != nil {
				return nil, err
			}
			if i > 0 {
				s.rate, s.cpu = append(s.rate, gib/took.seconds), append(s.cpu, took.cpu/gib)
			}
		}
	}
	rate, cpu := middle(servers[0].rate), middle(servers[0].cpu)
	nginxRate, nginxCPU := middle(servers[1].rate), middle(servers[1].cpu)
	return []Figure{
		{"provider: 4 downloads at once (reference: nginx with sendfile)", rate, "GiB/s", nginxRate, rate / nginxRate, "ratio >= 0.9"},
		{"provider: processor time for 1 GiB (reference: nginx with sendfile)", cpu, "s", nginxCPU, cpu / nginxCPU, ""},
	}, nil
}

// download fetches a URL several times at once, into nothing, and returns what it
// took and the processor time of the server.
func (t *transfer) download(ctx context.Context, url string, pid int) (taken, error) {
	before, err := groupTime(pid)
	if err != nil {
		return taken{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, transferWithin)
	defer cancel()
	errs := make(chan error, downloads)
	began := time.Now()
	for range downloads {
		go func() {
			out, err := exec.CommandContext(ctx, "curl", "-sS", "--fail", "--noproxy", "*", "-o", os.DevNull, url).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("curl %s: %w\n%s", url, err, out)
			}
			errs <- err
		}()
	}
	for range downloads {
		err = errors.Join(err, <-errs)
	}
	took := time.Since(began).Seconds()
	after, timeErr := groupTime(pid)
	return taken{seconds: took, cpu: after - before}, errors.Join(err, timeErr)
}

// groupTime is the processor time of all processes of a group, in seconds
// (proc_pid_stat(5)).
func groupTime(group int) (float64, error) {
	const ticks = 100 // a second, on every Linux there is (USER_HZ)
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	sum := int64(0)
	for _, path := range stats {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, ok := strings.Cut(string(raw[bytes.LastIndexByte(raw, ')')+1:]), " ")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 13 || fields[2] != strconv.Itoa(group) {
			continue
		}
		for _, f := range fields[11:13] { // utime, stime
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", path, err)
			}
			sum += n
		}
	}
	return float64(sum) / ticks, nil
}

const (
	slowClients = 2000
	// slowRead is what each of them takes at a time, twice a second: more than the
	// speed below which a server may give them up.
	slowRead = 16 << 10
	// slowFor is how long they are watched once all are there.
	slowFor = 20 * time.Second
)

// held measures what plasmd's memory does while many slow clients are served.
func (t *transfer) held(ctx context.Context, _ int) ([]Figure, error) {
	s, err := t.serve(ctx)
	if err != nil {
		return nil, err
	}
	defer s.end()
	// One download first: what the program needs at all shall not count.
	if _, err := t.download(ctx, s.url+t.blob, s.pid); err != nil {
		return nil, err
	}
	before, err := memoryOf(s.pid)
	if err != nil {
		return nil, err
	}
	slow, err := connect(ctx, s.url, t.blob)
	if err != nil {
		return nil, err
	}
	defer slow.close()
	time.Sleep(2 * time.Second)
	there, err := memoryOf(s.pid)
	if err != nil {
		return nil, err
	}
	time.Sleep(slowFor)
	later, err := memoryOf(s.pid)
	if err != nil {
		return nil, err
	}
	if gone := slow.gone(); gone > 0 {
		return nil, fmt.Errorf("plasmd gave up %d of %d slow clients: %w", gone, slowClients, slow.firstError())
	}
	return []Figure{
		{"provider: memory with 2,000 slow clients (reference: with none)", there, "MiB", before, there / before, ""},
		{"provider: memory with them after 20 s (reference: when they had come)", later, "MiB", there, later / there, "ratio <= 1.1"},
	}, nil
}

// memoryOf is what a process holds now, in MiB.
func memoryOf(pid int) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return float64(kib) / 1024, err
		}
	}
	return 0, errors.New("no VmRSS in the process status")
}

// crowd are clients that take little at a time.
type crowd struct {
	conns []net.Conn
	read  sync.WaitGroup

	mu   sync.Mutex
	errs []error
	over bool
}

// connect lets the clients come, each from an address of its own, since a server
// may limit what one client gets.
func connect(ctx context.Context, url, path string) (*crowd, error) {
	host := strings.TrimPrefix(url, "http://")
	c := &crowd{}
	for i := range slowClients {
		from := netip.AddrFrom4([4]byte{127, 1, byte(i / 250), byte(1 + i%250)})
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Control: smallBuffer}
		conn, err := d.DialContext(ctx, "tcp", host)
		if err != nil {
			c.close()
			return nil, fmt.Errorf("slow client %d: %w", i, err)
		}
		c.conns = append(c.conns, conn)
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host); err != nil {
			c.close()
			return nil, fmt.Errorf("slow client %d: %w", i, err)
		}
		c.read.Go(func() { c.slowly(conn) })
	}
	return c, nil
}

// smallBuffer keeps what a client has not read in the server's memory, not in its own.
func smallBuffer(_, _ string, conn syscall.RawConn) error {
	var err error
	control := conn.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, slowRead)
	})
	return errors.Join(control, err)
}

func (c *crowd) slowly(conn net.Conn) {
	buf := make([]byte, slowRead)
	for {
		if _, err := conn.Read(buf); err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			if !c.over {
				c.errs = append(c.errs, err)
			}
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// gone is how many were given up.
func (c *crowd) gone() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.errs)
}

func (c *crowd) firstError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.errs[0]
}

func (c *crowd) close() {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.read.Wait()
}
