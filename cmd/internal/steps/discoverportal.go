package steps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/portal"
	"github.com/phasebased/phase/internal/term"
)

// portalPatience bounds the question for a captive portal.
const portalPatience = 8 * time.Second

// discoverPortal is what was found out about a captive portal.
type discoverPortal struct {
	Found  bool    `json:"found"`           // the network wants a login in a browser first
	URL    string  `json:"url,omitempty"`   // where, as the network says; "" if it does not
	TookMS float64 `json:"took_ms"`         // until this was known
	Error  string  `json:"error,omitempty"` // why nothing is known
}

// askPortal asks beside the search and sends the finding, nil if check is empty.
func askPortal(ctx context.Context, check string, timeout time.Duration) <-chan *discoverPortal {
	known := make(chan *discoverPortal, 1)
	if check == "" {
		known <- nil
		return known
	}
	go func() {
		start := time.Now()
		login, err := portal.Ask(ctx, portal.Config{CheckURL: check, Timeout: min(timeout, portalPatience)})
		p := &discoverPortal{Found: login.Found(), URL: login.URL, TookMS: milliseconds(time.Since(start))}
		if err != nil {
			p.Error = term.Clean(err.Error())
		}
		known <- p
	}()
	return known
}

// tell says it to a person. p may be nil.
func (p *discoverPortal) tell(story io.Writer) {
	if p == nil {
		return
	}
	text := "no sign-in page stands in between"
	switch {
	case p.Error != "":
		text = p.Error
	case p.Found:
		text = wantsLogin(p.URL)
	}
	took := time.Duration(p.TookMS * float64(time.Millisecond))
	fmt.Fprintf(story, "%s: %s\n", brief(took), term.Clean(text))
}

func wantsLogin(url string) string {
	text := "this network wants a login in a browser first"
	if url != "" {
		text += ": " + url
	}
	return text
}

// loginError is a search that found nothing behind a captive portal.
type loginError struct {
	url string
	err error // what the search came to
}

func (e *loginError) Error() string { return wantsLogin(e.url) + " (" + e.err.Error() + ")" }
func (e *loginError) Unwrap() error { return e.err }
func (e *loginError) Code() string  { return "NET-031" }
func (e *loginError) Hint() string {
	return "log in with a browser and search again, or name a provider on this network with --mirror; " +
		"anybody on this network can have named that page, so type no password there that is for another site"
}

// notFound is discover.NotFound with the hint that helps at a command line.
type notFound struct{ *discover.NotFound }

func (e notFound) Hint() string {
	if e.Code() == "DISC-001" {
		return "check the network and the bootstrap peers (-b), or name a server with --mirror http://host:port"
	}
	return "check channel and architecture, or name a server with --mirror http://host:port"
}

// failure says why there is no URL.
func (p *pointers) failure(answers []discover.Answer, login *discoverPortal) error {
	if p.best.raw != nil {
		return errors.New("the pointer names no usable URL of its manifest")
	}
	err := notFound{&discover.NotFound{Query: p.query, Answers: answers}}
	if login != nil && login.Found {
		return &loginError{login.URL, err}
	}
	return err
}
