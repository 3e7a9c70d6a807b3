package portal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"

	"github.com/phasebased/phase/internal/strictjson"
)

const (
	apiType = "application/captive+json"
	// unrestricted is what a network names in place of an API to say that it
	// has no portal (RFC 8910, section 2).
	unrestricted = "urn:ietf:params:capport:unrestricted"
	// maxAPI bounds the API's URI in bytes; DHCPv4 options hold 255.
	maxAPI = 2 << 10
)

// askAPI asks the network itself (RFC 8908).
func askAPI(ctx context.Context, way http.RoundTripper, api string) answer {
	switch api {
	case "":
		return answer{err: ErrNotAsked}
	case unrestricted:
		return answer{}
	}
	u, err := url.Parse(api)
	if err != nil || len(api) > maxAPI || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return answer{err: fmt.Errorf("%w: the API's address is not an https URL", ErrURL)}
	}
	resp, err := get(ctx, way, u, apiType)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	raw, err := readAPI(resp)
	if err != nil {
		return answer{err: err}
	}
	return parseAPI(raw)
}

// readAPI checks an answer's head and returns its body.
func readAPI(resp *http.Response) ([]byte, error) {
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: HTTP status %d", ErrUnexpected, resp.StatusCode)
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != apiType {
		return nil, fmt.Errorf("%w: not %s", ErrUnexpected, apiType)
	}
	if resp.Header.Get("Content-Encoding") != "" {
		return nil, fmt.Errorf("%w: compressed", ErrUnexpected)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("the answer ended early: %w", err)
	}
	if len(raw) > maxAnswer {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrUnexpected, maxAnswer)
	}
	return raw, nil
}

// parseAPI reads the document of RFC 8908, section 5. Members that it does not
// know are left alone, as that section wants.
func parseAPI(raw []byte) answer {
	var state struct {
		Captive *bool  `json:"captive"`
		Portal  string `json:"user-portal-url"`
	}
	if err := strictjson.Unmarshal(raw, &state, strictjson.Limits{Bytes: maxAnswer, Depth: 8}); err != nil {
		return answer{err: fmt.Errorf("%w: %w", ErrUnexpected, err)}
	}
	if state.Captive == nil {
		return answer{err: fmt.Errorf("%w: %w", ErrUnexpected, errNoState)}
	}
	if !*state.Captive {
		return answer{}
	}
	return answer{captive: true, url: shown(state.Portal, nil)}
}

var errNoState = errors.New("it does not say whether there is a portal")
