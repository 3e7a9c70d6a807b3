package vm_test

import (
	"fmt"
	"net"
	"strconv"
)

// The codes that the refusals are documented under.
const (
	codeSignature   = "VFY-004"
	codeRollback    = "VFY-010"
	codeSameVersion = "VFY-011"
	codeExpired     = "VFY-013"
	codeLog         = "VFY-016"
	codeRootVersion = "VFY-017"
)

// listener is an open loopback socket and its port as text.
type listener struct {
	net.Listener
	port string
}

func newListener() (*listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return &listener{l, strconv.Itoa(l.Addr().(*net.TCPAddr).Port)}, nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
