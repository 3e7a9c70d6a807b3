package vm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
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

// said is what a frame says: words, and what cannot be read as words.
type said struct {
	words []string
	rest  []byte
}

// saidBy takes a frame apart. Its words are the sender's addresses and the headers
// of requests over HTTP; the rest is what UDP and TCP carry otherwise. Left out is
// what depends on how fast a machine is and not on which: numbers of packets, what
// looks for neighbours (ARP, ICMP), and the files asked for.
func saidBy(frame []byte) said {
	s := said{words: []string{fmt.Sprintf("hardware address %x", frame[6:12])}}
	body := frame[14:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		if len(body) < 20 || len(body) < int(body[0]&15)*4 {
			return s
		}
		header := int(body[0]&15) * 4
		body = body[:max(header, min(int(binary.BigEndian.Uint16(body[2:])), len(body)))] // short frames are filled up
		s.words = append(s.words, "IPv4 address "+netip.AddrFrom4([4]byte(body[12:16])).String())
		s.transport(body[9], body[header:])
	case 0x86dd:
		if len(body) < 40 {
			return s
		}
		s.words = append(s.words, "IPv6 address "+netip.AddrFrom16([16]byte(body[8:24])).String())
		s.transport(body[6], body[40:])
	}
	return s
}

func (s *said) transport(protocol byte, b []byte) {
	switch {
	case protocol == 17 && len(b) >= 8:
		s.rest = b[8:]
	case protocol == 6 && len(b) >= 20 && int(b[12]>>4)*4 <= len(b):
		s.stream(b[int(b[12]>>4)*4:])
	}
}

// stream adds a piece of TCP.
func (s *said) stream(b []byte) {
	if !bytes.HasPrefix(b, []byte("GET ")) && !bytes.HasPrefix(b, []byte("HEAD ")) && !bytes.HasPrefix(b, []byte("POST ")) {
		s.rest = b
		return
	}
	request, headers, _ := bytes.Cut(b, []byte("\r\n"))
	if _, query, asks := bytes.Cut(request, []byte("?")); asks {
		s.words = append(s.words, "HTTP query "+string(query))
	}
	for line := range bytes.SplitSeq(headers, []byte("\r\n")) {
		if !bytes.HasPrefix(line, []byte("Range: ")) && !bytes.HasPrefix(line, []byte("If-Range: ")) {
			s.words = append(s.words, "HTTP header "+string(line))
		}
	}
}

// window is what boots are compared by: bytes in a row.
type window [4]byte

// utterance is all that a boot said.
type utterance struct {
	words   map[string]bool
	windows map[window]bool
	rests   [][]byte
}

func utter(frames [][]byte) utterance {
	u := utterance{words: map[string]bool{}, windows: map[window]bool{}}
	for _, f := range frames {
		s := saidBy(f)
		for _, w := range s.words {
			u.words[w] = true
		}
		for i := 0; i+len(window{}) <= len(s.rest); i++ {
			u.windows[window(s.rest[i:])] = true
		}
		u.rests = append(u.rests, s.rest)
	}
	return u
}

// common is what two boots of one machine said and another machine did not, at
// most ten of it.
func common(one, two, other utterance) (out []string) {
	for w := range one.words {
		if two.words[w] && !other.words[w] {
			out = append(out, w)
		}
	}
	for _, rest := range one.rests {
		out = append(out, runs(rest, func(w window) bool { return two.windows[w] && !other.windows[w] })...)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), 10)]
}

// runs are the parts of b whose windows are all told, and that are at least four
// bytes that tell long: each window with one of them tells. Fewer bytes may be
// equal by chance, such as the last one of an address that was drawn.
func runs(b []byte, tells func(window) bool) (out []string) {
	const least = 4 + len(window{}) - 1
	begin := 0
	for i := 0; i <= len(b); i++ {
		if i+len(window{}) <= len(b) && tells(window(b[i:])) {
			continue
		}
		if i-begin >= least {
			out = append(out, fmt.Sprintf("bytes %q", b[begin:i+len(window{})-1]))
		}
		begin = i + 1
	}
	return out
}

// TestCommonFindsIdentities: what would tell a machine is found where it is hidden
// among others, and chance is not.
func TestCommonFindsIdentities(t *testing.T) {
	udp := func(payload string) []byte {
		frame := make([]byte, 14+20+8)
		copy(frame[6:], "\x02drawn")
		frame[12], frame[13], frame[14], frame[14+9] = 8, 0, 0x45, 17
		binary.BigEndian.PutUint16(frame[14+2:], uint16(28+len(payload)))
		return append(frame, payload...)
	}
	for name, c := range map[string]struct {
		one, two, other string
		found           int
	}{
		"nothing":           {"hello, all", "hello, all", "hello, all", 0},
		"a short identity":  {"client=ab12;type=1", "client=ab12;type=1", "client=cd34;type=1", 1},
		"drawn for a boot":  {"client=ab12;type=1", "client=xy98;type=1", "client=cd34;type=1", 0},
		"a byte by chance":  {"mac 12345_0000000000", "mac 98765_0000000000", "mac abcdez0000000000", 0},
		"identity in noise": {"q8#19F3A17C2D4E87$x!", "m~p49F3A17C2D4E8z0&k", "w=r2B06D5E1172AA5%j^", 1},
	} {
		got := common(utter([][]byte{udp(c.one)}), utter([][]byte{udp(c.two)}), utter([][]byte{udp(c.other)}))
		if len(got) != c.found {
			t.Errorf("%s: %q", name, got)
		}
	}
	get := func(line string) utterance {
		frame := udp("")
		frame[14+9] = 6
		tcp := make([]byte, 20)
		tcp[12] = 5 << 4
		frame = append(frame[:34], tcp...)
		frame = append(frame, "GET /a?b HTTP/1.1\r\n"+line+"\r\nRange: bytes=1-\r\n\r\n"...)
		binary.BigEndian.PutUint16(frame[14+2:], uint16(len(frame)-14))
		return utter([][]byte{frame})
	}
	if got := common(get("User-Agent: one"), get("User-Agent: one"), get("User-Agent: two")); len(got) != 1 || got[0] != "HTTP header User-Agent: one" {
		t.Errorf("of a request: %q", got)
	}
}
