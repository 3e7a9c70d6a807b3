package mdns

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// Timing of RFC 6762: probes (section 8.1), announcements (8.3), answers (6),
// giving way to another probe (8.2), many conflicts (8.1).
const (
	probes        = 3
	probeEvery    = 250 * time.Millisecond
	announcements = 2
	announceEvery = time.Second
	answerEvery   = time.Second            // the same record on one link
	defendEvery   = 250 * time.Millisecond // against a probe
	giveWay       = time.Second
	manyConflicts = 15
	conflictRest  = 5 * time.Second
	goodbyeAgain  = 100 * time.Millisecond

	maxUnicast = 50 // answers to single hosts, each second
	legacyTTL  = 10 // seconds (section 6.7)
)

// need is a set of records that somebody asked for.
type need uint8

const (
	needPTR need = 1 << iota
	needSRV
	needTXT
	needAddrs
	needTypes // what service types there are (RFC 6763, section 9)
	needAll   = needPTR | needSRV | needTXT | needAddrs | needTypes
)

// port is the state of an announcement on one link.
type port struct {
	link
	probes    int // still to be sent; with the time of the last one over, the name is ours
	probing   bool
	announce  int       // announcements still to be sent
	at        time.Time // of the next probe or announcement
	pending   need
	due       time.Time // when pending is answered
	multicast time.Time // when something was last told to all
}

// responder answers for one provider. Everything in it belongs to the goroutine
// of run.
type responder struct {
	conn      *conn
	say       Announcement
	announced func(Announced)

	service, types   name
	instance, host   name
	instanceL, hostL string // labels without number
	number           int
	renamed          int
	at               time.Time
	ports            []*port
	unicasts         int
	unicastsSince    time.Time
}

func newResponder(a Announcement) (*responder, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	r := &responder{say: a, number: 1, hostL: label("plasmd-" + label(a.Host)), instanceL: label(a.Instance)}
	if r.instanceL == "" {
		r.instanceL = r.hostL
	}
	var err error
	if r.service, err = newName(serviceLabels...); err != nil {
		return nil, err
	}
	if r.types, err = newName("_services", "_dns-sd", "_udp", Domain); err != nil {
		return nil, err
	}
	return r, r.take(1)
}

// take takes names with this number.
func (r *responder) take(number int) (err error) {
	r.number = number
	if r.instance, err = newName(append([]string{numbered(r.instanceL, number)}, serviceLabels...)...); err != nil {
		return err
	}
	r.host, err = newName(numbered(r.hostL, number), Domain)
	return err
}

// run answers until stop is closed, and then takes everything back.
func (r *responder) run(stop <-chan struct{}) {
	defer r.conn.close()
	timer := time.NewTimer(0)
	for {
		select {
		case <-stop:
			r.goodbye()
			return
		case <-r.conn.changed:
			r.relink(time.Now())
		case p := <-r.conn.packets:
			r.hear(p, time.Now())
		case <-timer.C:
		}
		now := time.Now()
		for _, p := range r.ports {
			r.act(p, now)
		}
		timer.Reset(r.next().Sub(now))
	}
}

// next is when there is something to do again.
func (r *responder) next() time.Time {
	next := time.Now().Add(time.Hour)
	for _, p := range r.ports {
		if (p.probing || p.announce > 0) && p.at.Before(next) {
			next = p.at
		}
		if p.pending != 0 && p.due.Before(next) {
			next = p.due
		}
	}
	return next
}

// relink takes up interfaces that came, drops those that went, and announces
// again where addresses changed.
func (r *responder) relink(now time.Time) {
	var ports []*port
	for _, l := range r.conn.links() {
		if len(r.say.addrs(l)) == 0 {
			continue
		}
		i := slices.IndexFunc(r.ports, func(p *port) bool { return p.id() == l.id() })
		if i < 0 {
			p := &port{link: l}
			p.probe(now.Add(rand.N(probeEvery)))
			ports = append(ports, p)
			continue
		}
		p := r.ports[i]
		if !p.probing && !slices.Equal(p.addrs, l.addrs) {
			p.announce, p.at = announcements, now
		}
		p.link = l
		ports = append(ports, p)
	}
	r.ports = ports
}

// probe begins to ask at some time whether the names are free.
func (p *port) probe(at time.Time) {
	p.probing, p.probes, p.announce, p.pending, p.at = true, probes, 0, 0, at
}

// act does what is due on a link.
func (r *responder) act(p *port, now time.Time) {
	switch {
	case p.probing && !now.Before(p.at) && p.probes > 0:
		_ = r.conn.multicast(p.link, r.probe(p).pack())
		p.probes--
		p.at = now.Add(probeEvery)
	case p.probing && !now.Before(p.at):
		p.probing, p.announce, p.at = false, announcements, now
	}
	if !p.probing && p.announce > 0 && !now.Before(p.at) {
		err := r.conn.multicast(p.link, r.answer(p, needAll, true).pack())
		p.announce, p.at, p.multicast = p.announce-1, now.Add(announceEvery), now
		if err == nil {
			r.report(now)
		}
	}
	if !p.probing && p.pending != 0 && !now.Before(p.due) {
		_ = r.conn.multicast(p.link, r.answer(p, p.pending, true).pack())
		p.pending, p.multicast = 0, now
	}
}

