package steps

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/manifest"
)

const verifyHelp = `Verify that a boot manifest was signed by its publisher, is intact, current and
not older than the last one.

Nothing of the manifest is used before its signatures were checked. With
--check-version the file remembers the newest accepted version; an older
manifest is refused, and --update-version writes the new version after success.

Exit status: 0 verified, 1 not verified, 2 wrong usage.`

const verifyExample = `  phase-verify -m manifest.json -k root.json
  phase-verify -m manifest.json -k key.pub --check-version floor --update-version
  curl -s http://host:8080/manifest.json | phase-verify -m - -k root.json -f json`

type verifyOptions struct {
	manifest, key string
	floorFile     string
	updateFloor   bool
	format        string
	quiet         bool
}

// Verify is the command phase-verify. args are without the program's name; the
// result is the exit code.
func Verify(args []string, env Env) int {
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
	flags.StringVarP(&opts.manifest, "manifest", "m", "", "manifest `file`, - for standard input")
	flags.StringVarP(&opts.key, "key", "k", "", "`file` with a root.json, or a public key as 32 raw bytes, 64 hex digits or base64")
	flags.StringVar(&opts.floorFile, "check-version", "", "refuse versions older than the one kept in `file`")
	flags.BoolVar(&opts.updateFloor, "update-version", false, "after success keep the version in that file")
	flags.StringVarP(&opts.format, "format", "f", "text", "output format, `text|json`")
	flags.BoolVarP(&opts.quiet, "quiet", "q", false, "print no result, only errors")
	return execute(cmd, args, env)
}

func (o verifyOptions) check() error {
	switch {
	case o.manifest == "":
		return usageError{errors.New("which manifest? use -m FILE")}
	case o.key == "":
		return usageError{errors.New("which key is trusted? use -k FILE")}
	case o.updateFloor && o.floorFile == "":
		return usageError{errors.New("--update-version needs --check-version FILE")}
	case o.format != "text" && o.format != "json":
		return usageError{fmt.Errorf("unknown format %q: use text or json", o.format)}
	}
	return nil
}

func (o verifyOptions) run(env Env) error {
	if err := o.check(); err != nil {
		return err
	}
	v, err := o.verify(env)
	if !o.quiet {
		if showErr := o.show(env.Stdout, v, err); showErr != nil {
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
func (o verifyOptions) verify(env Env) (*manifest.Verified, error) {
	root, err := loadRoot(o.key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	want, floor := manifest.Want{Channel: manifest.Any, Arch: manifest.Any}, manifest.Floor{}
	if o.floorFile != "" {
		if want, floor, err = trust.LoadFile(o.floorFile); err != nil {
			return nil, err
		}
	}
	raw, err := readFile(o.manifest, env.Stdin, manifest.MaxManifestBytes)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	v, err := manifest.Verifier{Root: root, Want: want, Floor: floor}.Manifest(raw, nil, nil, env.Now())
	if err != nil {
		return nil, err
	}
	if o.updateFloor {
		m := v.Manifest()
		if err := trust.SaveFile(o.floorFile, manifest.Want{Channel: m.Channel, Arch: m.Arch}, v.Floor(), root); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// verifyResult is the JSON output. What describes the manifest is null unless
// it was verified: unverified bytes are never shown as facts.
type verifyResult struct {
	Status          string   `json:"status"` // "verified" or "failed"
	ManifestVersion *int64   `json:"manifest_version"`
	Channel         *string  `json:"channel"`
	Arch            *string  `json:"arch"`
	KeyID           *string  `json:"key_id"`
	KeyIDs          []string `json:"key_ids,omitempty"`
	Digest          string   `json:"digest,omitempty"` // of the signed payload
	ExpiresAt       string   `json:"expires_at,omitempty"`
	Error           string   `json:"error,omitempty"`
	Rule            string   `json:"rule,omitempty"`
	Object          string   `json:"object,omitempty"`
	Code            string   `json:"code,omitempty"`
	Hint            string   `json:"hint,omitempty"`
}

func (o verifyOptions) show(w io.Writer, v *manifest.Verified, err error) error {
	result := verifyResultOf(v, err)
	if o.format == "json" {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(result)
	}
	return result.text(w)
}

func verifyResultOf(v *manifest.Verified, err error) verifyResult {
	if err == nil && v.Valid() {
		m, ids := v.Manifest(), v.KeyIDs()
		return verifyResult{
			Status:          "verified",
			ManifestVersion: &m.ManifestVersion,
			Channel:         &m.Channel,
			Arch:            &m.Arch,
			KeyID:           &ids[0],
			KeyIDs:          ids,
			Digest:          v.Digest().String(),
			ExpiresAt:       m.ExpiresAt.Format("2006-01-02T15:04:05Z"),
		}
	}
	result := verifyResult{Status: "failed", Error: err.Error()}
	result.Code, result.Hint = explain(err)
	var refused *manifest.Error
	if errors.As(err, &refused) {
		result.Rule, result.Object = string(refused.Rule), refused.Object
	}
	return result
}

func (r verifyResult) text(w io.Writer) error {
	if r.Status == "verified" {
		_, err := fmt.Fprintf(w, "VERIFIED\nVersion: %d\nChannel: %s\nArch: %s\n", *r.ManifestVersion, *r.Channel, *r.Arch)
		for _, id := range r.KeyIDs {
			if err == nil {
				_, err = fmt.Fprintf(w, "Key: %s\n", id)
			}
		}
		return err
	}
	_, err := fmt.Fprintf(w, "FAILED\nReason: %s\n", r.Error)
	for _, line := range []struct{ name, value string }{
		{"Rule", r.Rule}, {"Object", r.Object}, {"Code", r.Code}, {"What to do", r.Hint},
	} {
		if err == nil && line.value != "" {
			_, err = fmt.Fprintf(w, "%s: %s\n", line.name, line.value)
		}
	}
	return err
}
