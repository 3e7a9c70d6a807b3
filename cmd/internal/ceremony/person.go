package ceremony

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/phasebased/phase/internal/keyfile"
	phaseterm "github.com/phasebased/phase/internal/term"
)

// person is whoever runs the command: at a terminal, or represented by flags.
type person struct {
	passphraseFile string
	yes            bool

	ctx  context.Context
	in   io.Reader
	err  io.Writer
	keys keyfile.Files
}

// flags are those of every command that opens a private key.
func (p *person) flags(cmd *cobra.Command) {
	p.passphraseFlag(cmd)
	cmd.Flags().BoolVarP(&p.yes, "yes", "y", false, "sign without asking; required where there is no terminal")
}

func (p *person) passphraseFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.passphraseFile, "passphrase-file", "", "`file` with the passphrase on its only line, - for standard input (default: ask on the terminal)")
}

// attend is called once the flags are known.
func (p *person) attend(cmd *cobra.Command, cfg Config) {
	p.ctx, p.in, p.err, p.keys = cmd.Context(), cmd.InOrStdin(), cmd.ErrOrStderr(), cfg.Keys
	p.keys.Warn = p.warn
}

func (p *person) warn(text string) { fmt.Fprintln(p.err, "warning:", phaseterm.Clean(text)) }

// terminal returns the terminal that the person sits at, if there is one.
func (p *person) terminal() (fd int, ok bool) {
	file, isFile := p.in.(*os.File)
	if !isFile || p.passphraseFile == "-" {
		return 0, false
	}
	fd = int(file.Fd())
	return fd, term.IsTerminal(fd)
}

// confirm asks a question that is answered with yes or no, and returns nil for
// yes only.
func (p *person) confirm(question string) error {
	if p.yes {
		return nil
	}
	fd, ok := p.terminal()
	if !ok {
		return usage("there is no terminal to ask on: read what is signed above, then add --yes")
	}
	fmt.Fprintf(p.err, "%s [y/N] ", phaseterm.Clean(question))
	answer, err := p.interruptible(fd, func() ([]byte, error) { return readLine(p.in) })
	if err != nil {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(string(answer))) {
	case "y", "yes":
		return nil
	}
	return refuse("Nothing was changed; run the command again if you want to.", "not confirmed")
}

// passphrase is the one that opens an existing key.
func (p *person) passphrase(file string) (keyfile.Passphrase, error) {
	return p.ask("Passphrase for "+file+": ", &keyfile.Error{Object: file, Reason: keyfile.ErrNeedPassphrase})
}

// ask reads a passphrase from the file that was named, or without echo from
// the terminal; absent is the error if there is neither.
func (p *person) ask(prompt string, absent error) (keyfile.Passphrase, error) {
	switch p.passphraseFile {
	case "":
	case "-":
		return keyfile.ReadPassphrase(p.in, "standard input")
	default:
		return p.keys.PassphraseFile(p.passphraseFile)
	}
	fd, ok := p.terminal()
	if !ok {
		return keyfile.Passphrase{}, absent
	}
	fmt.Fprint(p.err, phaseterm.Clean(prompt))
	typed, err := p.interruptible(fd, func() ([]byte, error) { return term.ReadPassword(fd) })
	fmt.Fprintln(p.err)
	if err != nil {
		return keyfile.Passphrase{}, fmt.Errorf("read the passphrase: %w", err)
	}
	defer clear(typed)
	if len(typed) == 0 {
		return keyfile.Passphrase{}, absent
	}
	return keyfile.NewPassphrase(typed), nil
}

// shortest is the least length of a new passphrase. Length is no measure of
// strength, but this refuses what nobody should use.
const shortest = 12

// newPassphrase asks for a passphrase that is not in use yet: twice, where it
// is typed unseen.
func (p *person) newPassphrase(file string) (keyfile.Passphrase, error) {
	absent := refuse("Type several words, or name a file with --passphrase-file; --plain is for machines that sign unattended.",
		"%s needs a passphrase", file)
	first, err := p.ask("New passphrase for "+file+", several words: ", absent)
	if err != nil {
		return first, err
	}
	if first.Len() < shortest {
		first.Wipe()
		return first, refuse("Choose several words that do not belong together.",
			"the passphrase is too short: at least %d characters", shortest)
	}
	if p.passphraseFile != "" {
		return first, nil
	}
	again, err := p.ask("The same again: ", absent)
	if err != nil {
		return first, err
	}
	defer again.Wipe()
	if !first.Equal(again) {
		first.Wipe()
		return first, refuse("Run the command again.", "the two passphrases differ")
	}
	return first, nil
}

// interruptible runs read, which blocks on the terminal fd, until it returns or
// the person presses Ctrl-C or Ctrl-\. The terminal is left as it was.
func (p *person) interruptible(fd int, read func() ([]byte, error)) ([]byte, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	ctx, stop := signal.NotifyContext(p.ctx, syscall.SIGQUIT)
	defer stop()
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := read()
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
		fmt.Fprintln(p.err)
		return nil, errors.Join(errInterrupted, term.Restore(fd, before))
	}
}

var errInterrupted = errors.New("interrupted")

// readLine reads one line byte by byte, so that what is typed after it stays
// for the next question. A line of more than 64 bytes is no answer.
func readLine(in io.Reader) ([]byte, error) {
	var line []byte
	for b := make([]byte, 1); len(line) <= 64; {
		n, err := in.Read(b)
		if n == 1 && b[0] == '\n' || errors.Is(err, io.EOF) {
			return line, nil
		}
		if err != nil {
			return nil, err
		}
		line = append(line, b[:n]...)
	}
	return nil, errors.New("the answer is too long")
}
