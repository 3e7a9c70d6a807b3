package netup

import (
	"bytes"
	"net/url"
)

// maxPortal bounds the address of a captive portal: RFC 8910, section 2 wants it
// to fit into one DHCP option.
const maxPortal = 255

// parsePortal reads the address of a captive portal's interface as DHCP servers
// and routers tell it (RFC 8910), padded with zeros or not. Anything but an
// absolute http or https URL of printable ASCII is no portal: so is the URN by
// which a network says that it has none.
func parsePortal(raw []byte) string {
	raw = bytes.TrimRight(raw, "\x00")
	if len(raw) > maxPortal {
		return ""
	}
	for _, c := range raw {
		if c <= ' ' || c > '~' {
			return ""
		}
	}
	u, err := url.Parse(string(raw))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return ""
	}
	return string(raw)
}
