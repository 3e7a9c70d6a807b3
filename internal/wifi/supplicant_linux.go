package wifi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// scanInterval sets the pause between looks around for a known network, 2 s
// instead of 5: somebody sits in front of the screen and waits.
const scanInterval = "SCAN_INTERVAL 2"

// How long things may take.
const (
	ScanTime  = 15 * time.Second // Scan
	JoinTime  = 30 * time.Second // Join
	startTime = 10 * time.Second // from the start of the program to its first answer
	stopTime  = 3 * time.Second  // until it ends when told to
	pingTime  = 20 * time.Second // between questions whether it still answers
	firstWait = time.Second      // before the first restart; doubled for each
	lastWait  = 30 * time.Second
	longLife  = time.Minute // after which a death is a new story
)

// Config says which card to drive and how. Interface is required.
type Config struct {
	Interface string    // wireless interface, one of [Interfaces]
	Country   string    // ISO 3166-1, two capital letters: what the radio may do here; "": what is allowed everywhere
	Networks  []Network // joined by themselves when in reach, the preferred first
	RandomMAC bool      // a random address for looking around, and another one for each network
	Program   string    // "": /usr/sbin/wpa_supplicant
	RunDir    string    // folder for its socket, made with mode 0700; absolute; "": /run/wifi
	// Start starts the program. Process 1 must know its children, so that it does
	// not reap them itself. nil: os/exec.
	Start Starter
	// Report hears what happens, in order; it must not block. nil: nobody does.
	Report func(Event)
}

// A Starter starts a program and returns what waits for its end, and what ends it
// by force, for a program that does not end when told to. kill may be called at
// any time; after the end it does nothing.
type Starter func(path string, args []string) (wait func() error, kill func(), err error)

// What tells the kinds of [Event].
type What int

// The kinds of events.
const (
	Started   What = iota + 1 // wpa_supplicant runs and answers
	Connected                 // to Event.SSID: the link may be configured now
	Lost                      // the connection to Event.SSID ended; it is looked for again
	Failed                    // Event.Err, an *Error, says why Event.SSID could not be joined
	Ended                     // wpa_supplicant ended, Event.Err says how; it is started again
)

// An Event is something that happened.
type Event struct {
	What      What
	Interface string
	SSID      string // its bytes; show it with [Show]
	Err       error
}

// A Supplicant is one wpa_supplicant on one interface. Its methods may be called
// at the same time.
type Supplicant struct {
	cfg    Config
	pauses func(failures int) time.Duration // before the next start; tests are impatient
	pings  time.Duration

	reportMu sync.Mutex
	turn     chan struct{} // holds one token: Scan and Join take turns

	mu      sync.Mutex
	known   []Network // cfg.Networks and what was joined
	session *session  // nil while there is none
	changed chan struct{}
	trouble error // why there is none
}

// New starts nothing; see [Supplicant.Run].
func New(cfg Config) *Supplicant {
	if cfg.Program == "" {
		cfg.Program = "/usr/sbin/wpa_supplicant"
	}
	if cfg.RunDir == "" {
		cfg.RunDir = "/run/wifi"
	}
	s := &Supplicant{cfg: cfg, pauses: pause, pings: pingTime, turn: make(chan struct{}, 1), changed: make(chan struct{})}
	s.known = append(s.known, cfg.Networks...)
	return s
}

// Format writes no more than the interface: there are passphrases inside.
func (s *Supplicant) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "wpa_supplicant on %s", s.cfg.Interface)
}

// Run keeps wpa_supplicant running until ctx ends, which is no error. Other errors
// are *Error: the program is missing, or the configuration cannot be right.
func (s *Supplicant) Run(ctx context.Context) error {
	if err := s.prepare(); err != nil {
		s.set(nil, err)
		return err
	}
	for failures := 0; ; failures++ {
		born := time.Now()
		err := s.live(ctx)
		s.set(nil, err)
		if ctx.Err() != nil {
			return nil
		}
		if is(err, ProgramMissing) {
			return err
		}
		s.report(Event{What: Ended, Err: err})
		if time.Since(born) > longLife {
			failures = 0
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(s.pauses(failures)):
		}
	}
}

