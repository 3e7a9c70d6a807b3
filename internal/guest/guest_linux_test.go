package guest

import (
	"os"
	"testing"
)

func TestPass(t *testing.T) {
	if !Run(t, Config{Modules: []string{"8021q", "dummy"}, Programs: []string{"ip"}}) {
		return
	}
	t.Run("sub", func(t *testing.T) { t.Log("hello from", os.Getpid()) })
}
