package pid1

import (
	"io"
	"sync"
)

// maxEarly bounds what a lateWriter keeps before its output is known.
const maxEarly = 64 << 10

// lateWriter keeps what is written until the output is known: events happen
// before the driver of the port they are for is loaded.
type lateWriter struct {
	mu    sync.Mutex
	early [][]byte
	size  int
	out   io.Writer
	gone  bool // there is no output
}

// Write never fails; what does not fit is dropped whole.
func (w *lateWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.out != nil:
		w.out.Write(p)
	case !w.gone && w.size+len(p) <= maxEarly:
		w.early = append(w.early, append([]byte(nil), p...))
		w.size += len(p)
	}
	return len(p), nil
}

// attach gives the output, or nil where there is none.
func (w *lateWriter) attach(out io.Writer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.early {
		if out != nil {
			out.Write(p)
		}
	}
	w.early, w.size, w.out, w.gone = nil, 0, out, out == nil
}
