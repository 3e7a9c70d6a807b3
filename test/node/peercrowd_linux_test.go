package node_test

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/phasebased/phase/internal/nettest"
)

// TestTenThousandPeers: as many connections to the port for other nodes, from one
// address, take nothing from those at the socket, and the node's memory stays what
// it is.
func TestTenThousandPeers(t *testing.T) {
	manyFiles(t)
	alice := newKey(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	nettest.Check(t, err)
	address := l.Addr().(*net.TCPAddr)
	nettest.Check(t, l.Close())
	n := start(t, map[string]any{"listen_addrs": []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", address.Port)}}, alice)
	o := n.serve(t, alice)
	for name, say := range map[string]string{
		"that say nothing": "", "that speak HTTP": "GET / HTTP/1.1\r\n\r\n", "that stop within the greeting": "\x13/multistream/1.0",
	} {
		t.Run(name, func(t *testing.T) {
			n.resetPeak()
			before := n.memory("VmRSS")
			stop := gather(t, func(ctx context.Context) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", address.String())
			}, []byte(say))
			o.goOn(t)
			o.goOn(t)
			after := n.memory("VmHWM")
			stop()
			t.Logf("%d MiB before, at most %d MiB", before>>20, after>>20)
			if after > before+crowdGrowth {
				t.Errorf("the node grew from %d to %d MiB", before>>20, after>>20)
			}
			o.goOn(t)
		})
	}
}
