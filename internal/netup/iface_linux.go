package netup

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// iface is one interface in our care. Its fields are guarded by the
// manager's lock, but for the first six, which Run's goroutine changes only while
// no worker runs: mac when somebody gives the card another one, cfg and vlans when
// the carrier comes.
type iface struct {
	m     *Manager
	index int
	mac   net.HardwareAddr
	own   net.HardwareAddr // of the card that another one hides; nil: none does
	cfg   *Interface       // nil: DHCP
	vlans []*Interface     // to be made on it; set like cfg

	link     Link
	v6       ipv6
	reading  sync.Mutex     // held by readIPv6
	applied  []netip.Prefix // set by us, but for those of v6
	unused   bool           // for good: it must not be used
	seenUp   bool           // the kernel has confirmed that it is up
	since    time.Time      // when the carrier came
	until    time.Time      // when the lease in use ends; zero: never, or there is none
	tries    int            // DHCP requests since then
	fallback bool           // DHCP was silent for too long: less will do
	step     string         // what is being tried
	err      error          // the last failure

	cancel context.CancelFunc // ends the worker; only Run's goroutine uses it
	worker sync.WaitGroup
}

// start begins the work on an interface with a carrier. It and stop are
// called by Run's goroutine only.
func (i *iface) start(ctx context.Context) {
	ctx, i.cancel = context.WithCancel(ctx)
	switch {
	case i.cfg != nil && i.cfg.Off || i.trunk() || i.unused:
		return
	case i.cfg != nil && i.cfg.Address.IsValid():
		i.worker.Go(func() { i.static() })
	default:
		i.worker.Go(func() { i.dynamic(ctx) })
		i.worker.Go(func() { i.dhcp6(ctx) })
	}
	i.worker.Go(func() { i.expireIPv6(ctx) })
}

// stop ends the worker and waits for it. What it configured stays.
func (i *iface) stop() {
	if i.cancel != nil {
		i.cancel()
	}
	i.worker.Wait()
}

// static configures what was given by hand. It has nothing to keep up.
func (i *iface) static() {
	l := lease{address: i.cfg.Address, gateway: i.cfg.Gateway, dns: i.cfg.DNS}
	i.trying("static address")
	if err := i.bind(l, MethodStatic); err != nil {
		i.fail("static address", err)
		return
	}
	i.emit(Configured, 0, nil)
}

// dynamic asks for leases and keeps them until ctx ends. While nobody
// answers, the fallback runs beside it.
func (i *iface) dynamic(ctx context.Context) {
	for ctx.Err() == nil {
		i.m.update(func() { i.fallback = false })
		fallback, stop := context.WithCancel(ctx)
		var side sync.WaitGroup
		side.Go(func() { i.fallBack(fallback) })
		side.Go(func() { i.expire(fallback) })
		l, err := i.acquire(ctx)
		stop()
		side.Wait()
		if err == nil {
			i.hold(ctx, l)
		}
	}
}

// expire gives up the lease of an earlier time, before the cable was pulled, when
// it ends while nobody has given another one.
func (i *iface) expire(ctx context.Context) {
	i.m.mu.Lock()
	end := i.until
	i.m.mu.Unlock()
	replaced := func() bool { return i.until != end }
	if end.IsZero() || i.m.until(ctx, end, replaced) || ctx.Err() != nil {
		return
	}
	i.unbind()
	i.emit(Lost, 0, errRanOut)
}

// fallBack waits until DHCP has been silent for long enough, or knows that it was,
// then accepts IPv6 alone, and claims a link-local address if that is allowed. It
// does nothing while IPv6 has all that is needed.
func (i *iface) fallBack(ctx context.Context) {
	claim := i.claimed()
	if !claim.IsValid() && !pause(ctx, i.m.cfg.FallbackAfter) || !i.m.until(ctx, time.Time{}, func() bool { return !i.v6.ready }) {
		return
	}
	i.m.update(func() { i.fallback = true })
	if !claim.IsValid() {
		i.emit(NoAnswer, 0, nil)
	}
	i.settleIPv6()
	if i.m.cfg.LinkLocal {
		i.linkLocal(ctx, claim)
	}
}

