package vm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
)

// framesSent reads a capture of QEMU's (pcap, LINKTYPE_ETHERNET) and returns the
// frames that the guest sent: those that do not come from QEMU's own network.
func framesSent(path string) (frames [][]byte, err error) {
	const header, record, ethernet, most = 24, 16, 14, 1 << 17
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(data) < header || binary.LittleEndian.Uint32(data) != 0xa1b2c3d4 || binary.LittleEndian.Uint32(data[20:]) != 1 {
		return nil, fmt.Errorf("%s is no capture of an Ethernet", path)
	}
	for data = data[header:]; len(data) >= record; {
		size := int(binary.LittleEndian.Uint32(data[8:]))
		if size > most || size > len(data)-record {
			return frames, errors.New("a captured frame is cut off")
		}
		frame := data[record : record+size]
		data = data[record+size:]
		if size >= ethernet && !fromHost(frame) {
			frames = append(frames, frame)
		}
	}
	return frames, nil
}

// fromHost tells the addresses that QEMU's user-mode network sends from: 52:55 and
// an IPv4 address, or 52:56.
func fromHost(frame []byte) bool { return frame[6] == 0x52 && (frame[7] == 0x55 || frame[7] == 0x56) }

// senders are the hardware addresses that frames were sent from.
func senders(frames [][]byte) map[string]bool {
	out := map[string]bool{}
	for _, f := range frames {
		out[string(f[6:12])] = true
	}
	return out
}

const wordSize = 8

// wordsOf takes what a frame says apart: the addresses of both ends, and each eight
// bytes in a row of what TCP, UDP or ARP carry. Requests over HTTP are words by
// their lines, without the ranges of bytes, which depend on the time of day.
func wordsOf(frame []byte) []string {
	words := []string{fmt.Sprintf("hardware address %x", frame[6:12])}
	body := frame[14:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0806:
		return append(words, windows("ARP", body)...)
	case 0x0800:
		if len(body) < 20 || len(body) < int(body[0]&15)*4 {
			return words
		}
		total := min(int(binary.BigEndian.Uint16(body[2:])), len(body))
		words = append(words, "IPv4 address "+netip.AddrFrom4([4]byte(body[12:16])).String())
		return append(words, transport(body[9], body[min(int(body[0]&15)*4, total):total])...)
	case 0x86dd:
		if len(body) < 40 {
			return words
		}
		words = append(words, "IPv6 address "+netip.AddrFrom16([16]byte(body[8:24])).String())
		return append(words, transport(body[6], body[40:])...)
	}
	return append(words, windows("other", body)...)
}

func transport(protocol byte, b []byte) []string {
	switch {
	case protocol == 17 && len(b) >= 8:
		return windows("UDP", b[8:])
	case protocol == 6 && len(b) >= 20 && int(b[12]>>4)*4 <= len(b):
		return stream(b[int(b[12]>>4)*4:])
	case protocol == 58 && len(b) >= 8:
		return windows("ICMPv6", b[8:])
	}
	return nil
}

// stream are the words of a piece of TCP.
func stream(b []byte) (words []string) {
	if !bytes.HasPrefix(b, []byte("GET ")) && !bytes.HasPrefix(b, []byte("HEAD ")) && !bytes.HasPrefix(b, []byte("POST ")) {
		return windows("TCP", b)
	}
	for line := range bytes.SplitSeq(b, []byte("\r\n")) {
		if !bytes.HasPrefix(line, []byte("Range: ")) && !bytes.HasPrefix(line, []byte("If-Range: ")) {
			words = append(words, "HTTP "+string(line))
		}
	}
	return words
}

func windows(what string, b []byte) (words []string) {
	for i := 0; i+wordSize <= len(b); i++ {
		words = append(words, what+" "+string(b[i:i+wordSize]))
	}
	return words
}
