package wifi

import (
	"context"
	"errors"
)

// Config says which card to drive and how. Interface is required.
type Config struct {
	Interface string    // wireless interface, one of [Interfaces]
	Country   string    // ISO 3166-1, two capital letters: what the radio may do here; "": what is allowed everywhere
	Networks  []Network // joined by themselves when they are in reach, without Join
	RandomMAC bool      // a random address for looking around, and another one for each network
	Program   string    // "": /usr/sbin/wpa_supplicant
	RunDir    string    // folder for its socket, made with mode 0700; "": /run/wifi
	// Start starts the program and returns what waits for its end. Process 1
	// must know its children, so that it does not reap them itself. nil: os/exec.
	Start func(path string, args []string) (wait func() error, err error)
	// Report hears what happens, in order; it must not block. nil: nobody does.
	Report func(Event)
}

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

// A Supplicant is one wpa_supplicant on one interface.
type Supplicant struct{ cfg Config }

// New starts nothing; see [Supplicant.Run].
func New(cfg Config) *Supplicant { return &Supplicant{cfg: cfg} }

// Run keeps wpa_supplicant running until ctx ends, which is no error.
func (s *Supplicant) Run(ctx context.Context) error { return errors.ErrUnsupported }

// Scan looks around and lists what is in the air, the strongest first, in at
// most 15 s. Networks that hide their name are not listed. It needs Run to run, for whose
// start it waits.
func (s *Supplicant) Scan(ctx context.Context) ([]AccessPoint, error) {
	return nil, errors.ErrUnsupported
}

// Join connects to a network, in at most 30 s. When it returns nil, the link is
// encrypted and ready for addresses, and the network is kept: it is joined
// again after a loss. After an error it is forgotten, and the other networks
// are tried again. Errors are *Error, or those of ctx.
func (s *Supplicant) Join(ctx context.Context, n Network) error { return errors.ErrUnsupported }