// report tells what is being said.
func (r *responder) report(now time.Time) {
	if r.at.IsZero() {
		r.at = now
	}
	said := Announced{Instance: r.instance.String(), Host: r.host.String(), Port: r.say.Port, At: r.at, Renamed: r.renamed}
	for _, p := range r.ports {
		if p.probing {
			continue
		}
		for _, addr := range r.say.addrs(p.link) {
			if !slices.Contains(said.Addrs, addr) {
				said.Addrs = append(said.Addrs, addr)
			}
		}
		for _, t := range r.say.text(p.link) {
			if !slices.Contains(said.Text, t) {
				said.Text = append(said.Text, t)
			}
		}
	}
	r.announced(said)
}

// probe asks whether somebody has our names, and says what we want to use them
// for, so that of two who ask at once one gives way.
func (r *responder) probe(p *port) *message {
	return &message{
		questions: []question{{name: r.instance, kind: typeANY}, {name: r.host, kind: typeANY}},
		authority: r.records(p, needSRV|needTXT|needAddrs, timeToLive, false),
	}
}

// answer is a response with what was asked for and what the asker will want next
// (RFC 6763, section 12).
func (r *responder) answer(p *port, want need, flush bool) *message {
	further := need(0)
	if want&needPTR != 0 {
		further = needSRV | needTXT | needAddrs
	}
	if want&needSRV != 0 {
		further |= needAddrs
	}
	return &message{
		flags:   flagResponse | flagAuthoritative,
		answers: r.records(p, want, timeToLive, flush),
		further: r.records(p, further&^want, timeToLive, flush),
	}
}

// records are our records of these kinds. Those that nobody else has replace what
// others remember (RFC 6762, section 10.2).
func (r *responder) records(p *port, want need, ttl uint32, flush bool) []record {
	var out []record
	if want&needPTR != 0 {
		out = append(out, record{name: r.service, kind: typePTR, ttl: ttl, target: r.instance})
	}
	if want&needTypes != 0 {
		out = append(out, record{name: r.types, kind: typePTR, ttl: ttl, target: r.service})
	}
	if want&needSRV != 0 {
		out = append(out, record{name: r.instance, kind: typeSRV, ttl: ttl, flush: flush, port: uint16(r.say.Port), target: r.host})
	}
	if want&needTXT != 0 {
		out = append(out, record{name: r.instance, kind: typeTXT, ttl: ttl, flush: flush, text: r.say.text(p.link)})
	}
	if want&needAddrs != 0 {
		for _, addr := range r.say.addrs(p.link) {
			kind := uint16(typeA)
			if addr.Is6() {
				kind = typeAAAA
			}
			out = append(out, record{name: r.host, kind: kind, ttl: ttl, flush: flush, addr: addr})
		}
	}
	return out
}

// goodbye takes the announcement back (RFC 6762, section 10.1), twice, since
// nobody acknowledges it. The host's addresses may be another announcement's too.
func (r *responder) goodbye() {
	for again := range 2 {
		if again > 0 {
			time.Sleep(goodbyeAgain)
		}
		for _, p := range r.ports {
			if !p.probing {
				m := &message{flags: flagResponse | flagAuthoritative, answers: r.records(p, needPTR|needSRV|needTXT, 0, false)}
				_ = r.conn.multicast(p.link, m.pack())
			}
		}
	}
}

// hear takes one packet.
func (r *responder) hear(in packet, now time.Time) {
	i := slices.IndexFunc(r.ports, func(p *port) bool { return p.id() == in.link.id() })
	if i < 0 {
		return
	}
	m, err := parse(in.data)
	if err != nil || m.flags&(maskOpcode|maskRcode) != 0 {
		return
	}
	p := r.ports[i]
	switch {
	case m.response():
		if in.from.Port() == port5353 && r.conflicts(slices.Concat(m.answers, m.further)) {
			r.conflict(now)
		}
	case p.probing:
		if len(m.authority) > 0 && r.loses(p, m, in.from.Addr()) {
			p.probe(now.Add(giveWay))
		}
	default:
		r.hearQuestion(p, in, m, now)
	}
}

// conflicts reports whether somebody else uses one of our names: for another
// provider, or for an address that this machine does not have. What this machine
// says itself comes back to it, also by its other interfaces.
func (r *responder) conflicts(records []record) bool {
	return slices.ContainsFunc(records, func(o record) bool {
		switch {
		case o.ttl == 0:
			return false
		case o.kind == typeSRV && o.name.fold() == r.instance.fold():
			return o.target.fold() != r.host.fold() || int(o.port) != r.say.Port
		case (o.kind == typeA || o.kind == typeAAAA) && o.name.fold() == r.host.fold():
			return !r.owns(o.addr)
		}
		return false
	})
}

