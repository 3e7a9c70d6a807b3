package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// listsAge is how old apt's package lists may be. Older ones often name
// versions that the mirrors no longer have.
const listsAge = 7 * 24 * time.Hour

// NoPackageError says that apt cannot bring something that is missing.
type NoPackageError struct {
	Missing []Finding // the findings apt cannot help with
	Apt     bool      // whether this system has apt at all
}

func (e *NoPackageError) Error() string {
	if !e.Apt {
		return "this system has no apt-get; missing: " + names(e.Missing)
	}
	return "no package brings: " + names(e.Missing)
}

// Hint says what to do about it.
func (e *NoPackageError) Hint() string {
	if !e.Apt {
		return "Install these with your system's package manager: " + names(e.Missing) + "."
	}
	var hints []string
	for _, f := range e.Missing {
		if f.Hint != "" {
			hints = append(hints, f.Hint)
		}
	}
	return strings.Join(hints, " ")
}

func names(found []Finding) string {
	var s []string
	for _, f := range found {
		s = append(s, f.Name)
	}
	return strings.Join(s, ", ")
}

// InstallError says that a package manager's command failed. Its output has
// been shown.
type InstallError struct {
	Packages []string // what was to be installed
	Command  string   // for a person to type: what would install everything
	Err      error
}

func (e *InstallError) Error() string {
	return fmt.Sprintf("cannot install %s: %v", strings.Join(e.Packages, ", "), e.Err)
}

func (e *InstallError) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *InstallError) Hint() string { return "Run this yourself: " + e.Command }

// Command returns the one command which installs every package that is
// missing, for a person to type; empty if there is none to install, or no apt.
func (h Host) Command(found []Finding) string {
	pkgs := Packages(found)
	if _, err := h.LookPath("apt-get"); err != nil || len(pkgs) == 0 {
		return ""
	}
	commands := []string{"apt-get install -y --no-install-recommends " + strings.Join(pkgs, " ")}
	if !h.listsFresh(time.Now()) {
		commands = append([]string{"apt-get update"}, commands...)
	}
	if h.UID == 0 {
		return strings.Join(commands, " && ")
	}
	if _, err := h.LookPath("sudo"); err != nil { // a minimal Debian has none
		return "su -c '" + strings.Join(commands, " && ") + "'"
	}
	return "sudo " + strings.Join(commands, " && sudo ")
}

// Install installs the packages of everything missing, as root or through
// `sudo -n`, which never asks for a password. What the commands print goes to
// log. The package lists are updated first if they are absent or more than a
// week old, or when the installation fails without that.
//
// It installs what it can and fails with *NoPackageError if something remains
// that has no package or if there is no apt, and with *InstallError if apt
// fails. The caller checks again afterwards.
func (h Host) Install(ctx context.Context, found []Finding, log io.Writer) error {
	missing := Missing(found)
	if len(missing) == 0 {
		return nil
	}
	if _, err := h.LookPath("apt-get"); err != nil {
		return &NoPackageError{Missing: missing}
	}
	if pkgs := Packages(found); len(pkgs) > 0 {
		if err := h.aptInstall(ctx, pkgs, log); err != nil {
			return &InstallError{Packages: pkgs, Command: h.Command(found), Err: err}
		}
	}
	var rest []Finding
	for _, f := range missing {
		if f.Package == "" {
			rest = append(rest, f)
		}
	}
	if len(rest) > 0 {
		return &NoPackageError{Missing: rest, Apt: true}
	}
	return nil
}

func (h Host) aptInstall(ctx context.Context, pkgs []string, log io.Writer) error {
	install := append([]string{"install", "-y", "--no-install-recommends"}, pkgs...)
	if h.listsFresh(time.Now()) {
		err := h.apt(ctx, log, install...)
		if err == nil || ctx.Err() != nil || errors.Is(err, errSudo) {
			return err
		}
		// The lists may be behind the mirror all the same.
	}
	if err := h.apt(ctx, log, "update"); err != nil {
		return err
	}
	return h.apt(ctx, log, install...)
}

// errSudo says that packages cannot be installed without a person.
var errSudo = errors.New("this needs root, and sudo is not possible without a password")

// apt runs apt-get so that it asks nothing and waits for another apt's lock.
func (h Host) apt(ctx context.Context, log io.Writer, args ...string) error {
	argv := append([]string{"apt-get", "-q", "-o", "DPkg::Lock::Timeout=120"}, args...)
	if h.UID != 0 {
		if err := h.command(ctx, io.Discard, "sudo", "-n", "true").Run(); err != nil {
			return errSudo
		}
		// sudo clears the environment, hence env.
		argv = append([]string{"sudo", "-n", "env", "DEBIAN_FRONTEND=noninteractive"}, argv...)
	}
	cmd := h.command(ctx, log, argv...)
	if _, err := fmt.Fprintf(log, "+ %s\n", strings.Join(argv, " ")); err != nil {
		return err
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get %s: %w", args[0], err)
	}
	return nil
}

func (h Host) command(ctx context.Context, log io.Writer, argv ...string) *exec.Cmd {
	path, err := h.LookPath(argv[0])
	cmd := exec.CommandContext(ctx, path, argv[1:]...)
	if err != nil {
		cmd.Err = err
	}
	cmd.Env = h.environ("DEBIAN_FRONTEND=noninteractive")
	cmd.Stdout, cmd.Stderr = log, log
	// An interrupted dpkg leaves a mess: let apt end what it is doing.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

// listsFresh says whether apt has package lists and fetched them lately. The
// lists' own times are the mirror's; those of the folders are ours.
func (h Host) listsFresh(now time.Time) bool {
	lists := filepath.Join(h.root(), "var/lib/apt/lists")
	if found, err := filepath.Glob(filepath.Join(lists, "*_Packages*")); err != nil || len(found) == 0 {
		return false
	}
	for _, dir := range []string{lists, filepath.Join(lists, "partial")} {
		info, err := os.Stat(dir)
		if err == nil && now.Sub(info.ModTime()) < listsAge {
			return true
		}
	}
	return false
}
