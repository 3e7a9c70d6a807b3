package tor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/phasebased/phase/internal/lines"
)

// Program is where media that carry Tor have it.
const Program = "/usr/bin/tor"

// How long things may take.
const (
	// Patience is how long Tor may stand still on its way into its network. A
	// slow network needs half a minute for the largest step, which is the list
	// of all relays.
	Patience = 90 * time.Second
	// clockPatience is the same once Tor has said that the clock is wrong. It
	// goes on nevertheless, and sometimes gets there.
	clockPatience = 20 * time.Second

	stopTime  = 5 * time.Second // until Tor ends when told to
	firstWait = time.Second     // before the first restart; doubled for each
	lastWait  = 30 * time.Second
	longLife  = time.Minute // after which a death is a new story
)

// Config says how Tor runs. Dir and Start are required.
type Config struct {
	// Program is Tor; "": Program.
	Program string
	// Dir is the folder of its configuration, data and socket, made with mode 0700
	// for UID. On a file system in memory nothing of it stays.
	Dir string
	// UID is the user that Tor runs as, and its group; 0: that of this process.
	UID uint32
	// Bridges are plain bridges to enter by, <address>:<port> <fingerprint>, at
	// most MaxBridges.
	Bridges []string
	// Extra are further lines of Tor's configuration, at most MaxExtra. They may choose
	// relays and how those are reached, and nothing else; see CheckExtra.
	Extra []string
	// Patience replaces the constant, if above 0.
	Patience time.Duration
	// Start starts the program.
	Start Starter
	// Report hears what happens, in order; it must not block. nil: nobody does.
	Report func(Event)
	// Log receives every line that Tor logs; nil discards them.
	Log *slog.Logger
}

func (c *Config) socket() string { return filepath.Join(c.Dir, "socks") }
func (c *Config) data() string   { return filepath.Join(c.Dir, "data") }

// Socks is where the Tor of a folder answers, as NewDialer takes it.
func Socks(dir string) string { return "unix:" + filepath.Join(dir, "socks") }

// A Command is what a Starter starts: a program with its arguments, as the user and
// group UID (0: that of this process), whose standard output and error are Output.
type Command struct {
	Path   string
	Args   []string
	UID    uint32
	Output *os.File
}

// A Starter starts a program and returns what waits for its end, and what sends it
// a signal, which after the end does nothing.
type Starter func(Command) (wait func() error, signal func(syscall.Signal), err error)

// What tells the kinds of Event.
type What int

// The kinds of events.
const (
	Advanced      What = iota + 1 // Event.Progress is further than before
	Warned                        // Tor warns of something: Event.Text
	WarnedOfClock                 // that a clock is wrong, most likely this machine's: Event.Text
	Ended                         // Tor ended, Event.Err says how; it is started again
)

// An Event is something that happened.
type Event struct {
	What     What
	Progress Progress
	Text     string
	Err      error
}

// A Client is one Tor. Its methods may be called at the same time.
type Client struct {
	cfg Config

	mu       sync.Mutex
	progress Progress
	moved    time.Time // when progress was made last
	clock    string    // what Tor said of the clock; "" nothing
	problem  string    // what Tor said of its last failure
	fatal    error     // why Tor will never run
	changed  chan struct{}
}

// New starts nothing; see Run.
func New(cfg Config) *Client {
	if cfg.Program == "" {
		cfg.Program = Program
	}
	if cfg.Patience <= 0 {
		cfg.Patience = Patience
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{cfg: cfg, changed: make(chan struct{})}
}

// Format writes no more than the folder: there are bridges inside.
func (c *Client) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "Tor in %s", c.cfg.Dir) }

// Check says whether Tor is there and its configuration can be used, without
// starting anything. Its errors are *Error.
func (c *Client) Check() error {
	info, err := os.Stat(c.cfg.Program)
	if err != nil {
		return &Error{Reason: ProgramMissing, Err: err}
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return &Error{Reason: ProgramMissing, Detail: c.cfg.Program + " is no program"}
	}
	return c.cfg.check()
}

// Run keeps Tor running until ctx ends, which is no error; then Tor has ended, too.
// Other errors are *Error: Tor cannot be started, or refuses its configuration.
func (c *Client) Run(ctx context.Context) error {
	err := c.Check()
	for failures := 0; err == nil; failures++ {
		born := time.Now()
		ended := c.live(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if Is(ended, ProgramMissing) || Is(ended, BadConfig) {
			err = ended
			break
		}
		c.report(Event{What: Ended, Err: ended})
		if time.Since(born) > longLife {
			failures = 0
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(firstWait<<min(failures, 10), lastWait)):
		}
	}
	c.update(func() { c.fatal = err })
	return err
}

// live is one life of Tor, until it ends or ctx does. It returns why it ended.
func (c *Client) live(ctx context.Context) error {
	if err := c.prepare(); err != nil {
		return err
	}
	logs, output, err := os.Pipe()
	if err != nil {
		return &Error{Reason: NotConnected, Err: err}
	}
	defer logs.Close()
	c.update(func() { c.progress, c.moved, c.clock, c.problem = Progress{}, time.Now(), "", "" })
	wait, signal, err := c.cfg.Start(Command{
		Path: c.cfg.Program, Args: []string{"-f", c.file("torrc"), "--defaults-torrc", c.file("defaults"), "--hush"},
		UID: c.cfg.UID, Output: output,
	})
	output.Close()
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return &Error{Reason: ProgramMissing, Err: err}
	}
	if err != nil {
		return &Error{Reason: NotConnected, Err: err}
	}
	told := &story{client: c}
	read := make(chan error, 1)
	go func() { read <- lines.Read(logs, maxLogLine, func(line []byte) { told.take(string(line)) }) }()
	err = attend(ctx, wait, signal)
	c.update(func() { c.progress = Progress{} }) // its socket answers nobody
	<-read                                       // Tor has no children: its log has ended
	if told.config != "" && ctx.Err() == nil {
		return &Error{Reason: BadConfig, Detail: told.config}
	}
	return fmt.Errorf("the program tor ended: %w", err)
}