// pause is how long to wait before the next start.
func pause(failures int) time.Duration { return min(firstWait<<min(failures, 10), lastWait) }

// prepare checks the configuration and makes the folder.
func (s *Supplicant) prepare() error {
	if err := s.cfg.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.cfg.RunDir, 0o700); err != nil {
		return &Error{Reason: NoAnswer, Err: err}
	}
	// It may have been there with other rights.
	if err := os.Chmod(s.cfg.RunDir, 0o700); err != nil {
		return &Error{Reason: NoAnswer, Err: err}
	}
	return nil
}

// maxPath is what a socket's address holds (unix(7)), less our suffixes.
const maxPath = 100

func (c *Config) check() error {
	bad := func(format string, args ...any) error {
		return &Error{Reason: NoAnswer, Detail: fmt.Sprintf(format, args...)}
	}
	word := func(s string) bool {
		return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
	}
	switch {
	case len(c.Interface) == 0 || len(c.Interface) > 15 || !word(c.Interface) || strings.Contains(c.Interface, "/") || c.Interface[0] == '-' || c.Interface[0] == '.':
		return bad("%q is no name of an interface", c.Interface)
	case !filepath.IsAbs(c.RunDir) || !word(c.RunDir) || len(c.socket()) > maxPath:
		return bad("%q cannot hold its socket", c.RunDir)
	case c.Country != "" && (len(c.Country) != 2 || strings.Trim(c.Country, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != ""):
		return bad("%q is no country of ISO 3166-1", c.Country)
	}
	for _, n := range c.Networks {
		if err := n.Check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) socket() string { return filepath.Join(c.RunDir, c.Interface) }

// file is the supplicant's configuration: what must hold before it first
// touches the air. Nothing in it is secret.
func (c *Config) file() []byte {
	lines := []string{
		"ctrl_interface=" + c.RunDir,
		"update_config=0", "ap_scan=1", "p2p_disabled=1", // no second role for the card
		"pmf=1",     // protected management frames where the network can
		"sae_pwe=2", // both ways of WPA3 to hash the passphrase
	}
	if c.Country != "" {
		lines = append(lines, "country="+c.Country)
	}
	if c.RandomMAC {
		lines = append(lines, "mac_addr=1", "preassoc_mac_addr=1", "gas_rand_mac_addr=1")
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

// live is one life of the program, until it ends or ctx does. It returns why it
// ended.
func (s *Supplicant) live(ctx context.Context) error {
	p, err := s.start(ctx)
	if err != nil {
		return err
	}
	sess, err := s.meet(ctx, p)
	if err != nil {
		s.stop(nil, p)
		return err
	}
	s.set(sess, nil)
	err = s.attend(ctx, sess, p)
	s.set(nil, err)
	s.stop(sess, p)
	return err
}

// start writes the configuration and starts the program.
func (s *Supplicant) start(ctx context.Context) (*process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := os.Remove(s.cfg.socket()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Reason: NoAnswer, Err: err}
	}
	conf := s.cfg.socket() + ".conf"
	if err := os.WriteFile(conf, s.cfg.file(), 0o600); err != nil {
		return nil, &Error{Reason: NoAnswer, Err: err}
	}
	p, err := launch(s.cfg.Start, s.cfg.Program, []string{"-D", "nl80211", "-i", s.cfg.Interface, "-c", conf})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, &Error{Reason: ProgramMissing, Err: err}
	}
	if err != nil {
		return nil, &Error{Reason: NoAnswer, Err: err}
	}
	return p, nil
}

// meet waits for the program's socket and tells it of the networks.
func (s *Supplicant) meet(ctx context.Context, p *process) (*session, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, errors.New("its socket did not appear in time"))
	defer cancel()
	ctx, died := context.WithCancelCause(ctx)
	defer died(nil)
	go func() {
		select {
		case <-p.ended:
			died(fmt.Errorf("it ended: %w", p.err))
		case <-ctx.Done():
		}
	}()
	sess, err := s.connect(ctx)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		var e *Error
		if !errors.As(err, &e) {
			err = &Error{Reason: NoAnswer, Err: err}
		}
	}
	return sess, err
}

