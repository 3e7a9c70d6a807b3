package wifi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// current waits for a session that works. One that failed stays until its program
// is dealt with; whoever were given it would fail at once, and again.
func (s *Supplicant) current(ctx context.Context) (*session, error) {
	for {
		s.mu.Lock()
		sess, trouble, changed := s.session, s.trouble, s.changed
		s.mu.Unlock()
		if sess != nil && !sess.failed() {
			return sess, nil
		}
		if is(trouble, ProgramMissing) || is(trouble, BadNetwork) {
			return nil, trouble // Run is over
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if trouble == nil {
				trouble = &Error{Reason: NoAnswer, Detail: "it is not running"}
			}
			return nil, trouble
		}
	}
}

// begin waits for its turn and for a session, and gives what ends both.
func (s *Supplicant) begin(ctx context.Context) (*session, func(), error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, &Error{Reason: NoAnswer, Detail: "another network is being joined"}
	}
	sess, err := s.current(ctx)
	if err != nil {
		<-s.turn
		return nil, nil, err
	}
	return sess, func() { <-s.turn }, nil
}

// Scan looks around and lists what is in the air, the strongest first, in at
// most [ScanTime]. Networks that hide their name are not listed. It needs Run to
// run, for whose start it waits.
func (s *Supplicant) Scan(ctx context.Context) ([]AccessPoint, error) {
	bound, cancel := context.WithTimeout(ctx, ScanTime)
	defer cancel()
	sess, end, err := s.begin(bound)
	if err != nil {
		return nil, or(ctx.Err(), err)
	}
	defer end()
	if err := sess.scan(bound); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = &Error{Reason: ScanFailed, Detail: fmt.Sprintf("nothing within %v", ScanTime)}
		}
		return nil, or(ctx.Err(), err)
	}
	// Fast, and worth having although the time for looking is over.
	last, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return sess.air(last)
}

// or is the first error.
func or(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// scan looks around once.
func (s *session) scan(ctx context.Context) error {
	events, done := s.hear()
	defer done()
	answer, err := s.ask(ctx, "SCAN")
	switch {
	case err != nil:
		return err
	case answer == "FAIL-BUSY": // one is under way
	case answer != "OK":
		return s.diagnose(ctx, &Error{Reason: ScanFailed, Detail: "the card refused"})
	}
	for {
		e, err := s.next(ctx, events)
		if err != nil {
			return err
		}
		switch e.name {
		case evScanResults:
			return nil
		case evScanFailed:
			// It is tried again by itself when the field retry says so.
			if e.fields["retry"] != "1" {
				return s.diagnose(ctx, &Error{Reason: ScanFailed, Detail: fmt.Sprintf("error %s", Show(e.fields["ret"]))})
			}
		}
	}
}

// next waits for an event.
func (s *session) next(ctx context.Context, events <-chan event) (event, error) {
	select {
	case e := <-events:
		return e, nil
	case <-s.over:
		return event{}, &Error{Reason: NoAnswer, Err: s.cause()}
	case <-ctx.Done():
		return event{}, ctx.Err()
	}
}

// diagnose asks whether the radio is off, which explains most failures.
func (s *session) diagnose(ctx context.Context, err error) error {
	answer, askErr := s.ask(ctx, "STATUS")
	if askErr == nil && parseFields(answer)["wpa_state"] == "INTERFACE_DISABLED" {
		return &Error{Reason: RadioOff}
	}
	return err
}

// air reads the list of access points.
func (s *session) air(ctx context.Context) ([]AccessPoint, error) {
	var all []bss
	for from := 0; len(all) < maxAir; {
		answer, err := s.ask(ctx, bssCommand(from))
		if err != nil {
			return nil, err
		}
		list, last := parseBSS(answer)
		all = append(all, list...)
		highest := from - 1
		for _, b := range list {
			highest = max(highest, b.id)
		}
		if last || highest < from {
			break
		}
		from = highest + 1
	}
	return sum(all), nil
}

// Join connects to a network, in at most [JoinTime]. When it returns nil, the link
// is up, encrypted unless the network is open, and ready for addresses; and the
// network is kept: it is joined again after a loss. After an error it is forgotten, and
// the other networks are tried again. Errors are *Error, or those of ctx. It
// needs Run to run, for whose start it waits.
func (s *Supplicant) Join(ctx context.Context, n Network) error {
	if err := n.Check(); err != nil {
		return err
	}
	bound, cancel := context.WithTimeout(ctx, JoinTime)
	defer cancel()
	sess, end, err := s.begin(bound)
	if err != nil {
		return or(ctx.Err(), err)
	}
	defer end()
	id, err := sess.add(bound, n, s.cfg.RandomMAC, len(s.cfg.Networks)+1)
	if err != nil {
		return or(ctx.Err(), err)
	}
	sess.setJoining(id)
	defer sess.setJoining(-1)
	err = sess.join(bound, id, n)
	// The list is put in order even when there is no time left.
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	if err == nil {
		s.keep(n)
		return sess.settle(after, id, n.SSID)
	}
	sess.giveUp(after, id)
	return or(ctx.Err(), err)
}

// keep makes a network the preferred one of those that are known.
func (s *Supplicant) keep(n Network) {
	const maxKnown = 16
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = slices.DeleteFunc(s.known, func(k Network) bool { return k.SSID == n.SSID })
	s.known = append([]Network{n}, s.known[:min(len(s.known), maxKnown-1)]...)
}

// join selects a network and follows what happens.
func (s *session) join(ctx context.Context, id int, n Network) error {
	events, done := s.hear()
	defer done()
	if err := s.do(ctx, "SELECT_NETWORK", "SELECT_NETWORK "+strconv.Itoa(id)); err != nil {
		return err
	}
	a := &attempt{id: id, ssid: n.SSID}
	for {
		e, err := s.next(ctx, events)
		if errors.Is(err, context.DeadlineExceeded) {
			return s.diagnoseLate(a)
		}
		if err != nil {
			return err
		}
		over, err := a.see(e)
		if is(err, NotFound) {
			err = s.lookCloser(ctx, n, err)
			over = over || !is(err, NotFound) // it is there, but will never do
		}
		if over {
			return err
		}
	}
}

func (s *session) diagnoseLate(a *attempt) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	return s.diagnose(ctx, a.late())
}

