package netup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// Manager owns the interfaces of one machine. Its methods may be called
// from any goroutine.
type Manager struct {
	cfg    Config
	secret uint64 // of this boot
	setMAC func(netlink.Link, net.HardwareAddr) error

	crowded bool // tooMany was said; only Run's goroutine uses it

	mu      sync.Mutex // guards what follows, up to the blank line
	begun   time.Time  // when Run began; zero: not yet
	cancel  context.CancelFunc
	links   map[int]*iface     // by kernel index
	vlans   map[int]*Interface // the links that we made, by kernel index
	weak    time.Time          // since when there is a configured interface, but none with a router
	changed chan struct{}      // closed and replaced at every change
	runErr  error
	resolv  resolver // what ResolvConf was last written for

	done   chan struct{} // closed when Run has returned
	report sync.Mutex    // serialises cfg.Report
}

// New returns a manager that has not touched anything yet.
func New(cfg Config) *Manager {
	secret := uint64(0) // without Private it is not used
	if cfg.Private {
		secret = newSecret()
	}
	return &Manager{
		cfg:     cfg.withDefaults(),
		secret:  secret,
		setMAC:  netlink.LinkSetHardwareAddr,
		links:   make(map[int]*iface),
		vlans:   make(map[int]*Interface),
		changed: make(chan struct{}),
		done:    make(chan struct{}),
	}
}

// Up starts a manager in the background and waits for the first usable
// interface. The manager lives until ctx ends or Down is called. It is
// returned with an error too: it goes on trying, and Wait may be called
// again.
func Up(ctx context.Context, cfg Config) (*Manager, *Network, error) {
	m := New(cfg)
	go func() { _ = m.Run(ctx) }() // Wait returns the same error
	n, err := m.Wait(ctx)
	return m, n, err
}

// Run brings up the loopback and every interface, keeps their leases, and
// takes care of interfaces and cables that come later. It blocks until ctx
// ends, and then leaves everything configured as it is; see Down. It may be
// called once. Its error is an *Error: the kernel did not let it begin.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.mu.Lock()
	if !m.begun.IsZero() {
		m.mu.Unlock()
		return errors.New("netup: Run called twice")
	}
	m.begun, m.cancel = time.Now(), cancel
	m.mu.Unlock()

	err := m.run(ctx)
	m.stopWorkers()
	m.update(func() { m.runErr = err })
	close(m.done)
	return err
}

func (m *Manager) run(ctx context.Context) error {
	if err := setLoopbackUp(); err != nil {
		return &Error{Reason: reasonOf(err), Err: err}
	}
	if m.cfg.Off {
		<-ctx.Done()
		return nil
	}
	for first := true; ; first = false {
		err := m.watch(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case first && err != nil:
			return &Error{Reason: reasonOf(err), Err: err}
		}
		// The kernel ended the subscription, usually because it said more
		// than we could take in. Subscribing again lists everything anew.
		lost := errors.New("link events were lost, listing again")
		if err != nil {
			lost = fmt.Errorf("%w: %w", lost, err)
		}
		m.emit(Event{State: Failed, Err: lost})
		if !pause(ctx, time.Second) {
			return nil
		}
	}
}

// Done is closed when Run has ended.
func (m *Manager) Done() <-chan struct{} { return m.done }

// Wait returns the network as soon as one interface is usable: it has an
// address and a default route, or it has an address and nothing better is
// in sight. It fails with an *Error after Config.Timeout, and may be called
// again.
func (m *Manager) Wait(ctx context.Context) (*Network, error) {
	began := time.Now()
	timeout := time.NewTimer(m.cfg.Timeout)
	defer timeout.Stop()
	appear := time.NewTimer(min(m.cfg.Appear, m.cfg.Timeout))
	defer appear.Stop()
	after := m.cfg.RemindAfter
	remind := time.NewTimer(after)
	defer remind.Stop()
	if m.cfg.Off {
		return nil, &Error{Reason: SwitchedOff}
	}
	for {
		v := m.view()
		if v.usable {
			return v.network, nil
		}
		select {
		case <-v.changed:
		case <-v.grace:
		case <-appear.C:
			if v.links == 0 {
				return nil, m.failure(time.Since(began), nil)
			}
		case <-remind.C:
			m.reportWaiting(m.cfg.Timeout - time.Since(began))
			remind.Reset(after)
			after *= 2
		case <-timeout.C:
			return nil, m.failure(time.Since(began), nil)
		case <-ctx.Done():
			return nil, m.failure(time.Since(began), context.Cause(ctx))
		case <-m.done:
			return nil, m.ended(time.Since(began))
		}
	}
}

// reportWaiting says what is there and what is missing on each interface.
func (m *Manager) reportWaiting(left time.Duration) {
	var events []Event
	m.mu.Lock()
	for _, i := range m.sorted() {
		if !i.trunk() {
			events = append(events, Event{
				Interface: i.link.Name, State: Waiting, Attempt: i.tries, Left: left, Took: i.sinceCarrier(), Link: i.snapshot(), Err: i.err,
			})
		}
	}
	m.mu.Unlock()
	if len(events) == 0 {
		events = append(events, Event{State: Waiting, Left: left, Err: fmt.Errorf("no interface yet; %s left", left.Round(time.Second))})
	}
	for _, e := range events {
		m.emit(e)
	}
}

