package boot

import (
	"context"
	"time"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/portal"
	"github.com/phasebased/phase/internal/timeline"
)

// portalLimit is how long after its start a search that found nothing waits to
// hear whether a captive portal is the reason.
const portalLimit = 10 * time.Second

// PortalSource finds out whether this network wants a login in a browser before
// it lets anybody through. It bounds its own time and returns soon after ctx has
// ended. An error says that nothing is known.
type PortalSource func(ctx context.Context, network *netup.Network) (portal.Login, error)

// PortalError is a search that found nothing behind a captive portal.
type PortalError struct {
	Login portal.Login
	Err   *NotFoundError // what the search came to
}

func (e *PortalError) Error() string { return wantsLogin(e.Login) }

// Unwrap gives the search's failure.
func (e *PortalError) Unwrap() error { return e.Err }

// Code is the error's number in docs/codes.md.
func (e *PortalError) Code() string { return "NET-031" }

// Hint says what to do next, and what the address of the page is worth.
func (e *PortalError) Hint() string {
	return "Where its operator allows it, log in on another device for this machine's hardware address; " +
		"or use a provider on this network, or another network. " +
		"Anybody on this network can have named that page: type no password there that is for another site."
}

func wantsLogin(l portal.Login) string {
	text := "this network wants a login in a browser first"
	if l.URL != "" {
		text += ": " + l.URL
	}
	return text
}

// askPortal asks for a captive portal beside the search. Only a search that
// found nothing waits for the answer.
func (h *hunt) askPortal(network *netup.Network) {
	ask := h.corridor.Portal
	if ask == nil || network == nil || h.corridor.Config.Mode != bootcfg.Internet {
		h.portalKnown = true
		return
	}
	h.tasks.Go(func() {
		var login portal.Login
		err := guard(func() (err error) { login, err = ask(h.ctx, network); return err })
		tell := false
		h.update(func() {
			h.portalKnown = true
			if err == nil {
				h.login = login
				tell = login.Found() && h.first == "" && !h.ended()
			}
		})
		if tell {
			h.corridor.Observe.Note(timeline.StageDiscover, wantsLogin(login))
		}
	})
}

// blame returns the portal as the reason for a failed search, where there is
// one. A release that was offered and refused with its signature looked at tells
// more: that did not come from a login page.
func (h *hunt) blame(failed *NotFoundError) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.login.Found() || weight(failed.telling()) > 1 {
		return failed
	}
	return &PortalError{Login: h.login, Err: failed}
}
