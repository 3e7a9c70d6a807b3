package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// GuestHost is where a guest on QEMU's user-mode network reaches the loopback
// interface of this machine.
const GuestHost = "10.0.2.2"

// Provider is a running `plasmd serve` on this machine's loopback interface.
type Provider struct {
	Ready    Ready  // what it said once it was serving
	Log      string // path of its log
	Receipts string // folder where delivered receipts arrive

	httpPort, p2pPort int
	cmd               *exec.Cmd
	ended             chan struct{}
}

// Ready is the file plasmd writes once it serves and has published.
type Ready struct {
	HTTP      string   `json:"http"`
	PeerID    string   `json:"peer_id"`
	P2PAddrs  []string `json:"p2p_addrs"`
	Published any      `json:"published"`
}

// Ports are the TCP ports of a provider. They are chosen before it starts,
// because the signed pointer names one and the medium the other.
type Ports struct{ HTTP, P2P int }

// FreePorts picks ports that nobody listens on now.
func FreePorts() (Ports, error) {
	var ports [2]int
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return Ports{}, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return Ports{HTTP: ports[0], P2P: ports[1]}, nil
}

// Base is the provider's URL as a guest reaches it.
func (p Ports) Base() string { return fmt.Sprintf("http://%s:%d", GuestHost, p.HTTP) }

// readyWithin bounds how long plasmd may take to serve and publish.
const readyWithin = 30 * time.Second

// Serve starts `plasmd serve` on the published folder and waits until it
// serves and has published the pointer. It ends with ctx or with Stop. Its identity
// lies beside folder: whoever serves that again is the same peer.
func (l *Lab) Serve(ctx context.Context, folder string, ports Ports, run string) (*Provider, error) {
	p := &Provider{
		Log: filepath.Join(run, "plasmd.log"), Receipts: filepath.Join(run, "receipts"),
		httpPort: ports.HTTP, p2pPort: ports.P2P, ended: make(chan struct{}),
	}
	ready := filepath.Join(run, "plasmd-ready.json")
	if err := errors.Join(os.MkdirAll(p.Receipts, 0o755), removeIfThere(ready)); err != nil {
		return nil, fmt.Errorf("prepare the provider's folder: %w", err)
	}
	log, err := os.Create(p.Log)
	if err != nil {
		return nil, fmt.Errorf("open the provider's log: %w", err)
	}
	defer log.Close()
	p.cmd = exec.CommandContext(ctx, l.cfg.Plasmd, "serve",
		"--artifacts", folder, "--channel", Channel, "--arch", l.cfg.Arch,
		"--bind", "127.0.0.1", "--port", strconv.Itoa(ports.HTTP),
		"--p2p-listen", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", ports.P2P),
		"--no-mdns", "--state", filepath.Join(filepath.Dir(folder), "provider"), "--receipts", p.Receipts, "--ready-file", ready)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 5 * time.Second
	p.cmd.SysProcAttr = dieWithParent()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start plasmd: %w", err)
	}
	go func() {
		defer close(p.ended)
		p.cmd.Wait() // its log says why it ended
	}()
	if err := errors.Join(p.waitReady(ctx, ready), l.Rot(folder)); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// waitReady polls for the ready file: plasmd writes it atomically, and a file
// is the one signal that needs nothing from either side but a folder.
func (p *Provider) waitReady(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		data, err := os.ReadFile(path)
		if err == nil {
			if err := json.Unmarshal(data, &p.Ready); err != nil {
				return fmt.Errorf("read %s: %w", path, err)
			}
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("plasmd ended before it served; its log %s ends with: %s", p.Log, tail(p.Log, 3))
		case <-ctx.Done():
			return fmt.Errorf("plasmd did not serve within %v; see %s", readyWithin, p.Log)
		case <-tick.C:
		}
	}
}

// Bootstrap is the provider's libp2p address as a guest reaches it.
func (p *Provider) Bootstrap() string {
	return fmt.Sprintf("/ip4/%s/tcp/%d", GuestHost, p.p2pPort)
}

// Stop ends the provider and waits for it. It may be called twice.
func (p *Provider) Stop() {
	p.cmd.Process.Signal(syscall.SIGTERM) // an ended process is fine
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
		p.cmd.Process.Kill()
		<-p.ended
	}
}

// newest is the receipt that was delivered last. The provider stores a receipt
// before it answers, so what a node calls delivered is there.
func (p *Provider) newest() ([]byte, error) {
	received, err := p.Received()
	if err != nil {
		return nil, err
	}
	if len(received) == 0 {
		return nil, errors.New("no receipt was delivered")
	}
	return received[len(received)-1], nil
}

// Received lists the receipts that were delivered so far, oldest first: the
// provider numbers them.
func (p *Provider) Received() ([][]byte, error) {
	entries, err := os.ReadDir(p.Receipts)
	if err != nil {
		return nil, fmt.Errorf("read the delivered receipts: %w", err)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return number(a) - number(b) })
	var receipts [][]byte
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(p.Receipts, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read a delivered receipt: %w", err)
		}
		receipts = append(receipts, data)
	}
	return receipts, nil
}

// number is the one in a receipt's file name, 12.json.
func number(e fs.DirEntry) int {
	n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ".json"))
	if err != nil {
		return -1
	}
	return n
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// tail is the last n lines of a file, joined; for error messages.
func tail(path string, n int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte(" | ")))
}
