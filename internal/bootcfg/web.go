package bootcfg

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

const proxyNames = "off, or http://[<user>:<password>@]<host>:<port>"

// ParseProvider checks the base URL of an artifact server as phase.provider does,
// and refuses one that is not certainly on the local network where the mode
// stays there. It returns the URL without trailing slashes.
func ParseProvider(s string, mode Mode) (string, error) {
	u, err := checkProvider(s)
	if err == nil && !mode.MayUseWAN() && !isLocalURL(u) {
		err = fmt.Errorf("%s mode stays on the local network: an address there is needed, or a name ending in .local", mode)
	}
	if err != nil {
		return "", err
	}
	return u, nil
}

// ParseProxy checks the URL of an HTTP proxy. Its errors show nothing of it, as
// it may hold a password.
func ParseProxy(s string) (Proxy, error) {
	if len(s) > maxURL {
		return "", errors.New("longer than 2048 bytes")
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return "", errors.New("neither blanks nor other than ASCII characters are allowed")
		}
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "", errors.New("not a URL (special characters in a password are written %40 and the like)")
	case u.Scheme != "http":
		return "", errors.New("it begins with http://; sites with https are asked through the same proxy")
	case u.Opaque != "" || !isProxyHost(u.Hostname()) || !isPort(u.Port()):
		return "", errors.New("a host and a port are needed")
	case u.User != nil && (u.User.Username() == "" || strings.Contains(u.User.Username(), ":")):
		return "", errors.New("the user name is empty, or holds a colon")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#") || strings.Trim(u.Path, "/") != "":
		return "", errors.New("neither path, query nor fragment is allowed")
	}
	return Proxy(strings.TrimRight(s, "/")), nil
}

func isProxyHost(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast()
	}
	return isHostName(host)
}

// checkPortal accepts the URL that captive portals are looked for with. It is
// without TLS: a portal answers in the site's place, which is what is looked for.
func checkPortal(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	switch {
	case len(s) > maxURL:
		return errors.New("longer than 2048 bytes")
	case err != nil || u.Opaque != "":
		return errors.New("not a URL")
	case u.Scheme != "http":
		return errors.New("only http can tell a portal")
	case !isProxyHost(u.Hostname()) || u.Port() != "" && !isPort(u.Port()):
		return errors.New("no host")
	case u.User != nil || strings.Contains(s, "#"):
		return errors.New("neither user name nor fragment is allowed")
	}
	return nil
}
