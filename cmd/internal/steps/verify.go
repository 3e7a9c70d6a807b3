package steps

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/manifest"
)

const verifyHelp = `Verify that a boot manifest was signed by its publisher, is intact, current and
not older than the last one.

Nothing of the manifest is used before its signatures were checked. A refusal
names the rule that was broken, on which object, and what to do.

  -k            what is trusted: the root.json of a medium, or a single key
  --roots       newer roots, each signed by the one before and by itself
  --pointer     the manifest has to be the one that this signed pointer names
  --log-policy  the manifest has to be in a transparency log, with a proof
  --check-version
                the file remembers the newest accepted version; an older
                manifest is refused, and --update-version writes the new
                version after success
  --cached      judge as a machine without a network judges what it kept: the
                manifest may have expired, the output then says "stale"
  --time        will it still verify on that day?

Exit status: 0 verified, 1 not verified, 2 wrong usage.`

const verifyExample = `  phase-verify -m manifest.json -k root.json
  phase-verify -m manifest.json -k 1.root.json --roots . --pointer pointer.json
  phase-verify -m manifest.json -k key.pub --check-version floor --update-version
  phase-verify -m manifest.json -k root.json --time 2026-12-24T00:00:00Z
  curl -s http://host:8080/manifest.json | phase-verify -m - -k root.json -f json`

type verifyOptions struct {
	trustFlags
	updateFloor bool
	cached      bool
	format      string
	quiet       bool
}

// Verify is the command phase-verify. args are without the program's name; the
// result is the exit code.
func Verify(args []string, env Env) int { return execute(newVerify(env), args, env) }

