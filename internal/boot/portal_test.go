package boot

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/portal"
)

const loginPage = "http://login.hotel.example/"

// servePortal lets the network be asked for a portal, which is answered after d,
// or never if d is negative. It returns how often it was asked.
func (w *world) servePortal(d time.Duration, login portal.Login, err error) *int {
	asked := new(int)
	w.corridor.Portal = func(ctx context.Context, _ *netup.Network) (portal.Login, error) {
		*asked++
		if d < 0 {
			<-ctx.Done()
			return portal.Login{}, ctx.Err()
		}
		select {
		case <-time.After(d):
			return login, err
		case <-ctx.Done():
			return portal.Login{}, ctx.Err()
		}
	}
	return asked
}

func seen() portal.Login { return portal.Login{URL: loginPage, From: portal.FromCheck} }

func TestPortalIsTheReason(t *testing.T) {
	inBubble(t, func(w *world) {
		w.servePortal(300*time.Millisecond, seen(), nil)
		err := w.refused("NET-031") // though all sources have answered at once
		var search *NotFoundError
		if !errors.As(err, &search) || len(search.Answers) != 1 {
			t.Errorf("the search's own account is lost: %v", err)
		}
		var p *PortalError
		if !errors.As(err, &p) || !strings.Contains(p.Error(), loginPage) || !strings.Contains(p.Hint(), "Anybody on this network can have named that page") {
			t.Errorf("got %v", err)
		}
		if !w.toldOf("note this network wants a login in a browser first: " + loginPage) {
			t.Errorf("told %q", w.told)
		}
		if took := time.Since(w.started); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestPortalWithoutAddress(t *testing.T) {
	inBubble(t, func(w *world) {
		w.servePortal(0, portal.Login{From: portal.FromAPI}, nil)
		if err := w.refused("NET-031"); strings.HasSuffix(err.Error(), ": ") {
			t.Error(err)
		}
	})
}

// Neither a portal nor its silence holds up a release, and then nothing is said.
func TestPortalNeverDelaysABoot(t *testing.T) {
	for name, d := range map[string]time.Duration{"silent": -1, "late": 5 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.servePortal(d, seen(), nil)
				w.publish(1, w.keys)
				w.boots(time.Second)
				if w.toldOf("login") {
					t.Errorf("told %q", w.told)
				}
			})
		})
	}
}

func TestPortalAfterTheFirstPointerIsNotNoted(t *testing.T) {
	inBubble(t, func(w *world) {
		w.servePortal(100*time.Millisecond, seen(), nil)
		w.ask(source{name: "quick", pointer: w.publish(1, w.keys)}, silent())
		w.boots(SettleBudget + time.Second)
		if w.toldOf("login") {
			t.Errorf("told %q", w.told)
		}
	})
}

func TestNoPortal(t *testing.T) {
	for name, c := range map[string]struct {
		d     time.Duration
		login portal.Login
		err   error
	}{
		"none":    {0, portal.Login{}, nil},
		"unknown": {0, seen(), errors.New("nobody answers")},
		"silent":  {-1, portal.Login{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.servePortal(c.d, c.login, c.err)
				w.refused("DISC-001")
				if took := time.Since(w.started); took > portalLimit+time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// What was signed, or pretended to be, did not come from a login page.
func TestPortalDoesNotHideARefusal(t *testing.T) {
	inBubble(t, func(w *world) {
		w.servePortal(0, seen(), nil)
		w.publish(9, w.strangers())
		w.refused("VFY-004")
	})
	inBubble(t, func(w *world) { // as a portal answers for every site
		w.servePortal(0, seen(), nil)
		w.ask(source{name: "http://a", pointer: []byte("<html>")})
		w.refused("NET-031")
	})
}

func TestPortalIsAskedForInInternetModeOnly(t *testing.T) {
	for _, mode := range []bootcfg.Mode{bootcfg.Internet, bootcfg.Local, bootcfg.Private} {
		inBubble(t, func(w *world) {
			asked := w.servePortal(0, seen(), nil)
			w.corridor.Config.Mode = mode
			if err := w.corridor.Run(w.Context()); err == nil {
				w.Error("no error")
			}
			if (*asked == 1) != (mode == bootcfg.Internet) {
				t.Errorf("%s: asked %d times", mode, *asked)
			}
		})
	}
}

func TestPortalDefect(t *testing.T) {
	inBubble(t, func(w *world) {
		w.corridor.Portal = func(context.Context, *netup.Network) (portal.Login, error) { panic("x") }
		w.refused("DISC-001")
	})
}
