package lab

import (
	"errors"
	"fmt"

	"github.com/phasebased/phase/receipt"
)

// VerifyShown verifies the receipt that a machine showed on its report port:
// signed by the key that the machine named there, whatever it booted and for
// whatever job. The port is wired to this machine's QEMU, not to a network.
func (o *Outcome) VerifyShown() error {
	if o.Node == nil {
		return errors.New("the machine did not say who it is")
	}
	key, err := ParseKey(o.Node.Key)
	if err != nil {
		return err
	}
	statement, err := receipt.Verify(o.shown, key)
	if err != nil {
		return fmt.Errorf("verify the receipt: %w", err)
	}
	o.Receipt = &Receipt{Raw: o.shown, Statement: statement}
	return nil
}
