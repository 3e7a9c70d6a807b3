package wifi

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A session is one life of wpa_supplicant: its two connections and what it
// calls our networks.
type session struct {
	iface  string
	report func(Event)

	cmdMu sync.Mutex // one command at a time
	cmd   *control
	ev    *control

	mu       sync.Mutex
	networks map[int]Network     // by the supplicant's number
	joining  int                 // the number that Join reports on, or -1
	linked   *string             // name of the network connected to, or nil
	ears     map[chan event]bool // who listens
	err      error               // why it is over

	over chan struct{} // closed when a connection failed
	once sync.Once
}

// open connects to a supplicant whose socket exists.
func open(ctx context.Context, iface, socket, local string, report func(Event)) (*session, error) {
	cmd, err := dial(socket, local+".cmd")
	if err != nil {
		return nil, err
	}
	ev, err := dial(socket, local+".ev")
	if err != nil {
		cmd.close()
		return nil, err
	}
	s := &session{
		iface: iface, report: report, cmd: cmd, ev: ev, networks: map[int]Network{}, joining: -1,
		ears: map[chan event]bool{}, over: make(chan struct{}),
	}
	answer, err := ev.ask(ctx, "ATTACH")
	if err == nil && strings.TrimSpace(answer) != "OK" {
		err = errors.New("it will not tell what happens")
	}
	if err == nil {
		err = ev.forever()
	}
	if err != nil {
		s.fail(err)
		return nil, err
	}
	go s.listen()
	return s, nil
}

// fail ends the session.
func (s *session) fail(err error) {
	s.once.Do(func() {
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
		s.cmd.close()
		s.ev.close()
		close(s.over)
	})
}

func (s *session) failed() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

func (s *session) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// listen hands events on until the session ends.
func (s *session) listen() {
	for {
		text, err := s.ev.read()
		if err != nil {
			s.fail(err)
			return
		}
		if strings.HasPrefix(text, "FAIL") {
			s.fail(errors.New("it stopped telling what happens"))
			return
		}
		if e, ok := parseEvent(text); ok {
			s.note(e)
		}
	}
}

// probe asks on both connections whether they still work: a supplicant that
// could not get rid of its events for a while forgets who wants them. LEVEL is
// what fails then; 3 is the level that it begins with.
func (s *session) probe(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := s.ev.tell("LEVEL 3"); err != nil {
		s.fail(plain(err))
		return
	}
	if answer, err := s.ask(ctx, "PING"); err != nil || answer != "PONG" {
		s.fail(errors.Join(errors.New("it does not answer PING"), err))
	}
}

// note tells whoever listens, and reports what changed.
func (s *session) note(e event) {
	s.mu.Lock()
	for ear := range s.ears {
		select {
		case ear <- e:
		default: // a flood; whoever listens is bounded in time as well
		}
	}
	id := e.number("id")
	out := Event{Interface: s.iface, SSID: s.networks[id].SSID}
	switch {
	case e.name == evConnected:
		out.What, s.linked = Connected, &out.SSID
	case e.name == evDisconnected && s.linked != nil:
		out.What, out.SSID, s.linked = Lost, *s.linked, nil
	case e.name == evDisabled && id != s.joining && out.SSID != "":
		out.What, out.Err = Failed, refusal(out.SSID, e)
	}
	s.mu.Unlock()
	if out.What != 0 {
		s.report(out)
	}
}

// hear returns a channel of events from now on.
func (s *session) hear() (events <-chan event, done func()) {
	ear := make(chan event, 256)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ears[ear] = true
	return ear, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.ears, ear)
	}
}

// ask sends a command. A connection that failed ends the session.
func (s *session) ask(ctx context.Context, command string) (string, error) {
	s.cmdMu.Lock()
	defer s.cmdMu.Unlock()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	answer, err := s.cmd.ask(ctx, command)
	if err != nil {
		s.fail(err)
		verb, _, _ := strings.Cut(command, " ") // the rest may be secret
		return "", &Error{Reason: NoAnswer, Detail: verb, Err: err}
	}
	return strings.TrimSuffix(answer, "\n"), nil
}

// do sends a command whose answer is OK. what names it in errors.
func (s *session) do(ctx context.Context, what, command string) error {
	answer, err := s.ask(ctx, command)
	if err == nil && answer != "OK" {
		err = &Error{Reason: NoAnswer, Detail: fmt.Sprintf("it answered %q to %s", Show(answer[:min(len(answer), 40)]), what)}
	}
	return err
}

// add tells the supplicant of a network, which stays disabled, and returns its
// number.
func (s *session) add(ctx context.Context, n Network, random bool, priority int) (int, error) {
	answer, err := s.ask(ctx, "ADD_NETWORK")
	if err != nil {
		return -1, err
	}
	id, err := strconv.Atoi(answer)
	if err != nil || id < 0 {
		return -1, &Error{Reason: NoAnswer, Detail: fmt.Sprintf("it answered %q to ADD_NETWORK", Show(answer[:min(len(answer), 40)]))}
	}
	for _, v := range settings(n, random, priority) {
		if err := s.do(ctx, "SET_NETWORK "+v.name, fmt.Sprintf("SET_NETWORK %d %s %s", id, v.name, v.value)); err != nil {
			return -1, errors.Join(err, s.remove(ctx, id))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.networks[id] = n
	return id, nil
}

func (s *session) remove(ctx context.Context, id int) error {
	s.mu.Lock()
	delete(s.networks, id)
	s.mu.Unlock()
	return s.do(ctx, "REMOVE_NETWORK", fmt.Sprintf("REMOVE_NETWORK %d", id))
}

// others are the numbers of all networks but one.
func (s *session) others(id int) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []int
	for other := range s.networks {
		if other != id {
			ids = append(ids, other)
		}
	}
	return ids
}

func (s *session) setJoining(id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joining = id
}

// A setting is a line of a network block in wpa_supplicant.conf.
type setting struct{ name, value string }

// settings are how a network is described to the supplicant. The name goes as
// hex, so that no byte of it can mean anything. The passphrase has been checked: it has
// no control characters, and quotes inside it are taken as they are, because the
// supplicant looks for the last one.
func settings(n Network, random bool, priority int) []setting {
	list := []setting{{"ssid", hex.EncodeToString([]byte(n.SSID))}}
	switch {
	case n.Passphrase == "":
		list = append(list, setting{"key_mgmt", "NONE"})
	case n.isKey():
		// SAE begins from the passphrase, which cannot be had from the key.
		list = append(list, setting{"key_mgmt", "WPA-PSK WPA-PSK-SHA256"}, setting{"ieee80211w", "1"},
			setting{"proto", "RSN"}, setting{"psk", n.Passphrase})
	default:
		list = append(list, setting{"key_mgmt", "WPA-PSK WPA-PSK-SHA256 SAE"}, setting{"ieee80211w", "1"},
			setting{"proto", "RSN"}, setting{"psk", `"` + n.Passphrase + `"`}, setting{"sae_password", `"` + n.Passphrase + `"`})
	}
	if n.Hidden {
		list = append(list, setting{"scan_ssid", "1"})
	}
	if random {
		list = append(list, setting{"mac_addr", "1"})
	}
	return append(list, setting{"priority", strconv.Itoa(priority)})
}