// claimed is the address of Config.Claims for this interface, or none: later the
// cable may be in another network.
func (i *iface) claimed() netip.Addr {
	i.m.mu.Lock()
	defer i.m.mu.Unlock()
	if time.Since(i.m.begun) > claimLife {
		return netip.Addr{}
	}
	for _, c := range i.m.cfg.Claims {
		if c.MAC == i.link.MAC && c.VLAN == i.link.VLAN && isClaimable(c.Address) {
			return c.Address
		}
	}
	return netip.Addr{}
}

// snapshot is called with the manager's lock held. IPv6 counts where it is
// usable and better than a link-local IPv4 address.
func (i *iface) snapshot() Link {
	l, v, now := i.link.clone(), &i.v6, time.Now()
	first, second := l.Addresses, v.addresses
	if v.ready && (l.Method == MethodNone || l.Method == MethodLinkLocal && v.router.IsValid()) {
		l.Method, first, second = v.method(), second, first
	}
	l.Addresses = slices.Concat([]netip.Prefix{}, first, second)
	l.Gateway6 = v.router
	dns, search := v.servers(now, l.Name), v.domains(now)
	if i.cfg != nil && len(i.cfg.DNS) > 0 {
		dns, search = nil, nil // a person chose others
	}
	l.DNS = alternate(maxDNS, l.DNS, dns)
	l.NTP = alternate(maxNTP, l.NTP, v.lease.ntp)
	l.Search = alternate(maxSearch, l.Search, search)
	l.Portal = cmp.Or(l.Portal, v.lease.portal, v.portal)
	return l
}

func (i *iface) name() string {
	i.m.mu.Lock()
	defer i.m.mu.Unlock()
	return i.link.Name
}

func (i *iface) trying(step string) {
	i.m.update(func() { i.step = step })
}

// fail notes a failed step and says so.
func (i *iface) fail(step string, err error) {
	i.m.update(func() {
		i.step, i.err = step, err
		i.link.Err = bounded(err.Error(), maxErr)
	})
	i.emit(Failed, 0, err)
}

// emit reports an event about i; called without the manager's lock.
func (i *iface) emit(s State, attempt int, err error) {
	i.m.mu.Lock()
	e := Event{Interface: i.link.Name, State: s, Attempt: attempt, Err: err, Link: i.snapshot()}
	e.Took = i.sinceCarrier()
	i.m.mu.Unlock()
	i.m.emit(e)
}

// sinceCarrier is the time since the carrier came, or since Run began. It is
// called with the manager's lock held.
func (i *iface) sinceCarrier() time.Duration {
	if i.since.IsZero() {
		return time.Since(i.m.begun)
	}
	return time.Since(i.since)
}

// failure composes the error of a Wait that found nothing usable: the
// reason of the interface that came furthest, and what was tried on each.
func (m *Manager) failure(waited time.Duration, cause error) *Error {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := &Error{Reason: NoInterface, Waited: waited, Err: cause}
	for _, i := range m.sorted() {
		t, reason := i.tried()
		e.Tried = append(e.Tried, t)
		e.Reason = max(e.Reason, reason)
	}
	return e
}

// tried is called with the manager's lock held.
func (i *iface) tried() (Try, Reason) {
	t := Try{Interface: i.link.Name, Wireless: i.link.Wireless, Step: i.step, Err: i.err}
	switch {
	case i.link.Carrier && i.trunk() && i.err == nil:
		t.Step = "carries VLANs only"
		return t, NoInterface
	case !i.link.Carrier && i.err == nil:
		t.Step = i.link.unconnected()
		return t, NoCable
	case i.tries > 0:
		t.Attempts, t.Took = i.tries, time.Since(i.since)
		if i.err == nil || errors.Is(i.err, errNoAnswer) {
			return t, NoDHCP
		}
	}
	return t, reasonOf(i.err)
}