// owns reports whether an address is one of this machine's.
func (r *responder) owns(addr netip.Addr) bool {
	return slices.ContainsFunc(r.ports, func(p *port) bool { return p.has(addr) })
}

// conflict takes the next name, for instance and host alike, and begins again
// (RFC 6762, section 9). Where that happens all the time somebody is at fault,
// and the network is spared.
func (r *responder) conflict(now time.Time) {
	r.renamed++
	at := now.Add(rand.N(probeEvery))
	if r.renamed >= manyConflicts {
		at = now.Add(conflictRest)
	}
	if err := r.take(r.number + 1); err != nil {
		return // not possible: labels are cut to their length
	}
	r.at = time.Time{}
	for _, p := range r.ports {
		p.probe(at)
	}
}

// loses reports whether another machine that wants one of our names at the same
// time has the better claim to it (RFC 6762, section 8.2). The first name on which
// both differ decides, so that exactly one of two gives way. What this machine says
// comes back to it by its other interfaces, with the addresses of those.
func (r *responder) loses(p *port, m *message, from netip.Addr) bool {
	for _, mine := range [][]record{r.records(p, needSRV|needTXT, timeToLive, false), r.records(p, needAddrs, timeToLive, false)} {
		var theirs []record
		for _, o := range m.authority {
			if len(mine) > 0 && o.name.fold() == mine[0].name.fold() {
				theirs = append(theirs, o)
			}
		}
		if len(theirs) == 0 || r.owns(from) && !r.conflicts(theirs) {
			continue
		}
		if c := compareProbes(mine, theirs); c != 0 {
			return c < 0
		}
	}
	return false
}

// hearQuestion answers a query, or makes up its mind when to.
func (r *responder) hearQuestion(p *port, in packet, m *message, now time.Time) {
	var want need
	unicast := true
	for _, q := range m.questions {
		if n := r.wanted(q); n != 0 {
			want |= n
			unicast = unicast && q.unicast
		}
	}
	for _, known := range m.answers { // RFC 6762, section 7.1
		if known.kind == typePTR && known.ttl >= timeToLive/2 && known.name.fold() == r.service.fold() && known.target.fold() == r.instance.fold() {
			want &^= needPTR
		}
	}
	switch {
	case want == 0:
	case in.from.Port() != port5353:
		r.unicast(p, in, r.legacy(p, m, want), now)
	case in.alone || unicast && now.Sub(p.multicast) < timeToLive*time.Second/4:
		r.unicast(p, in, r.answer(p, want, true), now)
	default:
		p.ask(want, len(m.authority) > 0, now)
	}
}

// wanted are the records that a question is about.
func (r *responder) wanted(q question) need {
	var n need
	if q.asks(r.service, typePTR) {
		n |= needPTR
	}
	if q.asks(r.types, typePTR) {
		n |= needTypes
	}
	if q.asks(r.instance, typeSRV) {
		n |= needSRV
	}
	if q.asks(r.instance, typeTXT) {
		n |= needTXT
	}
	if q.asks(r.host, typeA) || q.asks(r.host, typeAAAA) {
		n |= needAddrs
	}
	return n
}

// ask notes what is to be told to all, and when: soon, but not the same twice a
// second, and where others may answer the same question, not in chorus (RFC 6762,
// section 6). A probe for our name is answered while it can still be heard.
func (p *port) ask(want need, isProbe bool, now time.Time) {
	due, pause := now, answerEvery
	if want&(needPTR|needTypes) != 0 {
		due = now.Add(20*time.Millisecond + rand.N(100*time.Millisecond))
	}
	if isProbe {
		pause = defendEvery
	}
	if earliest := p.multicast.Add(pause); due.Before(earliest) {
		due = earliest
	}
	if p.pending == 0 || due.Before(p.due) {
		p.due = due
	}
	p.pending |= want
}

// legacy is an answer for those who know only ordinary DNS (RFC 6762, section
// 6.7).
func (r *responder) legacy(p *port, m *message, want need) *message {
	a := r.answer(p, want, false)
	a.id, a.questions = m.id, m.questions
	for _, section := range [][]record{a.answers, a.further} {
		for i := range section {
			section[i].ttl = legacyTTL
		}
	}
	return a
}

// unicast answers one host, which is on the link, with a bound on how often.
func (r *responder) unicast(p *port, in packet, m *message, now time.Time) {
	if now.Sub(r.unicastsSince) > time.Second {
		r.unicasts, r.unicastsSince = 0, now
	}
	if r.unicasts < maxUnicast {
		r.unicasts++
		_ = r.conn.send(p.link, in.from, m.pack())
	}
}