func (s *Supplicant) connect(ctx context.Context) (*session, error) {
	b, err := watch(s.cfg.RunDir, s.cfg.socket())
	if err != nil {
		return nil, err
	}
	defer b.close()
	if err := b.wait(ctx); err != nil {
		return nil, err
	}
	sess, err := open(ctx, s.cfg.Interface, s.cfg.socket(), filepath.Join(s.cfg.RunDir, "."+s.cfg.Interface), s.report)
	if err != nil {
		return nil, err
	}
	if err := s.introduce(ctx, sess); err != nil {
		sess.fail(err)
		return nil, err
	}
	return sess, nil
}

// introduce adds the known networks, the first with the highest priority, and
// lets the supplicant join the best that is in reach.
func (s *Supplicant) introduce(ctx context.Context, sess *session) error {
	s.mu.Lock()
	known := slices.Clone(s.known)
	s.mu.Unlock()
	if err := sess.do(ctx, "SCAN_INTERVAL", scanInterval); err != nil {
		return err
	}
	var ids []int
	for i, n := range known {
		id, err := sess.add(ctx, n, s.cfg.RandomMAC, len(known)-i)
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	s.report(Event{What: Started}) // before anything can be reported of a network
	for _, id := range ids {
		if err := sess.do(ctx, "ENABLE_NETWORK", fmt.Sprintf("ENABLE_NETWORK %d", id)); err != nil {
			return err
		}
	}
	return nil
}

// attend waits for the end of the program, of its answers, or of ctx.
func (s *Supplicant) attend(ctx context.Context, sess *session, p *process) error {
	ping := time.NewTicker(s.pings)
	defer ping.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.ended:
			sess.fail(fmt.Errorf("it ended: %w", p.err)) // or commands would wait for answers
			return &Error{Reason: NoAnswer, Err: sess.cause()}
		case <-sess.over:
			return &Error{Reason: NoAnswer, Err: sess.cause()}
		case <-ping.C:
			sess.probe(ctx, s.pings)
		}
	}
}

// stop ends the program: by its own command, else by force. One that does not end
// even then hangs in the kernel, and is left there.
func (s *Supplicant) stop(sess *session, p *process) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if s.terminate(ctx, sess) {
		select {
		case <-p.ended:
			return
		case <-ctx.Done():
		}
	}
	p.kill()
	select {
	case <-p.ended:
	case <-time.After(stopTime):
	}
}

// terminate tells the program to end, on a connection of its own if need be.
func (s *Supplicant) terminate(ctx context.Context, sess *session) bool {
	if sess != nil {
		_, err := sess.ask(ctx, "TERMINATE")
		sess.fail(errors.New("it was stopped"))
		if err == nil {
			return true
		}
	}
	c, err := dial(s.cfg.socket(), s.cfg.socket()+".stop")
	if err != nil {
		return false
	}
	defer c.close()
	_, err = c.ask(ctx, "TERMINATE")
	return err == nil
}

func (s *Supplicant) report(e Event) {
	if s.cfg.Report == nil {
		return
	}
	s.reportMu.Lock()
	defer s.reportMu.Unlock()
	e.Interface = s.cfg.Interface
	s.cfg.Report(e)
}

// set tells those who wait for a session.
func (s *Supplicant) set(sess *session, trouble error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session, s.trouble = sess, trouble
	close(s.changed)
	s.changed = make(chan struct{})
}
