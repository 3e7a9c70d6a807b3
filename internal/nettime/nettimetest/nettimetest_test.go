package nettimetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"testing"
	"time"
)

// TestServer talks to it byte by byte, as RFC 4330 describes a client.
func TestServer(t *testing.T) {
	s, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Stratum = 3
	s.SetTime(time.Date(2040, 1, 2, 3, 4, 5, 0, time.UTC)) // in NTP's second era
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()

	c, err := net.Dial("udp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	question := make([]byte, packetLen)
	question[0] = 4<<3 | 3
	copy(question[40:], "8 random")
	for _, junk := range [][]byte{{}, question[:47], append([]byte{4<<3 | 4}, question[1:]...)} {
		if _, err := c.Write(junk); err != nil { // none of these is a question
			t.Fatal(err)
		}
	}
	if _, err := c.Write(question); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 100)
	n, err := c.Read(p)
	if err != nil || n != packetLen {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if p[0] != 4<<3|4 || p[1] != 3 || !bytes.Equal(p[24:32], []byte("8 random")) {
		t.Errorf("answer %x", p[:n])
	}
	const second = 1<<32 - 2208988800 // Unix time of NTP's second era
	sent := time.Unix(int64(binary.BigEndian.Uint32(p[40:]))+second, 0).UTC()
	if sent.Year() != 2040 || sent.Sub(s.Time()).Abs() > 5*time.Second || bytes.Compare(p[32:40], p[40:48]) > 0 || bytes.Compare(p[16:24], p[32:40]) >= 0 {
		t.Errorf("sent at %s: %x", sent, p[:n])
	}
	if s.Asked() != 1 {
		t.Errorf("asked %d times", s.Asked())
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	again, err := Listen(s.Addr())
	if err != nil {
		t.Fatalf("the address is not free again: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
