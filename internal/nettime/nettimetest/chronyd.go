package nettimetest

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ChronydConfig says how to run chronyd. All fields are required but More.
type ChronydConfig struct {
	Program string          // the program's path
	Dir     string          // an empty folder for its files
	Cert    tls.Certificate // proves its name to NTS clients
	More    []string        // further lines of configuration
}

// Chronyd is an NTP and NTS server written by others, running on 127.0.0.1. It
// never touches the clock of this machine.
type Chronyd struct {
	Port    string        // NTP, UDP
	NTSPort string        // NTS key exchange, TCP
	Lines   <-chan string // its log; closed when it has ended

	cmd   *exec.Cmd
	ended chan struct{}
}

// maxLines of its log are kept for whoever reads Lines; the rest is dropped.
const maxLines = 1000

// StartChronyd returns when it accepts key exchanges. Close it.
func StartChronyd(cfg ChronydConfig) (*Chronyd, error) {
	c := &Chronyd{ended: make(chan struct{})}
	file, err := c.configure(cfg)
	if err != nil {
		return nil, err
	}
	c.cmd = exec.Command(cfg.Program, "-x", "-U", "-d", "-f", file)
	out, err := c.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	lines := make(chan string, maxLines)
	c.Lines = lines
	go func() {
		defer close(c.ended)
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case lines <- s.Text():
			default:
			}
		}
	}()
	if err := c.ready(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// configure writes its files and returns the path of the configuration.
func (c *Chronyd) configure(cfg ChronydConfig) (string, error) {
	in := func(name string) string { return filepath.Join(cfg.Dir, name) }
	var err error
	if c.Port, err = freePort(); err != nil {
		return "", err
	}
	if c.NTSPort, err = freePort(); err != nil {
		return "", err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cfg.Cert.PrivateKey)
	if err != nil {
		return "", err
	}
	var certs []byte
	for _, der := range cfg.Cert.Certificate {
		certs = append(certs, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	lines := append([]string{
		"port " + c.Port, "ntsport " + c.NTSPort, "ntsservercert " + in("cert.pem"), "ntsserverkey " + in("key.pem"),
		"bindaddress 127.0.0.1", "allow 127.0.0.0/8", "cmdport 0", "bindcmdaddress /", "pidfile " + in("pid"), "user root",
	}, cfg.More...)
	return in("chrony.conf"), errors.Join(
		os.WriteFile(in("cert.pem"), certs, 0o600),
		os.WriteFile(in("key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600),
		os.WriteFile(in("chrony.conf"), []byte(strings.Join(lines, "\n")+"\n"), 0o600),
	)
}

// ready waits for the key exchange's port: chronyd does not log that it listens.
func (c *Chronyd) ready() error {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", "127.0.0.1:"+c.NTSPort)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-c.ended:
			return fmt.Errorf("chronyd ended: %s", c.said())
		default:
		}
		if time.Now().After(end) {
			return fmt.Errorf("chronyd does not listen: %w: %s", err, c.said())
		}
	}
}

// said is what it has logged and nobody has read.
func (c *Chronyd) said() string {
	var said []string
	for {
		select {
		case line, ok := <-c.Lines:
			if ok {
				said = append(said, line)
				continue
			}
		default:
		}
		return strings.Join(said, "; ")
	}
}

// Close ends it and waits for its end.
func (c *Chronyd) Close() error {
	err := c.cmd.Process.Signal(os.Interrupt) // lets it end its helper process
	<-c.ended
	_ = c.cmd.Wait() // how it ended matters to nobody
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// freePort is one that is free for UDP and TCP, at this moment.
func freePort() (string, error) {
	var err error
	for range 100 {
		var u net.PacketConn
		if u, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			return "", err
		}
		var l net.Listener
		l, err = net.Listen("tcp", u.LocalAddr().String())
		u.Close()
		if err == nil {
			defer l.Close()
			_, port, err := net.SplitHostPort(l.Addr().String())
			return port, err
		}
	}
	return "", fmt.Errorf("no free port: %w", err)
}
