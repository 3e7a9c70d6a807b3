package discover

import (
	"context"
	"fmt"
	"net/url"
	"strings"
)

// Get fetches at most max bytes of an http or https URL and fails if there are
// more. It bounds its own time and redirects; fetch.Fetcher.Get is one.
type Get func(ctx context.Context, url string, max int64) ([]byte, error)

// HTTP is a mirror or provider as a Source: it reads
// <Base>/<channel>/<arch>/pointer.json.
type HTTP struct {
	// Base is an absolute http or https URL without query or fragment. The
	// mirror's blobs are below it as well, so candidates carry it as a hint.
	Base string
	// Get does the transfer.
	Get Get
}

// Name is the base URL.
func (h HTTP) Name() string { return h.base() }

func (h HTTP) base() string { return strings.TrimRight(h.Base, "/") }

// Search yields the mirror's pointer. Its error is that of Get, or says what is
// wrong with Base.
func (h HTTP) Search(ctx context.Context, q Query, found func(Candidate)) error {
	if err := q.Validate(); err != nil {
		return err
	}
	if err := CheckBase(h.Base); err != nil {
		return err
	}
	doc, err := h.Get(ctx, PointerURL(h.Base, q), MaxPointer)
	if err != nil {
		return fmt.Errorf("get pointer: %w", err)
	}
	found(Candidate{Pointer: doc, Bases: []string{h.base()}, Origin: h.base()})
	return nil
}

// PointerURL is where a provider with this base serves the pointer.
func PointerURL(base string, q Query) string {
	return strings.TrimRight(base, "/") + "/" + q.Channel + "/" + q.Arch + "/pointer.json"
}

// CheckBase refuses anything but an absolute http or https URL without
// credentials, query or fragment, of at most MaxBase bytes.
func CheckBase(base string) error {
	if len(base) > MaxBase {
		return fmt.Errorf("base URL of %d bytes, limit %d", len(base), MaxBase)
	}
	u, err := url.Parse(base)
	if err != nil {
		return fmt.Errorf("base URL: %w", err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("base URL %q: scheme is not http or https", base)
	case u.Hostname() == "":
		return fmt.Errorf("base URL %q: no host", base)
	case u.User != nil:
		return fmt.Errorf("base URL of host %q: credentials are not allowed", u.Host)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(base, "#"):
		return fmt.Errorf("base URL %q: query and fragment are not allowed", base)
	}
	return nil
}
