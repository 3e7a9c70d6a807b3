package steps

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/tor"
)

const torUsage = "SOCKS `socket` of a Tor on this machine, as unix:/path or 127.0.0.1:port: everything is asked through it, and nothing else"

// webClient asks over HTTP: through Tor if its socket is named, else through the
// proxy if there is one.
func webClient(proxy, socks string) (*http.Client, error) {
	if proxy != "" && socks != "" {
		return nil, errors.New("--tor and --proxy exclude each other")
	}
	if socks != "" {
		dial, err := through(socks, "http")
		if err != nil {
			return nil, err
		}
		return fetch.NewClientThrough(nil, dial), nil
	}
	choose, err := fetch.Proxy(proxy)
	if err != nil {
		return nil, fmt.Errorf("--proxy: %w", err)
	}
	return fetch.NewClient(nil, choose), nil
}

// through dials by the Tor with this socket. Purposes never share a way, so that no
// exit can put together what they ask.
func through(socks, purpose string) (fetch.DialFunc, error) {
	dialer, err := tor.NewDialer(socks, "phase "+purpose)
	if err != nil {
		return nil, fmt.Errorf("--tor: %w", err)
	}
	return dialer.DialContext, nil
}
