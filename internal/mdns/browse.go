package mdns

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"
)

// Limits of what one browsing remembers: below 1 MiB in all.
const (
	maxEntries   = 256 // instances, and thus hosts
	maxPerSender = 16  // instances that one address may tell of
	maxHostAddrs = 2 * maxAddrs
	maxText      = 2048 // bytes of one TXT record
	maxTries     = 3    // questions for what is missing of one instance
	maxAsked     = 32   // of them in one message
)

// Pauses between questions. RFC 6762, section 5.2, wants them to grow; what is
// missing of an answer is asked for soon, but not at once: it is often on its way.
const (
	askAgain    = time.Second
	askAtMost   = time.Minute
	askMissing  = 50 * time.Millisecond
	maxInterval = 3
)

// ErrFlood says that more was announced than any real network has. What fitted
// was looked at.
var ErrFlood = errors.New("too many announcements on the local network")

// ErrNoLink says that there was no interface on which to ask.
var ErrNoLink = errors.New("multicast DNS: no interface is up that can multicast and has an address")

// key names something on one interface: the same name on another may be somebody
// else's.
type key struct {
	index int
	name  name // folded
}

// instance is what is known of one announced provider.
type instance struct {
	label    string
	from     netip.Addr
	link     link
	full     name
	srv, txt bool
	port     uint16
	host     key
	text     []string
	tries    int
	told     *announced // what hear was told last
}

// browser collects records until they make up a provider.
type browser struct {
	service   name
	instances map[key]*instance
	hosts     map[key][]netip.Addr // by SRV target; nothing known yet: empty
	perSender map[netip.Addr]int
	flooded   bool
	hear      func(announced)
}

func newBrowser(service name, hear func(announced)) *browser {
	return &browser{
		service: service, hear: hear,
		instances: map[key]*instance{}, hosts: map[key][]netip.Addr{}, perSender: map[netip.Addr]int{},
	}
}

// browse passes providers to hear until ctx ends, one that changes again. hear is
// called from this goroutine and should return soon.
func browse(ctx context.Context, hear func(announced)) error {
	service, err := newName(serviceLabels...)
	if err != nil {
		return err
	}
	c, err := open(true)
	if err != nil {
		return err
	}
	defer c.close()
	b := newBrowser(service, hear)
	links := c.links()
	everLinked := len(links) > 0
	interval := askAgain
	ask := time.NewTimer(interval)
	missing := time.NewTimer(time.Hour)
	missing.Stop()
	b.ask(c, links, true)
	for {
		select {
		case <-ctx.Done():
			return b.outcome(everLinked)
		case <-c.changed:
			before := links
			links = c.links()
			everLinked = everLinked || len(links) > 0
			b.ask(c, slices.DeleteFunc(slices.Clone(links), func(l link) bool {
				return slices.ContainsFunc(before, func(o link) bool { return o.id() == l.id() && slices.Equal(o.addrs, l.addrs) })
			}), true)
		case p := <-c.packets:
			if b.take(p) {
				missing.Reset(askMissing)
			}
		case <-missing.C:
			if b.askMissing(c) {
				missing.Reset(askAgain)
			}
		case <-ask.C:
			b.ask(c, links, false)
			interval = min(interval*maxInterval, askAtMost)
			ask.Reset(interval)
		}
	}
}

func (b *browser) outcome(everLinked bool) error {
	switch {
	case b.flooded:
		return ErrFlood
	case !everLinked:
		return ErrNoLink
	}
	return nil
}

// ask asks for providers on these links. The first time it wants answers to us
// alone (RFC 6762, section 5.4), which come at once even if everybody was told a
// moment ago; then it says what it knows already (section 7.1). An error is the
// link's: the next question, or its next change, may do better.
func (b *browser) ask(c *conn, links []link, first bool) {
	m := &message{questions: []question{{name: b.service, kind: typePTR, unicast: first}}}
	for _, l := range links {
		m.answers = nil
		if !first {
			m.answers = b.known(l)
		}
		_ = c.multicast(l, m.pack())
	}
}

// known are the complete instances heard on a link.
func (b *browser) known(l link) []record {
	var out []record
	for _, i := range b.instances {
		if i.link.index == l.index && i.told != nil && len(out) < maxAsked {
			out = append(out, record{name: b.service, kind: typePTR, ttl: timeToLive, target: i.full})
		}
	}
	return out
}

// askMissing asks for the records that are still missing, and reports whether
// they may have to be asked for again.
func (b *browser) askMissing(c *conn) (again bool) {
	questions := map[linkID][]question{}
	links := map[linkID]link{}
	for _, i := range b.instances {
		id := i.link.id()
		if i.told != nil || i.tries == maxTries || len(questions[id]) >= maxAsked {
			continue
		}
		i.tries++
		again, links[id] = true, i.link
		if !i.srv {
			questions[id] = append(questions[id], question{name: i.full, kind: typeSRV})
		}
		if !i.txt {
			questions[id] = append(questions[id], question{name: i.full, kind: typeTXT})
		}
		if i.srv && len(b.hosts[i.host]) == 0 {
			questions[id] = append(questions[id], question{name: i.host.name, kind: typeA}, question{name: i.host.name, kind: typeAAAA})
		}
	}
	for id, q := range questions {
		_ = c.multicast(links[id], (&message{questions: q}).pack())
	}
	return again
}

