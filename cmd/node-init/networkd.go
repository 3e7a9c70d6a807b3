package main

import (
	"fmt"
	"strings"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/bootcfg"
)

// networkd writes how a medium's owner wants the network, for a system that has
// an init of its own, in the form that systemd-networkd reads: systemd.network(5),
// systemd.netdev(5), systemd.link(5). It returns the files by name.
//
// Of several files that match a card, networkd goes by the first name. So what was
// said about a card (10-…) comes before what a publisher ships for all, and that
// before DHCP on the cards that nobody said anything about (89-…). Wireless
// networks and proxies are not in there: they hold passwords, and this system is
// somebody else's.
func networkd(n bootcfg.Network, mode bootcfg.Mode) map[string]string {
	r := &networkdRender{files: map[string]string{}, names: map[string]bool{}, mode: mode, linkLocal: n.LinkLocal}
	if n.Off {
		r.files["10-phase.network"] = "[Match]\nName=*\n\n[Link]\nUnmanaged=yes\n"
		return r.files
	}
	if pid1.RandomMAC(n, mode) {
		r.files["10-phase.link"] = "[Match]\nType=ether\n\n[Link]\nMACAddressPolicy=random\nNamePolicy=keep kernel database onboard slot path\n"
	}
	for i, card := range cardsOf(n.Interfaces) {
		r.card(i, card)
	}
	r.files["89-phase.network"] = anyCard + r.dhcp()
	return r.files
}

// anyCard matches every Ethernet card, and no bridge or VLAN made of one.
const anyCard = "[Match]\nType=ether\nKind=!*\n"

// entries are those about one card: with at most one tag each.
type entries []bootcfg.Interface

// cardsOf joins the entries about the same card, in the order of their first.
func cardsOf(list []bootcfg.Interface) (cards []entries) {
	at := map[[2]string]int{}
	for _, e := range list {
		key := [2]string{e.Name, e.MAC}
		i, known := at[key]
		if !known {
			i, at[key] = len(cards), len(cards)
			cards = append(cards, nil)
		}
		cards[i] = append(cards[i], e)
	}
	return cards
}

type networkdRender struct {
	files     map[string]string
	names     map[string]bool // of VLANs
	mode      bootcfg.Mode
	linkLocal bool
}

// card writes the files of one card and its VLANs. A card about which there are
// entries with a tag only is not used without one.
func (r *networkdRender) card(i int, card entries) {
	untagged := "\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
	vlans, tagged := "", false
	for _, e := range card {
		if e.VLAN == 0 {
			untagged = r.addresses(e)
			continue
		}
		name := r.vlanName(e.Name, e.VLAN)
		base := fmt.Sprintf("10-phase-%02d-vlan%d", i, e.VLAN)
		r.files[base+".netdev"] = fmt.Sprintf("[NetDev]\nName=%s\nKind=vlan\n\n[VLAN]\nId=%d\n", name, e.VLAN)
		r.files[base+".network"] = "[Match]\nName=" + name + "\n" + r.addresses(e)
		vlans, tagged = vlans+"VLAN="+name+"\n", true
	}
	if tagged {
		untagged = strings.Replace(untagged, "\n[Network]\n", "\n[Network]\n"+vlans, 1)
	}
	r.files[fmt.Sprintf("10-phase-%02d.network", i)] = match(card[0]) + untagged
}

func match(e bootcfg.Interface) string {
	switch {
	case e.Name == "" && e.MAC == "":
		return anyCard
	case e.MAC == "":
		return "[Match]\nName=" + e.Name + "\n"
	case e.Name == "":
		return "[Match]\nPermanentMACAddress=" + e.MAC + "\n" // VLANs have none
	}
	return "[Match]\nName=" + e.Name + "\nPermanentMACAddress=" + e.MAC + "\n"
}

// maxLinkName is the longest name of a network interface (IFNAMSIZ - 1).
const maxLinkName = 15

// vlanName is a name that no other VLAN has: "eth0.42" where the card is known by
// its name.
func (r *networkdRender) vlanName(card string, id int) string {
	name := fmt.Sprintf("%s.%d", card, id)
	if card == "" || len(name) > maxLinkName {
		name = fmt.Sprintf("vlan%d", id)
	}
	for n := 1; r.names[name]; n++ {
		name = fmt.Sprintf("vlan%d.%d", id, n)
	}
	r.names[name] = true
	return name
}

// addresses are the sections that say how one network is used.
func (r *networkdRender) addresses(e bootcfg.Interface) string {
	if e.Off {
		return "\n[Link]\nUnmanaged=yes\n"
	}
	if !e.Address.IsValid() {
		return r.dhcp()
	}
	text := "\n[Network]\nAddress=" + e.Address.String() + "\n"
	if e.Gateway.IsValid() {
		text += "Gateway=" + e.Gateway.String() + "\n"
	}
	for _, server := range e.DNS {
		text += "DNS=" + server.String() + "\n"
	}
	return text
}

// dhcp asks as the seed did: by the hardware address alone, so that the lease
// stays the same; in Private mode with nothing that tells machines apart.
func (r *networkdRender) dhcp() string {
	text := "\n[Network]\nDHCP=yes\n"
	if r.linkLocal && r.mode == bootcfg.Local {
		text += "LinkLocalAddressing=yes\n"
	}
	if r.mode == bootcfg.Private {
		return text + "\n[DHCPv4]\nAnonymize=yes\n"
	}
	return text + "\n[DHCPv4]\nClientIdentifier=mac\nSendHostname=no\n"
}
