package netup

import (
	"os"
	"testing"

	"github.com/phasebased/phase/internal/nettest"
)

func TestMain(m *testing.M) { os.Exit(nettest.Main(m)) }
