package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
)

// logFlags say how logs look.
type logFlags struct {
	verbose bool
	format  string
}

func (f *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "log more")
	cmd.Flags().StringVar(&f.format, "log-format", "auto", "text, json, journal (text with a priority and without a time), or auto: journal where standard error is systemd's journal, else text")
}

// open writes logs to w, standard error.
func (f *logFlags) open(w io.Writer) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if f.verbose {
		options.Level = slog.LevelDebug
	}
	format := f.format
	if format == "auto" || format == "" {
		format = "text"
		if isJournal(w, os.Getenv("JOURNAL_STREAM")) {
			format = "journal"
		}
	}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	case "journal":
		return slog.New(newJournalHandler(w, options)), nil
	}
	return nil, usageError{fmt.Errorf("--log-format %q is none of auto, text, json and journal", f.format)}
}

// isJournal reports whether w is the stream of which stream says that the journal
// reads it: device and inode number (systemd.exec(5), JOURNAL_STREAM).
func isJournal(w io.Writer, stream string) bool {
	file, ok := w.(*os.File)
	if !ok || stream == "" {
		return false
	}
	info, err := file.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// A journalHandler writes lines for the journal, which knows the time itself and
// reads a priority in front of each line (sd-daemon(3)).
type journalHandler struct {
	slog.Handler // writes to line, without time and level
	shared       *journalLine
}

type journalLine struct {
	mu   sync.Mutex
	line bytes.Buffer
	w    io.Writer
}

func newJournalHandler(w io.Writer, options *slog.HandlerOptions) *journalHandler {
	shared := &journalLine{w: w}
	bare := *options
	bare.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{}
		}
		return a
	}
	return &journalHandler{slog.NewTextHandler(&shared.line, &bare), shared}
}

// Handle writes one line at once.
func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.shared.mu.Lock()
	defer h.shared.mu.Unlock()
	h.shared.line.Reset()
	fmt.Fprintf(&h.shared.line, "<%d>", priority(r.Level))
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	_, err := h.shared.w.Write(h.shared.line.Bytes())
	return err
}

// WithAttrs implements slog.Handler.
func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{h.Handler.WithAttrs(attrs), h.shared}
}

// WithGroup implements slog.Handler.
func (h *journalHandler) WithGroup(name string) slog.Handler {
	return &journalHandler{h.Handler.WithGroup(name), h.shared}
}

// priority is syslog's (syslog(3)).
func priority(level slog.Level) int {
	switch {
	case level >= slog.LevelError:
		return 3
	case level >= slog.LevelWarn:
		return 4
	case level >= slog.LevelInfo:
		return 6
	}
	return 7
}
