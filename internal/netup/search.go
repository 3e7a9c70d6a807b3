package netup

import (
	"errors"
	"strings"
)

// Bounds on names: RFC 1035, section 2.3.4.
const (
	maxName     = 255 // bytes on the wire
	maxPointers = 16  // more than any sender needs for one name
)

var errSearchList = errors.New("domain search list does not add up")

// parseSearchList reads the names of DHCP's option 119 (RFC 3397), in which a name
// may end with a pointer into an earlier one (RFC 1035, section 4.1.4). It fails
// where the list does not add up, and drops names that cannot stand in a
// resolv.conf.
func parseSearchList(raw []byte) (out []string, err error) {
	for at := 0; at < len(raw); {
		name, next, err := readName(raw, at)
		if err != nil {
			return nil, err
		}
		out, at = appendDomain(out, name), next
	}
	return out, nil
}

// readName reads one name and returns where the next one begins. Every pointer
// leads to before the place that the last one led to, so that none goes in a
// circle or into the name itself.
func readName(raw []byte, start int) (name string, next int, err error) {
	var labels []string
	floor, size := start, 0
	for at, pointers := start, 0; at < len(raw); {
		switch n := int(raw[at]); {
		case n == 0:
			if pointers == 0 {
				next = at + 1
			}
			return strings.Join(labels, "."), next, nil
		case n <= 63 && at+1+n < len(raw) && size+n < maxName:
			labels = append(labels, string(raw[at+1:at+1+n]))
			at, size = at+1+n, size+1+n
		case n >= 0xc0 && at+1 < len(raw) && pointers < maxPointers:
			to := n&0x3f<<8 | int(raw[at+1])
			if to >= floor {
				return "", 0, errSearchList
			}
			if pointers == 0 {
				next = at + 2
			}
			at, floor = to, to
			pointers++
		default:
			return "", 0, errSearchList
		}
	}
	return "", 0, errSearchList
}
