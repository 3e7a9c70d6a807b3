package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/failure"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/statuspage"
	"github.com/phasebased/phase/internal/version"
	"github.com/phasebased/phase/receipt"
)

// pageClients bounds the connections to the status page: those that are told of
// changes, and those that come and go.
const pageClients = 64

// pageAdmin is who the page is to the desk: who may see it may see all jobs.
var pageAdmin = job.Caller{Name: "status page", Admin: true}

// statusPage shows this node to browsers.
type statusPage struct {
	d        *daemon
	peer     *p2p.Node
	offered  *server // nil: nothing is offered to others
	since    time.Time
	listener net.Listener
	page     *statuspage.Page
	own      ownReceipts
}

// openPage takes the address of page_addr; nil if there is none. A page is not worth
// a node that does not start: what keeps it from being served is told to the log. A
// private node listens nowhere.
func (d *daemon) openPage(peer *p2p.Node, offered *server) *statusPage {
	if d.cfg.PageAddr == "" || d.limits.quiet {
		return nil
	}
	s := &statusPage{d: d, peer: peer, offered: offered, since: time.Now()}
	s.own = ownReceipts{dir: filepath.Join(d.state.dir, "receipts"), d: d, names: d.bootJobNames()}
	if err := s.open(); err != nil {
		level := slog.LevelWarn
		if failure.Code(err) != "" {
			level = slog.LevelError
		}
		d.log.Log(context.Background(), level, "no status page", "err", err, "code", failure.Code(err))
		return nil
	}
	d.log.Info("status page", "url", "http://"+s.listener.Addr().String()+"/", "token_file", d.pageTokenFile())
	return s
}

func (s *statusPage) open() (err error) {
	cfg := s.d.cfg
	c := statuspage.Config{
		View: s.view, Receipt: s.receipt, Key: s.claims, Hosts: cfg.PageHosts, AnyIP: !loopback(cfg.PageAddr),
		Verifier: statuspage.Verifier(), Log: s.d.log,
	}
	if s.d.limits.local {
		c.Serves = servesLocal
	}
	if path := s.d.pageTokenFile(); path != "" {
		if c.Token, err = statuspage.LoadToken(path); err != nil {
			return err
		}
	}
	if s.page, err = statuspage.New(c); err != nil {
		return err
	}
	s.listener, err = net.Listen("tcp", cfg.PageAddr)
	return err
}

// servesLocal is whom a node in Local mode answers.
func servesLocal(addr netip.Addr) bool { return addr.IsLoopback() || fetch.LocalAddr(addr) }

// run answers until ctx ends.
func (s *statusPage) run(ctx context.Context) error {
	return s.page.Serve(ctx, bounded(s.listener, pageClients))
}

// loopback reports whether only this machine reaches an address of checkHostPort.
func loopback(addr string) bool {
	at, err := netip.ParseAddrPort(addr)
	return err == nil && at.Addr().Unmap().IsLoopback()
}

// pageTokenFile is where the page's token is; "" if none is asked for, which only is
// so on the loopback interface.
func (d *daemon) pageTokenFile() string {
	if d.cfg.PageTokenFile != "" || loopback(d.cfg.PageAddr) {
		return d.cfg.PageTokenFile
	}
	return filepath.Join(d.state.dir, "page.token")
}

// checkPage looks at the keys of the page.
func (c config) checkPage() error {
	if err := checkHostPort(c.PageAddr); err != nil {
		return fmt.Errorf("page_addr: %w", err)
	}
	for _, host := range c.PageHosts {
		if host == "" || len(host) > 253 || strings.ContainsAny(host, ":/[]@ *") {
			return fmt.Errorf("page_hosts: %.80q is not a host's name", host)
		}
	}
	return nil
}

func (s *statusPage) view() statuspage.View {
	d, load := s.d, s.d.node.Load()
	v := statuspage.View{
		Version: version.Version, Key: job.FormatKey(d.node.Public()), PeerID: s.peer.ID(), Since: s.since,
		Addrs: s.peer.Addrs(), Running: load.Running, MaxRunning: d.cfg.MaxConcurrentJobs,
		Waiting: load.Waiting, MaxWaiting: queuePerSlot * d.cfg.MaxConcurrentJobs, Ended: load.Ended, Refused: load.Refused,
	}
	for _, c := range s.peer.Connections() {
		v.Peers = append(v.Peers, statuspage.Peer{ID: c.ID, Addr: c.Addr})
	}
	if b := d.booted; b != nil {
		v.Booted = &statuspage.Booted{
			Mode: b.Mode, Channel: b.Channel, Arch: b.Arch, Release: b.Manifest.Version, Digest: b.Manifest.Digest,
			KeyIDs: b.Manifest.KeyIDs, Tor: b.Tor,
		}
	}
	s.addTold(&v)
	for _, status := range d.jobs.desk.List(pageAdmin) {
		v.Jobs = append(v.Jobs, statuspage.Job{Status: status})
	}
	v.Jobs = append(v.Jobs, s.own.list()...)
	if v.Withheld = s.forAnybody(); v.Withheld {
		for i, j := range v.Jobs {
			v.Jobs[i] = s.forStrangers(j)
		}
	}
	slices.SortStableFunc(v.Jobs, func(a, b statuspage.Job) int { return b.AcceptedAt.Compare(a.AcceptedAt) })
	return v
}

// forAnybody reports whether the page asks for no token: every user of the machine sees
// it then, and not only who may see everybody's jobs.
func (s *statusPage) forAnybody() bool { return s.d.pageTokenFile() == "" }

