// Package nettimetest is a small SNTP server (RFC 4330) whose clock is set by
// hand: for tests in which a machine asks the network for the time, from this
// process or from a virtual machine on this host.
//
// It answers whoever asks and authenticates nothing; where answers must be
// authenticated, [Chronyd] runs a server written by others. Neither is for use
// beyond tests.
package nettimetest

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"
)

const packetLen = 48

// Server is a time server. Its fields are set before Run; its methods may be
// called from any goroutine.
type Server struct {
	// Stratum is the distance from a reference clock, 1 to 15; 0: 2.
	Stratum byte
	// Alter, if not nil, gets every answer before it is sent and returns the
	// packets to send in its place; none keeps silent.
	Alter func(answer []byte) [][]byte

	conn net.PacketConn

	mu    sync.Mutex
	zero  time.Time // what the server's clock said at began
	began time.Time // with a monotonic reading
	asked int
}

// Listen binds a UDP address, such as "127.0.0.1:0", or ":12300" for virtual
// machines, which reach it through their user network as 10.0.2.2:12300. The
// server has the time of this machine until SetTime, and answers while Run
// does.
func Listen(address string) (*Server, error) {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, err
	}
	return &Server{conn: conn, zero: time.Now(), began: time.Now()}, nil
}

// Addr is the host:port that the server listens on.
func (s *Server) Addr() string { return s.conn.LocalAddr().String() }

// SetTime sets the server's clock, which runs on from there. Years 1970 to
// 2105 can be told by NTP.
func (s *Server) SetTime(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zero, s.began = t, time.Now()
}

// Time is what the server's clock says.
func (s *Server) Time() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.zero.Add(time.Since(s.began))
}

// Asked is how many questions have come.
func (s *Server) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// Close frees the address of a server that is not going to Run.
func (s *Server) Close() error { return s.conn.Close() }

// Run answers until ctx ends, and frees the address. It returns nil then, or
// the error of the socket.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	buf := make([]byte, 2048)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		received := s.Time()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		case n < packetLen || buf[0]&7 != 3: // not from a client
			continue
		}
		s.mu.Lock()
		s.asked++
		s.mu.Unlock()
		for _, p := range s.answer(buf[:n], received) {
			_, _ = s.conn.WriteTo(p, from) // an asker that is gone asks no more
		}
	}
}

// answer is the packet of RFC 4330, section 6.
func (s *Server) answer(question []byte, received time.Time) [][]byte {
	p := make([]byte, packetLen)
	p[0] = question[0]&0x38 | 4 // its version; we are a server and know the time
	p[1], p[2], p[3] = max(s.Stratum, 1), 6, 0xec
	if s.Stratum == 0 {
		p[1] = 2
	}
	copy(p[12:], "TEST")
	putTime(p[16:], received.Add(-time.Second)) // last set
	copy(p[24:32], question[40:48])
	putTime(p[32:], received)
	putTime(p[40:], s.Time())
	if s.Alter != nil {
		return s.Alter(p)
	}
	return [][]byte{p}
}

// putTime writes an NTP time stamp: seconds since 1900, modulo 2^32, and a
// fraction.
func putTime(p []byte, t time.Time) {
	const from1900 = 2208988800 // to 1970
	binary.BigEndian.PutUint32(p, uint32(t.Unix()+from1900))
	binary.BigEndian.PutUint32(p[4:], uint32(uint64(t.Nanosecond())<<32/1e9))
}
