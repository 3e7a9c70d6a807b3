package p2p_test

import (
	"os"
	"testing"

	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/p2p/dhtserver"
)

// The tests of package p2p cannot import what imports it.
func TestMain(m *testing.M) {
	p2p.SetTestServer(dhtserver.New)
	os.Exit(m.Run())
}
