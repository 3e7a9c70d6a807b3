package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/phasebased/phase/internal/metrics"
	"github.com/phasebased/phase/internal/p2p"
)

// Bounds of the figures' server. A scraper asks a few times a minute, over one
// connection.
const (
	figuresClients = 16
	figuresTimeout = 10 * time.Second
	figuresHeader  = 8 << 10 // bytes
)

// figures serves GET /metrics on an address of its own, whether this node offers
// something to other machines or not.
type figures struct {
	listener net.Listener
	server   *http.Server
}

// openFigures takes the address of metrics_addr; nil if there is none. Figures are
// not worth a node that does not start: an address that cannot be had is told to the
// log. A private node listens nowhere.
func (d *daemon) openFigures(peer *p2p.Node) *figures {
	if d.cfg.MetricsAddr == "" || d.limits.quiet {
		return nil
	}
	l, err := net.Listen("tcp", d.cfg.MetricsAddr)
	if err != nil {
		d.log.Warn("no figures for Prometheus", "err", err)
		return nil
	}
	d.log.Info("figures for Prometheus", "url", "http://"+l.Addr().String()+"/metrics")
	return newFigures(l, d.cfg.PageHosts, func(w io.Writer) {
		d.node.WriteMetrics(w)
		metrics.NewPage(w, "phase_node_").Single("peers", metrics.Gauge, "Nodes that this one is connected to.", float64(peer.Peers()))
	})
}

func newFigures(l net.Listener, hosts []string, write func(io.Writer)) *figures {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if !ownName(r.Host, hosts) {
			http.Error(w, "this node's figures are not served under that name", http.StatusMisdirectedRequest)
			return
		}
		metrics.Answer(w)
		write(w)
	})
	return &figures{bounded(l, figuresClients), &http.Server{
		Handler: routes, MaxHeaderBytes: figuresHeader,
		ReadTimeout: figuresTimeout, WriteTimeout: figuresTimeout, IdleTimeout: 3 * time.Minute,
	}}
}

// ownName reports whether a browser that asks under host, with or without a port, was
// not led here by a name that somebody else has point to this machine (DNS rebinding):
// an address, localhost or one of hosts is no such name. Who names none is no browser.
func ownName(host string, hosts []string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if _, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")); err == nil || name == "" {
		return true
	}
	same := func(allowed string) bool { return strings.EqualFold(name, allowed) }
	return same("localhost") || slices.ContainsFunc(hosts, same)
}

// run answers until ctx ends.
func (f *figures) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = f.server.Close() })()
	if err := f.server.Serve(f.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("figures: %w", err)
	}
	return nil
}

// bounded keeps at most n connections of l open; others wait in the kernel's queue.
func bounded(l net.Listener, n int) net.Listener {
	return &boundedListener{l, make(chan struct{}, n), make(chan struct{}), sync.Once{}}
}

type boundedListener struct {
	net.Listener
	open   chan struct{}
	closed chan struct{}
	once   sync.Once
}

// Accept waits for room first.
func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.open <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.open
		return nil, err
	}
	return &boundedConn{Conn: conn, free: func() { <-l.open }}, nil
}

// Close also ends an Accept that waits for room.
func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type boundedConn struct {
	net.Conn
	once sync.Once
	free func()
}

// Close makes room for another connection.
func (c *boundedConn) Close() error {
	defer c.once.Do(c.free)
	return c.Conn.Close()
}
