package wifi

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxAir bounds the list of access points. A stadium has some hundreds.
const maxAir = 1024

// A bss is one access point as the supplicant lists it.
type bss struct {
	id       int
	ssid     string
	level    int
	security string
}

// bssCommand asks for the access points from an id on. SCAN_RESULTS would be
// simpler, but is cut off at 4 KiB, some fifty of them; this is as well, and
// can be asked again. The mask is id, level, flags, name and delimiters
// (wpa_ctrl.h, WPA_BSS_MASK_*).
func bssCommand(from int) string {
	return fmt.Sprintf("BSS RANGE=%d- MASK=0x%x", from, 1|1<<7|1<<11|1<<12|1<<17)
}

// Delimiters of the answer: after each entry, and after the last of all.
const (
	bssNext = "===="
	bssLast = "####"
)

// parseBSS reads one answer to bssCommand. An access point whose entry makes no sense is
// left out: anybody may send one. last tells that there are no more.
func parseBSS(text string) (list []bss, last bool) {
	var entry strings.Builder
	for line := range strings.Lines(text) {
		switch line = strings.TrimSuffix(line, "\n"); line {
		case bssNext, bssLast:
			if b, err := parseEntry(entry.String()); err == nil && len(list) < maxAir {
				list = append(list, b)
			}
			entry.Reset()
			last = line == bssLast
		default:
			entry.WriteString(line + "\n")
		}
	}
	return list, last
}

func parseEntry(text string) (bss, error) {
	fields := parseFields(text)
	b := bss{security: security(fields["flags"])}
	var err error
	if b.id, err = strconv.Atoi(fields["id"]); err != nil || b.id < 0 {
		return b, fmt.Errorf("no id")
	}
	if b.level, err = strconv.Atoi(fields["level"]); err != nil || b.level < -200 || b.level > 100 {
		return b, fmt.Errorf("no level")
	}
	b.ssid, err = decodeSSID(fields["ssid"])
	return b, err
}

// names of wpa_supplicant that hold its own separator.
func oneWord() *strings.Replacer {
	return strings.NewReplacer("-SHA", "_SHA", "EAP-SUITE-B-192", "EAP_SUITE_B_192", "EAP-SUITE-B", "EAP_SUITE_B")
}

// security sums up flags as "[WPA2-PSK+SAE-CCMP][WPS][ESS]". Of several ways to
// log in one that can be gone is enough.
func security(flags string) string {
	var psk, sae bool
	var others []string
	for flag := range strings.SplitSeq(strings.Trim(flags, "[]"), "][") {
		proto, rest, _ := strings.Cut(oneWord().Replace(flag), "-")
		switch proto {
		case "WEP", "WPA", "OSEN":
			others = append(others, proto)
		case "IBSS", "MESH", "PBSS":
			others = append(others, "no access point")
		case "WPA2", "RSN":
			keys, _, _ := strings.Cut(rest, "-")
			p, s, other := keyManagement(keys)
			psk, sae, others = psk || p, sae || s, append(others, other...)
		}
	}
	switch {
	case psk && sae:
		return "WPA2/WPA3"
	case psk:
		return "WPA2"
	case sae:
		return "WPA3"
	case len(others) > 0:
		return unsupported + strings.Join(slices.Compact(others), ", ")
	}
	return "open"
}

// keyManagement reads "PSK+SAE" and the like.
func keyManagement(keys string) (psk, sae bool, others []string) {
	for key := range strings.SplitSeq(keys, "+") {
		switch {
		case key == "PSK" || key == "PSK_SHA256" || key == "FT/PSK":
			psk = true
		case key == "SAE" || key == "FT/SAE":
			sae = true
		case strings.Contains(key, "EAP"):
			others = append(others, "802.1X (user name and password)")
		case key == "OWE":
			others = append(others, "OWE (enhanced open)")
		default:
			others = append(others, "unknown")
		}
	}
	return psk, sae, others
}

// sum makes the list for people: named networks, the strongest of each.
func sum(air []bss) []AccessPoint {
	best := map[AccessPoint]int{}
	for _, b := range air {
		if strings.Trim(b.ssid, "\x00") == "" {
			continue // hides its name
		}
		key := AccessPoint{SSID: b.ssid, Security: b.security}
		if level, ok := best[key]; !ok || b.level > level {
			best[key] = b.level
		}
	}
	list := make([]AccessPoint, 0, len(best))
	for a, level := range best {
		a.Signal = level
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b AccessPoint) int {
		return cmp.Or(cmp.Compare(b.Signal, a.Signal), cmp.Compare(a.SSID, b.SSID), cmp.Compare(a.Security, b.Security))
	})
	return list
}
