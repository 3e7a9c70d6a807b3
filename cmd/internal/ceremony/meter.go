package ceremony

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	phaseterm "github.com/phasebased/phase/internal/term"
)

// large is the size from which on reading a file takes long enough to show.
const large = 64 << 20

// meter shows how far the reading of large files is, and ends it when the
// person presses Ctrl-C.
type meter struct {
	ctx     context.Context
	console *phaseterm.Console
	bar     *phaseterm.Progress
	name    string
	done    int64
}

func newMeter(cmd *cobra.Command) *meter {
	started, out := time.Now(), cmd.ErrOrStderr()
	file, ok := out.(*os.File)
	return &meter{ctx: cmd.Context(), console: phaseterm.New(phaseterm.Config{
		Out: out, Now: func() time.Duration { return time.Since(started) },
		Live: ok && term.IsTerminal(int(file.Fd())),
	})}
}

// progress implements release.Progress.
func (m *meter) progress(name string, done, size int64) error {
	if m.ctx.Err() != nil {
		return errInterrupted
	}
	if size < large {
		return nil
	}
	if m.bar == nil || m.name != name || done < m.done {
		m.bar, m.name = m.console.Progress(name, size), name
	}
	m.done = done
	m.bar.Set(done)
	if done >= size {
		m.bar.End()
		m.bar = nil
	}
	return nil
}