// attend waits for the end of a program, which it brings about when ctx ends.
func attend(ctx context.Context, wait func() error, signal func(syscall.Signal)) error {
	ended := make(chan error, 1)
	go func() {
		err := wait()
		if err == nil {
			err = errors.New("by itself")
		}
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	signal(syscall.SIGTERM)
	select {
	case err := <-ended:
		return err
	case <-time.After(stopTime):
		signal(syscall.SIGKILL)
		return <-ended
	}
}

func (c *Client) file(name string) string { return filepath.Join(c.cfg.Dir, name) }

// prepare makes the folder and writes the configuration.
func (c *Client) prepare() error {
	bad := func(err error) error { return &Error{Reason: BadConfig, Err: err} }
	if err := os.MkdirAll(c.cfg.Dir, 0o700); err != nil {
		return bad(err)
	}
	// It may have been there with other rights.
	if err := os.Chmod(c.cfg.Dir, 0o700); err != nil {
		return bad(err)
	}
	if err := os.Remove(c.cfg.socket()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return bad(err)
	}
	for name, content := range map[string][]byte{"torrc": c.cfg.torrc(), "defaults": nil} {
		if err := os.WriteFile(c.file(name), content, 0o600); err != nil {
			return bad(err)
		}
		if err := c.give(c.file(name)); err != nil {
			return bad(err)
		}
	}
	if err := c.give(c.cfg.Dir); err != nil {
		return bad(err)
	}
	return nil
}

// give makes Tor's user the owner of a file or folder.
func (c *Client) give(path string) error {
	if c.cfg.UID == 0 {
		return nil
	}
	return os.Lchown(path, int(c.cfg.UID), int(c.cfg.UID))
}

// story is what one Tor has said. Only the goroutine that follows the log uses it
// until that has ended.
type story struct {
	client *Client
	config string // why the configuration was refused
}

func (s *story) take(line string) {
	c := s.client
	r, ok := parseRecord(line)
	if !ok {
		c.cfg.Log.Debug("tor", "line", Show(line))
		return
	}
	c.cfg.Log.Info("tor", "severity", r.severity, "line", Show(r.text))
	if p, ok := parseProgress(r.text); ok {
		c.advance(p)
		return
	}
	if r.severity == "err" || r.severity == "warn" {
		s.warn(r)
	}
}

// warn notes what explains a failure, and tells of the rest.
func (s *story) warn(r record) {
	c := s.client
	reason, stuck := r.problem()
	started := true
	c.update(func() {
		started = c.progress.Tag != ""
		if stuck {
			c.problem = reason
		}
		if r.isClock() {
			c.clock = Show(r.text)
		}
	})
	if !started && s.config == "" && (r.severity == "err" || isRefusal(r.text)) {
		s.config = Show(r.text)
	}
	switch {
	case stuck: // it may name a bridge
	case r.isClock():
		c.report(Event{What: WarnedOfClock, Text: Show(r.text)})
	default:
		c.report(Event{What: Warned, Text: Show(r.text)})
	}
}

func (c *Client) advance(p Progress) {
	further := false
	c.update(func() {
		if further = p.Percent > c.progress.Percent || c.progress.Tag == ""; further {
			c.progress, c.moved, c.problem = p, time.Now(), ""
		}
	})
	if further {
		c.report(Event{What: Advanced, Progress: p})
	}
}

func (c *Client) report(e Event) {
	if c.cfg.Report != nil {
		c.cfg.Report(e)
	}
}

// update changes the state and tells everybody who waits.
func (c *Client) update(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
}

// Wait waits until Tor can be used. It fails with an *Error when Tor will not run,
// or stands still for too long, and with ctx. Run must be running.
func (c *Client) Wait(ctx context.Context) error {
	c.update(func() { c.moved = time.Now() })
	for {
		c.mu.Lock()
		ready, fatal, changed := c.progress.Percent == 100, c.fatal, c.changed
		left := c.limit() - time.Since(c.moved)
		failure := c.failure()
		c.mu.Unlock()
		switch {
		case ready:
			return nil
		case fatal != nil:
			return fatal
		case left <= 0:
			return failure
		}
		timer := time.NewTimer(left)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		timer.Stop()
	}
}

// limit is how long Tor may stand still; c.mu is held.
func (c *Client) limit() time.Duration {
	if c.clock != "" {
		return min(clockPatience, c.cfg.Patience)
	}
	return c.cfg.Patience
}

// failure is why Tor is not ready; c.mu is held.
func (c *Client) failure() error {
	detail := fmt.Sprintf("it stopped at %d%%", c.progress.Percent)
	if c.progress.Summary != "" {
		detail += " (" + c.progress.Summary + ")"
	}
	if c.problem != "" {
		detail += ": " + c.problem
	}
	switch {
	case c.clock != "":
		return &Error{Reason: WrongClock, Detail: c.clock}
	case len(c.cfg.Bridges) > 0 && c.progress.Percent < onehop:
		return &Error{Reason: NoBridge, Detail: detail}
	}
	return &Error{Reason: NotConnected, Detail: detail}
}

// onehop is how far Tor is when a relay or a bridge has answered (BOOTSTRAP_STATUS
// in tor's bootstrap-spec: onehop_create, 20; before, 14 is handshake_done).
const onehop = 14