// lookCloser finds out why a network was not found.
func (s *session) lookCloser(ctx context.Context, n Network, err error) error {
	air, airErr := s.air(ctx)
	if airErr != nil {
		return err
	}
	return explain(n, air, err)
}

// settle lets the other networks be used after a loss, without leaving this one,
// and forgets earlier entries of its name.
func (s *session) settle(ctx context.Context, id int, ssid string) error {
	for _, other := range s.others(id) {
		s.mu.Lock()
		same := s.networks[other].SSID == ssid
		s.mu.Unlock()
		var err error
		if same {
			err = s.remove(ctx, other)
		} else {
			err = s.do(ctx, "ENABLE_NETWORK", fmt.Sprintf("ENABLE_NETWORK %d no-connect", other))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// giveUp forgets a network and lets the others be tried again. Failures end the
// session, which begins a new one with the list as it should be.
func (s *session) giveUp(ctx context.Context, id int) {
	err := s.remove(ctx, id)
	for _, other := range s.others(id) {
		if err == nil {
			err = s.do(ctx, "ENABLE_NETWORK", fmt.Sprintf("ENABLE_NETWORK %d", other))
		}
	}
	if err != nil {
		s.fail(err)
	}
}

// A Status is what the supplicant says of itself.
type Status struct {
	Connected bool
	SSID      string // its bytes; show it with [Show]
	Address   string // of the card, as used now
	KeyMgmt   string // "WPA2-PSK", "SAE", "NONE"
	MHz       int
}

// Status asks for the state of the connection.
func (s *Supplicant) Status(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	sess, err := s.current(ctx)
	if err != nil {
		return Status{}, err
	}
	answer, err := sess.ask(ctx, "STATUS")
	if err != nil {
		return Status{}, err
	}
	return parseStatus(answer)
}

func parseStatus(text string) (Status, error) {
	f := parseFields(text)
	st := Status{Connected: f["wpa_state"] == "COMPLETED", Address: Show(f["address"]), KeyMgmt: Show(strings.TrimSpace(f["key_mgmt"]))}
	var err error
	if st.SSID, err = decodeSSID(f["ssid"]); err != nil {
		return Status{}, &Error{Reason: NoAnswer, Detail: "STATUS", Err: err}
	}
	st.MHz, _ = strconv.Atoi(f["freq"])
	return st, nil
}