func newVerify(env Env) *cobra.Command {
	var opts verifyOptions
	cmd := &cobra.Command{
		Use:     "phase-verify -m FILE -k FILE",
		Short:   "Verify a boot manifest",
		Long:    verifyHelp,
		Example: verifyExample,
		Args:    noArgs,
		RunE:    func(*cobra.Command, []string) error { return opts.run(env) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	opts.add(cmd)
	flags.BoolVar(&opts.updateFloor, "update-version", false, "after success keep the version in the file of --check-version")
	flags.BoolVar(&opts.cached, "cached", false, "judge as a release that was kept for a start without a network")
	flags.StringVarP(&opts.format, "format", "f", "text", "output format, `text|json`")
	flags.BoolVarP(&opts.quiet, "quiet", "q", false, "print no result, only errors")
	return finish(cmd)
}

func (o verifyOptions) check() error {
	switch {
	case o.updateFloor && o.floorFile == "":
		return usageError{errors.New("--update-version needs --check-version FILE")}
	case o.updateFloor && (o.at != "" || o.cached):
		return usageError{errors.New("--update-version keeps what is verified now: leave out --time and --cached")}
	case o.cached && o.pointer != "":
		return usageError{errors.New("--cached is for a start without a network, where there is no pointer: leave out --pointer")}
	case o.format != "text" && o.format != "json":
		return usageError{fmt.Errorf("unknown format %q: use text or json", o.format)}
	}
	return o.trustFlags.check()
}

func (o verifyOptions) run(env Env) error {
	if err := o.check(); err != nil {
		return err
	}
	j, err := o.verify(env)
	var usage usageError
	if errors.As(err, &usage) {
		return usage
	}
	if !o.quiet {
		if showErr := o.show(env.Stdout, j, err); showErr != nil {
			return showErr
		}
	}
	if err != nil {
		report(env.Stderr, "FATAL", err)
		return errReported
	}
	return nil
}

// verify takes the step. The floor is written only when all else succeeded.
func (o verifyOptions) verify(env Env) (judgement, error) {
	j, err := o.judge(env, o.cached)
	if err != nil || !o.updateFloor {
		return j, err
	}
	m := j.verified.Manifest()
	want := manifest.Want{Channel: m.Channel, Arch: m.Arch}
	return j, trust.SaveFile(o.floorFile, want, j.verified.Floor(), j.root)
}

// verifyResult is the JSON output. What describes the manifest is null or left
// out unless it was verified: unverified bytes are never shown as facts.
type verifyResult struct {
	Status          string         `json:"status"` // "verified" or "failed"
	ManifestVersion *int64         `json:"manifest_version"`
	Channel         *string        `json:"channel"`
	Arch            *string        `json:"arch"`
	KeyID           *string        `json:"key_id"`
	KeyIDs          []string       `json:"key_ids,omitempty"`
	Digest          string         `json:"digest,omitempty"` // of the signed payload
	CreatedAt       string         `json:"created_at,omitempty"`
	ExpiresAt       string         `json:"expires_at,omitempty"` // also of what was refused because it expired
	SecurityFloor   int64          `json:"security_floor,omitempty"`
	Stale           *verifyStale   `json:"stale,omitempty"` // with --cached: what had expired
	Logged          *verifyLogged  `json:"logged,omitempty"`
	Pointer         *verifyPointer `json:"pointer,omitempty"`
	RootVersion     int64          `json:"root_version,omitempty"` // 0, left out: a bare key, or none
	RootExpiresAt   string         `json:"root_expires_at,omitempty"`
	Time            string         `json:"time"` // for which the verdict holds
	Error           string         `json:"error,omitempty"`
	Rule            string         `json:"rule,omitempty"`
	Object          string         `json:"object,omitempty"`
	Code            string         `json:"code,omitempty"`
	Hint            string         `json:"hint,omitempty"`
}

type verifyStale struct {
	Object string `json:"object"`
	Since  string `json:"since"`
}

type verifyLogged struct {
	Origin    string   `json:"origin"`
	Index     int64    `json:"index"`
	Size      int64    `json:"size"`
	Witnesses []string `json:"witnesses"`
	At        string   `json:"at,omitempty"`
}

type verifyPointer struct {
	RootVersion int64  `json:"root_version"`
	ExpiresAt   string `json:"expires_at"`
	KeyID       string `json:"key_id"`
}

func (o verifyOptions) show(w io.Writer, j judgement, err error) error {
	result := verifyResultOf(j, err)
	if o.format == "json" {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(result)
	}
	return result.text(w)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func verifyResultOf(j judgement, err error) verifyResult {
	result := verifyResult{Status: "verified", Time: stamp(j.now)}
	if j.root != nil {
		result.RootVersion, result.RootExpiresAt = j.root.Version(), stamp(j.root.Expires())
	}
	if j.pointer.Valid() {
		p := j.pointer.Pointer()
		result.Pointer = &verifyPointer{p.RootVersion, stamp(p.ExpiresAt), j.pointer.KeyIDs()[0]}
	}
	if err == nil && j.verified.Valid() {
		result.describe(j.verified)
		return result
	}
	result.Status, result.Error = "failed", err.Error()
	result.Code, result.Hint = explain(err)
	var refused *manifest.Error
	var unread *inputError
	var floor *trust.Error
	switch {
	case errors.As(err, &refused):
		result.Rule, result.Object = string(refused.Rule), refused.Object
		if refused.Rule == manifest.RuleExpired {
			result.ExpiresAt = stamp(refused.At)
		}
	case errors.As(err, &unread):
		result.Rule, result.Object = "input", unread.object
	case errors.As(err, &floor):
		result.Rule, result.Object = "floor", floor.Object
	}
	return result
}

// describe fills in what is known of a verified manifest.
func (r *verifyResult) describe(v *manifest.Verified) {
	m, ids := v.Manifest(), v.KeyIDs()
	r.ManifestVersion, r.Channel, r.Arch = &m.ManifestVersion, &m.Channel, &m.Arch
	r.KeyID, r.KeyIDs, r.Digest = &ids[0], ids, v.Digest().String()
	r.CreatedAt, r.ExpiresAt, r.SecurityFloor = stamp(m.CreatedAt), stamp(m.ExpiresAt), m.SecurityFloor
	if object, since, stale := v.Stale(); stale {
		r.Stale = &verifyStale{object, stamp(since)}
	}
	if l, ok := v.Logged(); ok {
		r.Logged = &verifyLogged{l.Origin, l.Index, l.Size, append([]string{}, l.Witnesses...), stamp(l.At)}
	}
}

// line is one line of the text output.
type line struct{ name, value string }

func (r verifyResult) text(w io.Writer) error {
	head, lines := "VERIFIED", r.factLines()
	if r.Status != "verified" {
		head = "FAILED"
		lines = []line{{"Reason", term.Clean(r.Error)}, {"Rule", r.Rule}, {"Object", r.Object}, {"Code", r.Code}, {"What to do", r.Hint}}
	}
	var text strings.Builder
	text.WriteString(head + "\n")
	for _, l := range lines {
		if l.value != "" {
			fmt.Fprintf(&text, "%s: %s\n", l.name, l.value)
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// factLines begins with the lines that scripts have always found.
func (r verifyResult) factLines() []line {
	if r.ManifestVersion == nil {
		return nil
	}
	lines := []line{{"Version", fmt.Sprint(*r.ManifestVersion)}, {"Channel", *r.Channel}, {"Arch", *r.Arch}}
	for _, id := range r.KeyIDs {
		lines = append(lines, line{"Key", id})
	}
	lines = append(lines, line{"Digest", r.Digest}, line{"Expires", r.ExpiresAt})
	if r.Stale != nil {
		lines = append(lines, line{"Stale", fmt.Sprintf("the %s expired at %s", r.Stale.Object, r.Stale.Since)})
	}
	if r.RootVersion > 0 {
		lines = append(lines, line{"Root", fmt.Sprintf("version %d, expires %s", r.RootVersion, r.RootExpiresAt)})
	}
	if r.Pointer != nil {
		lines = append(lines, line{"Pointer", "expires " + r.Pointer.ExpiresAt})
	}
	if r.Logged != nil {
		lines = append(lines, line{"Logged", fmt.Sprintf("%s, entry %d of %d, witnesses: %s",
			r.Logged.Origin, r.Logged.Index, r.Logged.Size, strings.Join(append([]string{}, r.Logged.Witnesses...), ", "))})
	}
	return lines
}
