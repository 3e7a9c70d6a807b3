package netup

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
)

// arpPacket is an ARP packet for IPv4 over Ethernet (RFC 826).
type arpPacket struct {
	op                 uint16 // 1 request, 2 reply
	senderMAC          [6]byte
	senderIP, targetIP netip.Addr
}

const (
	arpFrameLen   = 14 + 28
	etherTypeARP  = 0x0806
	etherTypeIPv4 = 0x0800
)

// frame returns the packet as a broadcast Ethernet frame. The target
// hardware address stays zero, as in every probe and announcement.
func (p arpPacket) frame() []byte {
	b := make([]byte, arpFrameLen)
	copy(b, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	copy(b[6:], p.senderMAC[:])
	binary.BigEndian.PutUint16(b[12:], etherTypeARP)
	a := b[14:]
	binary.BigEndian.PutUint16(a[0:], 1) // Ethernet
	binary.BigEndian.PutUint16(a[2:], etherTypeIPv4)
	a[4], a[5] = 6, 4
	binary.BigEndian.PutUint16(a[6:], p.op)
	copy(a[8:], p.senderMAC[:])
	sender, target := p.senderIP.As4(), p.targetIP.As4()
	copy(a[14:], sender[:])
	copy(a[24:], target[:])
	return b
}

// parseARP reads an Ethernet frame; trailing padding is normal.
func parseARP(b []byte) (arpPacket, error) {
	var p arpPacket
	if len(b) < arpFrameLen || binary.BigEndian.Uint16(b[12:]) != etherTypeARP {
		return p, errors.New("not an ARP frame")
	}
	a := b[14:]
	if binary.BigEndian.Uint16(a) != 1 || binary.BigEndian.Uint16(a[2:]) != etherTypeIPv4 || a[4] != 6 || a[5] != 4 {
		return p, errors.New("not ARP for IPv4 over Ethernet")
	}
	p.op = binary.BigEndian.Uint16(a[6:])
	copy(p.senderMAC[:], a[8:])
	p.senderIP = netip.AddrFrom4([4]byte(a[14:18]))
	p.targetIP = netip.AddrFrom4([4]byte(a[24:28]))
	return p, nil
}

// uses reports whether p means that another machine has addr.
func (p arpPacket) uses(addr netip.Addr, own [6]byte) bool {
	return p.senderMAC != own && p.senderIP == addr
}

// wants reports whether another machine has addr or is probing for it: a
// conflict for whoever is probing as well (RFC 3927, section 2.2.1), and
// none for whoever has it, because the kernel answers probes.
func (p arpPacket) wants(addr netip.Addr, own [6]byte) bool {
	return p.uses(addr, own) || p.senderMAC != own && p.senderIP.IsUnspecified() && p.targetIP == addr
}

// linkLocalCandidates returns a source of addresses in 169.254.1.0 to
// 169.254.254.255 that is the same for the same seed (RFC 3927, section 2.1).
func linkLocalCandidates(seed uint64) func() netip.Addr {
	r := rand.New(rand.NewPCG(seed, 3927))
	return func() netip.Addr {
		n := 256 + r.IntN(254*256)
		return netip.AddrFrom4([4]byte{169, 254, byte(n >> 8), byte(n)})
	}
}

// isClaimable reports whether a could come from linkLocalCandidates (RFC 3927,
// section 2.1).
func isClaimable(a netip.Addr) bool {
	return a.Is4() && a.IsLinkLocalUnicast() && a.As4()[2] != 0 && a.As4()[2] != 255
}

// macSeed is the seed of a machine that may have the same address at every
// boot, which is what RFC 3927 recommends.
func macSeed(mac net.HardwareAddr) uint64 {
	var seed [8]byte
	copy(seed[:], mac)
	return binary.BigEndian.Uint64(seed[:])
}
