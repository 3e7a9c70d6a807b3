package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/phasebased/phase/test/bench/delay"
)

const (
	// networkNodes is the size of the network that is asked.
	networkNodes = 50
	// roundTrip is that of the slow network.
	roundTrip = 100 * time.Millisecond
	// searchWithin bounds one search.
	searchWithin = 30 * time.Second
)

// discoveryFigures compares phase-discover with the stock client: both start as
// processes, are told a root and the same three bootstrap peers, search the same
// network, and end with a verified pointer. They take turns.
func discoveryFigures(ctx context.Context, pairs int) ([]Figure, error) {
	programs, err := buildPrograms(ctx)
	if err != nil {
		return nil, err
	}
	near, err := programs.searches(ctx, pairs, "loopback", nil)
	if err != nil {
		return nil, err
	}
	out := timeFigures(near, fmt.Sprintf("%d nodes on loopback", networkNodes))
	wire, err := delay.New(roundTrip/2, networkNodes)
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist):
		fmt.Fprintln(os.Stderr, "discovery at 100 ms is not measured: it needs root and /dev/net/tun:", err)
	case err != nil:
		return nil, err
	default:
		far, err := programs.searches(ctx, pairs, "100 ms", wire)
		if err = errors.Join(err, wire.Close()); err != nil {
			return nil, err
		}
		out = append(out, timeFigures(far, fmt.Sprintf("%d nodes, %d ms round trip", networkNodes, roundTrip.Milliseconds()))...)
	}
	out = append(out, peakFigure(near))
	sizes, err := programs.sizeFigures()
	return append(out, sizes...), err
}

// programs are the files of what takes part, all built alike.
type programs struct {
	discover, client, seed, stock, nodes string
}

func buildPrograms(ctx context.Context) (p programs, err error) {
	dir, err := filepath.Abs(filepath.Join("build", "bench"))
	if err != nil {
		return p, err
	}
	for _, b := range []struct {
		module, from string
		into         *string
	}{
		{".", "./cmd/phase-discover", &p.discover},
		{".", "./cmd/phase-init", &p.seed},
		{".", "./test/bench/client", &p.client},
		{".", "./test/bench/nodes", &p.nodes},
		{filepath.Join("test", "bench", "stock"), ".", &p.stock},
	} {
		*b.into = filepath.Join(dir, filepath.Base(filepath.Join(b.module, b.from)))
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", *b.into, b.from)
		cmd.Dir, cmd.Stderr = b.module, os.Stderr
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
		if err := cmd.Run(); err != nil {
			return p, fmt.Errorf("build %s: %w", b.from, err)
		}
	}
	return p, nil
}

// The clients that take turns.
const (
	ours  = iota // phase-discover
	tuned        // the stock client, set for a program that only asks
	plain        // the stock client as its libraries come
	clients
)

// search is what one client's run took, from the start of its process.
type search struct {
	first    time.Duration // to the first verified pointer
	complete time.Duration // to the end of the search and its result
	peak     float64       // memory, in MiB
}

// searches lets the clients take turns on a network of their own, behind a wire
// if there is one.
func (p programs) searches(ctx context.Context, pairs int, name string, wire *delay.Wire) (out [clients][]search, err error) {
	net, err := p.startNetwork(ctx, wire)
	if err != nil {
		return out, err
	}
	defer net.stop()
	if err := p.search(ctx, net, pairs, &out); err != nil {
		return out, err
	}
	fmt.Fprintf(os.Stderr, "discovery, %s: %d of %d nodes hold the pointer, %d searches each\n", name, net.ready.Holders, net.ready.Nodes, pairs)
	return out, nil
}

func (p programs) search(ctx context.Context, net *network, pairs int, out *[clients][]search) error {
	ask := []string{"-k", net.root}
	discover := append([]string{"-a", "x86_64", "--no-mdns"}, ask...)
	for _, b := range net.ready.Bootstrap {
		discover = append(discover, "-b", b)
	}
	lines := [clients][]string{
		ours:  append([]string{p.discover}, discover...),
		tuned: append(append([]string{p.stock}, ask...), net.ready.Bootstrap...),
		plain: append(append([]string{p.stock, "-default"}, ask...), net.ready.Bootstrap...),
	}
	if _, err := net.run(ctx, append(append([]string{p.client}, ask...), net.ready.Bootstrap...)); err != nil {
		return err // what is weighed must work
	}
	for i := range pairs + 1 {
		for client, line := range lines {
			s, err := net.run(ctx, line)
			if err != nil {
				return err
			}
			if i > 0 { // the first brings the programs into memory
				out[client] = append(out[client], s)
			}
		}
	}
	return nil
}

// network is the process of the nodes.
type network struct {
	wire  *delay.Wire // between the nodes and who asks them, or nil
	stop  func()
	root  string
	ready struct {
		Bootstrap []string
		Nodes     int
		Holders   int
	}
}

