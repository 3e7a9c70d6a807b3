package steps

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/logproof"
	"github.com/phasebased/phase/manifest"
)

// trustFlags are everything a verdict on a manifest rests on, as a person says
// it. Commands that act on a manifest share them.
type trustFlags struct {
	rootFlags
	manifest            string
	pointer             string
	channel, arch       string
	logPolicy, logProof string
	floorFile           string
	at                  string
}

func (f *trustFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.manifest, "manifest", "m", "", "manifest `file`, - for standard input")
	f.rootFlags.add(cmd, keyUsage)
	flags.StringVar(&f.pointer, "pointer", "", "`file` with the pointer that has to name the manifest")
	flags.StringVar(&f.channel, "channel", "", "refuse manifests of another `channel`")
	flags.StringVar(&f.arch, "arch", "", "refuse manifests for another `architecture`")
	flags.StringVar(&f.logPolicy, "log-policy", "", "`file` with the policy of the logs and witnesses that must have seen the manifest")
	flags.StringVar(&f.logProof, "log-proof", "", "`file` with the proof of that (default: MANIFEST with .tlog-proof instead of .json)")
	flags.StringVar(&f.floorFile, "check-version", "", "refuse versions older than the one kept in `file`")
	flags.StringVar(&f.at, "time", "", "judge as if it were this `moment`, as 2026-03-01T12:00:00Z")
}

// check refuses a wrong command line.
func (f *trustFlags) check() error {
	switch {
	case f.manifest == "":
		return usageError{errors.New("which manifest? use -m FILE")}
	case f.key == "":
		return usageError{errors.New("which key is trusted? use -k FILE")}
	case f.logProof != "" && f.logPolicy == "":
		return usageError{errors.New("--log-proof needs --log-policy FILE")}
	}
	if f.at != "" {
		if _, err := time.Parse(time.RFC3339, f.at); err != nil {
			return usageError{fmt.Errorf("--time %q: use a moment such as 2026-03-01T12:00:00Z", f.at)}
		}
	}
	if _, err := f.want(); err != nil {
		return usageError{err}
	}
	return nil
}

// want is what the manifest has to be made for. Aliases of architectures end
// here.
func (f trustFlags) want() (manifest.Want, error) {
	want := manifest.Want{Channel: manifest.Any, Arch: manifest.Any}
	if f.channel != "" {
		if err := manifest.CheckChannel(f.channel); err != nil {
			return want, err
		}
		want.Channel = f.channel
	}
	if f.arch != "" {
		arch, err := manifest.ParseArch(f.arch)
		if err != nil {
			return want, err
		}
		want.Arch = arch
	}
	return want, nil
}

// judgement is a verdict and what it rests on, as far as that was reached.
type judgement struct {
	root     *manifest.Root            // newest that was followed; nil: none could be used
	pointer  *manifest.VerifiedPointer // nil: none was given, or it was refused
	verified *manifest.Verified        // nil: refused
	now      time.Time
}

// judge verifies the manifest. With cached it is one that a machine kept, which
// may have expired.
func (f trustFlags) judge(env Env, cached bool) (j judgement, err error) {
	verifier, err := f.verifier(env, &j)
	if err != nil {
		return j, err
	}
	raw, err := readFile(f.manifest, env.Stdin, manifest.MaxManifestBytes)
	if err != nil {
		return j, unusable("manifest", err)
	}
	proof, err := f.proof()
	if err != nil {
		return j, err
	}
	if cached {
		j.verified, err = verifier.LastGood(raw, proof, j.now)
		return j, err
	}
	if f.pointer != "" {
		if j.pointer, err = f.verifyPointer(verifier, j.now); err != nil {
			return j, err
		}
	}
	j.verified, err = verifier.Manifest(raw, proof, j.pointer, j.now)
	return j, err
}

// verifier gathers what a verdict rests on, and notes root and time in j.
func (f trustFlags) verifier(env Env, j *judgement) (v manifest.Verifier, err error) {
	j.now, v.ClockSource = env.Now(), "machine clock"
	if f.at != "" {
		v.ClockSource = "--time"
		if j.now, err = time.Parse(time.RFC3339, f.at); err != nil {
			return v, usageError{err}
		}
	}
	if j.root, err = f.rootFlags.load(); err != nil {
		return v, err
	}
	v.Root = j.root
	if v.Want, err = f.want(); err != nil {
		return v, usageError{err}
	}
	if f.floorFile != "" {
		if v.Want, v.Floor, err = f.floor(v.Want); err != nil {
			return v, err
		}
	}
	if f.logPolicy != "" {
		v.Log, err = loadPolicy(f.logPolicy)
	}
	return v, err
}

// floor reads the floor file. One that is about a channel and an architecture
// asks for these.
func (f trustFlags) floor(want manifest.Want) (manifest.Want, manifest.Floor, error) {
	of, floor, err := trust.LoadFile(f.floorFile)
	if err != nil {
		return want, floor, err
	}
	if of.Channel == manifest.Any {
		return want, floor, nil
	}
	if want.Channel != manifest.Any && want.Channel != of.Channel || want.Arch != manifest.Any && want.Arch != of.Arch {
		return want, floor, unusable("version file", fmt.Errorf("%s holds the version of %s/%s", f.floorFile, of.Channel, of.Arch))
	}
	return of, floor, nil
}

func loadPolicy(path string) (*logproof.Policy, error) {
	raw, err := readFile(path, nil, logproof.MaxPolicySize)
	if err != nil {
		return nil, unusable("log policy", err)
	}
	policy, err := logproof.ParsePolicy(raw)
	if err != nil {
		return nil, unusable("log policy", fmt.Errorf("%s: %w", path, err))
	}
	return policy, nil
}

// proof reads the log proof, if one is asked for. That none lies beside the
// manifest is for the verifier to judge.
func (f trustFlags) proof() ([]byte, error) {
	path := f.logProof
	if f.logPolicy == "" || path == "" && f.manifest == "-" {
		return nil, nil
	}
	if path == "" {
		path = strings.TrimSuffix(f.manifest, ".json") + ".tlog-proof"
	}
	raw, err := readFile(path, nil, logproof.MaxProofSize)
	if f.logProof == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unusable("log proof", err)
	}
	return raw, nil
}

func (f trustFlags) verifyPointer(v manifest.Verifier, now time.Time) (*manifest.VerifiedPointer, error) {
	if v.Root.Version() == 0 {
		return nil, usageError{errors.New("--pointer needs a root.json: a bare key stands for the role that signs manifests, pointers are signed by another")}
	}
	raw, err := readFile(f.pointer, nil, manifest.MaxPointerBytes)
	if err != nil {
		return nil, unusable("pointer", err)
	}
	return v.Pointer(raw, now)
}
