package vm_test

import (
	"testing"

	"github.com/phasebased/phase/internal/lab"
)

// smallMachine is the memory, in MiB, in which the default release must boot.
const smallMachine = 512

// TestSmallMachine boots the default release with 512 MiB, in the mode that keeps
// everything in memory and in the one that has a cache.
func TestSmallMachine(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(b.release(1), "")
	b.serve()
	for _, c := range []struct {
		mode string
		last lab.LastWord
	}{
		{"private", lab.ReceiptShown},
		{"internet", lab.ReceiptDelivered},
	} {
		t.Run(c.mode, func(t *testing.T) {
			b := *b
			b.T, b.last = t, c.last
			b.medium(lab.ImageOptions{Mode: c.mode})
			outcome, console := b.boot(lab.BootOptions{Memory: smallMachine})
			b.verified(outcome, console)
			t.Logf("at the hand-over %d of %d MiB were in use", outcome.Memory.Used>>20, smallMachine)
		})
	}
}