func (p programs) startNetwork(ctx context.Context, wire *delay.Wire) (*network, error) {
	net := &network{wire: wire, root: p.nodes + ".root.json"}
	args := []string{"-nodes", fmt.Sprint(networkNodes), "-root", net.root}
	start := func(cmd *exec.Cmd) error { return cmd.Start() }
	if wire != nil {
		args = append(args, "-address", wire.Far.Addr.String())
		start = func(cmd *exec.Cmd) error { return wire.Far.Do(cmd.Start) }
	}
	cmd := exec.CommandContext(ctx, p.nodes, args...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := start(cmd); err != nil {
		return nil, fmt.Errorf("start the nodes: %w", err)
	}
	net.stop = func() {
		_ = stdin.Close() // which it ends by
		_ = cmd.Wait()
	}
	line, err := bufio.NewReaderSize(stdout, 4096).ReadSlice('\n')
	if err == nil {
		err = json.Unmarshal(line, &net.ready)
	}
	if err != nil {
		net.stop()
		return nil, fmt.Errorf("the nodes did not start: %w", err)
	}
	return net, nil
}

// run lets one client search.
func (net *network) run(ctx context.Context, line []string) (search, error) {
	ctx, cancel := context.WithTimeout(ctx, searchWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	begin := time.Now()
	first, result := &watch{begin: begin, end: ", verified\n"}, &watch{begin: begin, end: "/manifest.json\n"}
	cmd.Stderr, cmd.Stdout = first, result
	start := cmd.Start
	if net.wire != nil {
		start = func() error { return net.wire.Near.Do(cmd.Start) }
	}
	peak, err := runWatched(cmd, start)
	if err != nil {
		return search{}, fmt.Errorf("%s: %w\n%s", filepath.Base(line[0]), err, first.text.Bytes())
	}
	if first.at == 0 || result.at == 0 {
		return search{}, fmt.Errorf("%s found nothing\n%s%s", filepath.Base(line[0]), first.text.Bytes(), result.text.Bytes())
	}
	return search{first.at, result.at, peak}, nil
}

// peakEvery is how often a process is asked for its peak. What it grows by in its last
// moments may be missed.
const peakEvery = 2 * time.Millisecond

// runWatched starts a command, waits for its end and gives the most memory that it
// held, in MiB. It is looked at while it runs: what the kernel counts up to the end has
// the memory of this process in it, which a child has until it executes its program.
func runWatched(cmd *exec.Cmd, start func() error) (float64, error) {
	if err := start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	most := int64(0)
	for {
		if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)); err == nil {
			if now, err := highWater(status); err == nil { // one that has ended has none
				most = max(most, now)
			}
		}
		select {
		case err := <-ended:
			return float64(most) / 1024, err
		case <-time.After(peakEvery):
		}
	}
}

// highWater reads a process's most memory so far, in KiB, from its status in
// proc(5).
func highWater(status []byte) (int64, error) {
	for line := range bytes.Lines(status) {
		if value, ok := bytes.CutPrefix(line, []byte("VmHWM:")); ok {
			return strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimSuffix(value, []byte("kB\n")))), 10, 64)
		}
	}
	return 0, errors.New("no VmHWM in the process status")
}

// maxOutput bounds what is kept of a client's words.
const maxOutput = 64 << 10

// watch notes when a line with a certain end was first written to it.
type watch struct {
	begin time.Time
	end   string
	at    time.Duration // 0: not yet
	text  bytes.Buffer
}

func (w *watch) Write(b []byte) (int, error) {
	if w.text.Len()+len(b) > maxOutput {
		return 0, errors.New("too many words")
	}
	w.text.Write(b)
	if w.at == 0 && bytes.Contains(w.text.Bytes(), []byte(w.end)) {
		w.at = time.Since(w.begin)
	}
	return len(b), nil
}

// timeFigures are of the same event in each client. The goal is about the stock
// client as it comes; what its best settings leave of the difference is told too.
func timeFigures(runs [clients][]search, where string) []Figure {
	var out []Figure
	for _, event := range []struct {
		name string
		of   func(search) time.Duration
	}{
		{"process start to first verified pointer", func(s search) time.Duration { return s.first }},
		{"process start to completed search", func(s search) time.Duration { return s.complete }},
	} {
		ms := func(client int) float64 {
			return medianOf(runs[client], func(s search) float64 { return float64(event.of(s).Microseconds()) / 1000 })
		}
		took := ms(ours)
		out = append(out,
			Figure{event.name + ", " + where + " (reference: stock libp2p.New and kad-dht)", took, "ms", ms(plain), took / ms(plain), "ratio <= 0.5"},
			Figure{event.name + ", " + where + " (reference: the same, set for asking only)", took, "ms", ms(tuned), took / ms(tuned), ""})
	}
	return out
}

func peakFigure(runs [clients][]search) Figure {
	mib := func(client int) float64 { return medianOf(runs[client], func(s search) float64 { return s.peak }) }
	return Figure{"discovery: peak memory (reference: stock libp2p.New and kad-dht)", mib(ours), "MiB", mib(plain), mib(ours) / mib(plain), "ratio <= 0.6"}
}

// sizeFigures weigh the programs. Like the stock client, the first of them only
// searches the DHT; phase-discover asks mirrors and the local network too, and
// phase-init is the whole seed.
func (p programs) sizeFigures() ([]Figure, error) {
	var out []Figure
	reference, err := megabytes(p.stock)
	if err != nil {
		return nil, err
	}
	for _, of := range []struct{ name, file string }{
		{"binary of a client of the DHT alone (reference: stock client)", p.client},
		{"binary of phase-discover (reference: stock client, of the DHT alone)", p.discover},
		{"binary of the whole seed (reference: stock client, of the DHT alone)", p.seed},
	} {
		size, err := megabytes(of.file)
		if err != nil {
			return nil, err
		}
		out = append(out, Figure{of.name, size, "MB", reference, size / reference, "ratio <= 0.6"})
	}
	return out, nil
}

func megabytes(file string) (float64, error) {
	info, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	return float64(info.Size()) / 1e6, nil
}