// ended is the failure of a Wait whose Run is over.
func (m *Manager) ended(waited time.Duration) error {
	m.mu.Lock()
	err := m.runErr
	m.mu.Unlock()
	if err != nil {
		return err
	}
	return m.failure(waited, context.Canceled)
}

// view is one consistent look at the manager.
type view struct {
	network *Network
	links   int
	usable  bool
	changed <-chan struct{}
	grace   <-chan time.Time // fires when a network without a router is good enough; may be nil
}

func (m *Manager) view() view {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := view{network: m.snapshot(), links: len(m.links), changed: m.changed}
	weak, busy := false, false
	for _, i := range m.links {
		switch l := i.snapshot(); {
		case !l.Carrier || i.trunk() || i.unused:
		case l.Configured() && l.Routed():
			v.usable = true
		case l.Configured():
			weak = true
		default:
			busy = true
		}
	}
	if !weak || v.usable {
		return v
	}
	if m.weak.IsZero() {
		m.weak = time.Now()
	}
	left := weakGrace - time.Since(m.weak)
	if v.usable = !busy || left <= 0; !v.usable {
		v.grace = time.After(left)
	}
	return v
}

// Network returns what is configured now.
func (m *Manager) Network() Network {
	m.mu.Lock()
	defer m.mu.Unlock()
	return *m.snapshot()
}

func (m *Manager) snapshot() *Network {
	n := Network{Interfaces: []Link{}, DNS: []netip.Addr{}, NTP: []netip.Addr{}, Search: []string{}}
	for _, i := range m.sorted() {
		n.Interfaces = append(n.Interfaces, i.snapshot())
	}
	live := slices.DeleteFunc(slices.Clone(n.Interfaces), func(l Link) bool { return !l.Carrier })
	n.DNS = append(n.DNS, mergeDNS(live)...)
	n.NTP = append(n.NTP, mergeNTP(live)...)
	n.Search = append(n.Search, mergeSearch(live)...)
	n.Portal = mergePortal(live)
	return &n
}

func (m *Manager) sorted() []*iface {
	var all []*iface
	for _, i := range m.links {
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b *iface) int { return cmp.Compare(a.link.Name, b.link.Name) })
	return all
}

// Down stops Run, removes the addresses and VLANs this manager set and takes
// the interfaces down, so that the next kernel finds the cards at rest. Leases
// are not released: the next system asks for the same address again. Down
// goes on after failures and returns all of them.
func (m *Manager) Down() error {
	m.mu.Lock()
	cancel := m.cancel
	m.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
	<-m.done
	var errs []error
	for _, i := range m.sorted() { // Run is over: nobody else holds them
		errs = append(errs, i.removeAddresses())
	}
	for index := range m.vlans {
		errs = append(errs, removeVLAN(index))
	}
	for _, i := range m.sorted() {
		errs = append(errs, setLinkDown(i.index)) // does nothing for a VLAN
	}
	m.update(func() { clear(m.links); clear(m.vlans) })
	return errors.Join(errs...)
}

// update changes the state under the lock and wakes every Wait. The name
// servers are written before anybody can see the change: whoever is told of
// a network can resolve names on it.
func (m *Manager) update(change func()) {
	m.mu.Lock()
	change()
	err := m.syncResolvConf()
	close(m.changed)
	m.changed = make(chan struct{})
	m.mu.Unlock()
	if err != nil {
		m.emit(Event{State: Failed, Err: &stepError{NotConfigured, "name servers", err}})
	}
}

// syncResolvConf writes resolv.conf if the name servers changed. It is
// called with the lock held; a failure is reported once for each change.
func (m *Manager) syncResolvConf() error {
	names := m.names()
	if m.cfg.ResolvConf == "" || names.equal(m.resolv) {
		return nil
	}
	m.resolv = names
	return writeResolvConf(m.cfg.ResolvConf, names)
}

// Resync writes resolv.conf again, whatever it was last written for. It is for
// whoever moved to another root file system: a lease that came meanwhile may
// have been written to the old one. Without Config.ResolvConf it does nothing.
func (m *Manager) Resync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cfg.ResolvConf == "" {
		return nil
	}
	m.resolv = m.names()
	if err := writeResolvConf(m.cfg.ResolvConf, m.resolv); err != nil {
		return &stepError{NotConfigured, "name servers", err}
	}
	return nil
}

// names is called with the lock held.
func (m *Manager) names() resolver {
	n := m.snapshot()
	return resolver{servers: n.DNS, search: n.Search}
}

// until waits until the state fulfils a condition, which is asked with the lock
// held, and reports whether it did before the deadline (zero: none) and ctx
// ended.
func (m *Manager) until(ctx context.Context, deadline time.Time, is func() bool) bool {
	var late <-chan time.Time
	if !deadline.IsZero() {
		late = time.After(time.Until(deadline))
	}
	for {
		m.mu.Lock()
		met, changed := is(), m.changed
		m.mu.Unlock()
		if met {
			return true
		}
		select {
		case <-changed:
		case <-late:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (m *Manager) emit(e Event) {
	m.report.Lock()
	defer m.report.Unlock()
	m.cfg.Report(e)
}

// pause waits for d and reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