// take learns from one packet, and reports whether something is still missing.
func (b *browser) take(p packet) (missing bool) {
	m, err := parse(p.data)
	if err != nil || !m.response() || m.flags&(maskOpcode|maskRcode) != 0 {
		return false
	}
	records := slices.Concat(m.answers, m.further)
	touched := map[*instance]bool{}
	for _, r := range records {
		if i := b.learn(p, r); i != nil {
			touched[i] = true
		}
	}
	hosts := map[key]bool{}
	for _, r := range records {
		if k := (key{p.link.index, r.name.fold()}); (r.kind == typeA || r.kind == typeAAAA) && b.learnAddr(p.link, k, r) {
			hosts[k] = true
		}
	}
	for _, i := range b.instances {
		if touched[i] || i.srv && hosts[i.host] {
			missing = !b.tell(i) || missing
		}
	}
	return missing
}

// learn takes what a record says about an instance of the service, and returns
// that instance; nil if it says nothing or takes the instance back.
func (b *browser) learn(p packet, r record) *instance {
	full := r.name
	if r.kind == typePTR {
		if r.name.fold() != b.service.fold() {
			return nil
		}
		full = r.target
	}
	label, ok := full.below(b.service)
	if !ok {
		return nil
	}
	k := key{p.link.index, full.fold()}
	if r.ttl == 0 {
		b.forget(k)
		return nil
	}
	i := b.instances[k]
	if i == nil {
		if i = b.admit(p, k, full, label); i == nil {
			return nil
		}
	}
	switch r.kind {
	case typeSRV:
		b.move(i, key{p.link.index, r.target.fold()})
		i.srv, i.port = true, r.port
	case typeTXT:
		if len(r.data()) <= maxText {
			i.txt, i.text = true, r.text
		}
	}
	return i
}

// admit makes room for an instance that was not heard of before.
func (b *browser) admit(p packet, k key, full name, label string) *instance {
	from := p.from.Addr()
	if len(b.instances) >= maxEntries || b.perSender[from] >= maxPerSender {
		b.flooded = true
		return nil
	}
	b.perSender[from]++
	i := &instance{label: label, full: full, from: from, link: p.link}
	b.instances[k] = i
	return i
}

func (b *browser) forget(k key) {
	if i := b.instances[k]; i != nil {
		if b.perSender[i.from]--; b.perSender[i.from] == 0 {
			delete(b.perSender, i.from)
		}
		delete(b.instances, k)
		b.move(i, key{})
	}
}

// move changes the host of an instance, and forgets hosts that no instance names
// any more, so that there are never more hosts than instances.
func (b *browser) move(i *instance, to key) {
	from := i.host
	i.host = to
	if _, known := b.hosts[to]; !known && to.name != "" {
		b.hosts[to] = nil
	}
	for _, other := range b.instances {
		if other.host == from {
			return
		}
	}
	delete(b.hosts, from)
}

// learnAddr takes the address of a host that some instance named, and reports
// whether it is new. Addresses that are not on the link are passed over: they
// would lead somewhere else than to who answered.
func (b *browser) learnAddr(l link, host key, r record) bool {
	known, wanted := b.hosts[host]
	if !wanted {
		return false
	}
	at := slices.Index(known, r.addr)
	if r.ttl == 0 {
		if at >= 0 {
			b.hosts[host] = slices.Delete(known, at, at+1)
		}
		return false
	}
	if at >= 0 || len(known) == maxHostAddrs || !l.near(r.addr) {
		return false
	}
	b.hosts[host] = append(known, r.addr)
	return true
}

// tell passes an instance on if it is complete and not the same as before, and
// reports whether it is complete.
func (b *browser) tell(i *instance) bool {
	addrs := b.hosts[i.host]
	if !i.srv || !i.txt || len(addrs) == 0 {
		return false
	}
	a := announced{instance: i.label, from: i.from, port: i.port, text: i.text, link: i.link}
	for _, addr := range addrs {
		if addr.Is6() && addr.IsLinkLocalUnicast() {
			addr = addr.WithZone(i.link.device)
		}
		a.addrs = append(a.addrs, addr)
	}
	slices.SortStableFunc(a.addrs, func(x, y netip.Addr) int { return x.BitLen() - y.BitLen() })
	if t := i.told; t == nil || t.port != a.port || !slices.Equal(t.addrs, a.addrs) || !slices.Equal(t.text, a.text) {
		i.told = &a
		b.hear(a)
	}
	return true
}