// forStrangers is what every user of the machine may know of a job: that it is there,
// how far it is, how it ended. Who submitted it, and the receipt, in which its arguments
// are, they get at the node's socket if it is theirs. A boot job is nobody's.
func (s *statusPage) forStrangers(j statuspage.Job) statuspage.Job {
	if _, boot := s.own.names[j.ID]; boot && j.From != "" {
		return j
	}
	kept := statuspage.Job{From: "not shown", Status: job.Status{ID: j.ID, Stage: j.Stage, AcceptedAt: j.AcceptedAt}}
	if j.End != nil {
		kept.End = &job.End{State: j.End.State, ExitCode: j.End.ExitCode, EndedAt: j.End.EndedAt}
	}
	return kept
}

// addTold adds what the network was told of what is served here.
func (s *statusPage) addTold(v *statuspage.View) {
	if s.offered == nil {
		return
	}
	t := s.offered.said.Load()
	if t == nil {
		return
	}
	for _, p := range t.Published {
		v.Published = append(v.Published, statuspage.Record{Key: p.Key, At: p.At, Expires: p.Expires, By: len(p.AcknowledgedBy)})
	}
	v.PublishError, v.Held = t.PublishError, len(t.Held)
	if t.Announced != nil {
		v.Announced = fmt.Sprintf("release %d as %s", t.Announced.Version, t.Announced.Instance)
	}
}

// receipt is that of a job at the desk, or of one of the node's own.
func (s *statusPage) receipt(id blob.Digest) ([]byte, error) {
	if s.forAnybody() {
		if _, boot := s.own.names[id]; !boot {
			return nil, job.ErrUnknown
		}
		return s.own.read(id)
	}
	raw, err := s.d.jobs.desk.Receipt(id, pageAdmin)
	if errors.Is(err, job.ErrUnknown) {
		return s.own.read(id)
	}
	return raw, err
}

// claims are what a receipt of this node says.
func (s *statusPage) claims(raw []byte) (statuspage.Claims, bool) {
	st, err := receipt.Verify(raw, s.d.node.Public())
	if err != nil {
		return nil, false
	}
	return statuspage.ClaimsOf(st), true
}

// bootJobNames are the names of the boot jobs, by id. What is wrong with a file is
// told by who runs it.
func (d *daemon) bootJobNames() map[blob.Digest]string {
	names := map[blob.Digest]string{}
	for _, path := range d.cfg.BootJobs {
		raw, err := readBounded(path, job.MaxSpecBytes)
		if err != nil {
			continue
		}
		if j, err := job.Parse(raw); err == nil {
			names[j.ID()] = strings.TrimSuffix(filepath.Base(path), ".json")
		}
	}
	return names
}

// ownReceipts are those of jobs that did not come to the desk: boot jobs, and those
// of plasmd execute-job.
type ownReceipts struct {
	dir   string
	d     *daemon
	names map[blob.Digest]string

	mu    sync.Mutex
	seen  time.Time // change of the folder that list goes by
	known []statuspage.Job
}

// maxOwn bounds how many receipts are read.
const maxOwn = 200

func (o *ownReceipts) read(id blob.Digest) ([]byte, error) {
	return readBounded(filepath.Join(o.dir, id.Hex()+".json"), receipt.MaxBytes)
}

// list reads the folder again when it changed.
func (o *ownReceipts) list() []statuspage.Job {
	o.mu.Lock()
	defer o.mu.Unlock()
	info, err := os.Stat(o.dir)
	if err != nil || info.ModTime().Equal(o.seen) && time.Since(o.seen) > time.Second {
		return o.known
	}
	o.seen, o.known = info.ModTime(), nil
	for _, id := range o.newest() {
		if j, ok := o.job(id); ok {
			o.known = append(o.known, j)
		}
	}
	return o.known
}

// newest are the jobs whose receipts were written last.
func (o *ownReceipts) newest() []blob.Digest {
	entries, err := os.ReadDir(o.dir)
	if err != nil {
		return nil
	}
	type file struct {
		id blob.Digest
		at time.Time
	}
	var files []file
	for _, e := range entries {
		id, err := blob.Parse("sha256:" + strings.TrimSuffix(e.Name(), ".json"))
		info, gone := e.Info()
		if err != nil || gone != nil || e.Type() != fs.FileMode(0) {
			continue
		}
		files = append(files, file{id, info.ModTime()})
	}
	slices.SortFunc(files, func(a, b file) int { return b.at.Compare(a.at) })
	var ids []blob.Digest
	for _, f := range files[:min(len(files), maxOwn)] {
		ids = append(ids, f.id)
	}
	return ids
}

func (o *ownReceipts) job(id blob.Digest) (statuspage.Job, bool) {
	raw, err := o.read(id)
	if err != nil {
		return statuspage.Job{}, false
	}
	s, err := receipt.Verify(raw, o.d.node.Public())
	if err != nil || s.Result.JobID != id {
		return statuspage.Job{}, false // of an identity that this node had before
	}
	from := "plasmd execute-job"
	if name, ok := o.names[id]; ok {
		from = "boot job " + name
	}
	t := s.Observation.Timings
	return statuspage.Job{From: from, Status: job.Status{
		ID: id, Stage: job.Ended, Module: s.Result.Module, AcceptedAt: t.StartedAt,
		End: &job.End{
			State: job.State(s.Result.EndState), ExitCode: s.Result.ExitCode, Detail: s.Result.Trap, Receipt: true,
			EndedAt: t.StartedAt.Add(t.Queue + t.Fetch + t.Compile + t.Run),
		},
	}}, true
}
