package ceremony

import (
	"crypto/ed25519"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/keyfile"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/translog"
	"github.com/phasebased/phase/logproof"
	"github.com/phasebased/phase/manifest"
)

func newLog(cfg Config) *cobra.Command {
	cmd := group("log", "Keep a transparency log: nobody can be given a release that others cannot see",
		newLogInit(cfg), newLogAdd(cfg), newLogProve(), newLogCosign(cfg),
		newLogCheck(), newLogList(), newLogPolicy(), newLogVkey())
	cmd.Long = `Keeps a transparency log in a folder that any web server can publish, in the
format of C2SP tlog-tiles. Whoever keeps the log, witnesses that it only grows, or
watches it, works on such a folder or a copy of it; files are carried between
them. docs/transparency.md tells the whole story. No command uses a network.`
	return cmd
}

// keeping is what those have in common who sign for or about a log.
type keeping struct {
	person
	key, state, format string
	first              bool
}

func (k *keeping) flags(cmd *cobra.Command, whose string) {
	k.person.flags(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&k.key, "key", "k", "", "private key `file` of the "+whose)
	flags.StringVar(&k.state, "state", "", "`file` that remembers the newest checkpoint signed; keep it with the key (default: the key's name with .state)")
	flags.StringVarP(&k.format, "format", "f", "text", "text or json")
}

// memory is the file that remembers, beside the key unless it was named.
func (k *keeping) memory(cmd *cobra.Command, dir string) (string, error) {
	if err := checkFormat(k.format); err != nil {
		return "", err
	}
	if k.key == "" {
		return "", needFlag(cmd, "--key", "the private key")
	}
	path := k.state
	if path == "" {
		path = strings.TrimSuffix(k.key, ".key") + ".state"
	}
	return path, outside(dir, k.key, path)
}

// outside refuses files below the folder of a log: it is published whole, and it
// is brought back from a backup whole.
func outside(dir string, files ...string) error {
	for _, file := range files {
		below, err := filepath.Rel(real(dir), filepath.Join(real(filepath.Dir(file)), filepath.Base(file)))
		if err == nil && filepath.IsLocal(below) {
			return refuse("Keep the key and the file of --state somewhere else.",
				"%s lies in the folder of the log, which is for everybody to read", file)
		}
	}
	return nil
}

// real is the absolute path of a folder, behind all links if it exists.
func real(dir string) string {
	if behind, err := filepath.EvalSymlinks(dir); err == nil {
		dir = behind
	}
	if whole, err := filepath.Abs(dir); err == nil {
		dir = whole
	}
	return dir
}

// open asks, opens the key and hands it to use.
func (k *keeping) open(question string, use func(ed25519.PrivateKey) error) error {
	if err := k.confirm(question); err != nil {
		return err
	}
	key, err := k.openKey(k.key)
	if err != nil {
		return err
	}
	defer clear(key)
	return use(key)
}

func newLogInit(cfg Config) *cobra.Command {
	var k keeping
	var origin string
	cmd := &cobra.Command{
		Use: "init DIR", Short: "Start an empty log in DIR", Args: arguments(1, 1, "the folder of the log"),
		Long: `Starts a log. Its origin is its name for ever: a host and path that you own, such
as example.com/boot-log, by custom the address at which DIR will be published. The
key should serve nothing else. The file of --state must survive as well as the key:
without it nobody would notice that DIR was brought back from an old backup.`,
		Example: `  phase release log init log --origin example.com/boot-log --key boot-log.key`,
		RunE: func(cmd *cobra.Command, args []string) error {
			k.attend(cmd, cfg)
			memory, err := k.memory(cmd, args[0])
			if err != nil {
				return err
			}
			if origin == "" {
				return needFlag(cmd, "--origin", "the name of the log")
			}
			return k.open(fmt.Sprintf("Start the log %s in %s, signed with %s?", origin, args[0], k.key), func(key ed25519.PrivateKey) error {
				if err := translog.Create(translog.Config{Dir: args[0], Key: key, Memory: memory}, origin); err != nil {
					return err
				}
				return k.started(cmd, args[0], memory)
			})
		},
	}
	k.flags(cmd, "log")
	cmd.Flags().StringVar(&origin, "origin", "", "`name` of the log")
	return cmd
}

// keptJSON is what machines read of a log that was started or cosigned.
type keptJSON struct {
	Entries int64  `json:"entries"`
	File    string `json:"file"` // the folder of the log, or the file with the cosignature
	Key     string `json:"vkey"` // of the log, or of the witness
	Origin  string `json:"origin"`
	State   string `json:"state"`
}

func (k *keeping) started(cmd *cobra.Command, dir, memory string) error {
	r, err := translog.Read(dir, nil)
	if err != nil {
		return err
	}
	if k.format == "json" {
		return writeJSON(cmd.OutOrStdout(), keptJSON{0, dir, r.Key().String(), r.Key().Name(), memory})
	}
	return table(cmd.OutOrStdout(), []string{
		dir + "\tthe log " + r.Key().Name() + ", empty; publish this folder",
		memory + "\tremembers what was signed; keep it and a copy of it with the key",
		"vkey\t" + r.Key().String(),
	})
}

// logging is the entering of one manifest.
type logging struct {
	keeping
	roots []string
	proof string
}

func newLogAdd(cfg Config) *cobra.Command {
	var l logging
	cmd := &cobra.Command{
		Use: "add DIR MANIFEST", Short: "Enter a complete manifest in the log, and write its proof", Args: arguments(2, 2, "the folder of the log, or the manifest,"),
		Long: `Verifies MANIFEST under the roots, enters it in the log in DIR, signs the new
checkpoint and writes the log proof beside the manifest. A manifest that is in the
log already keeps its place. What was entered stays for ever.

Machines that ask for witnesses need a newer proof, made with "prove" after the
witnesses have run "cosign".`,
		Example: `  phase release log add log manifest.json --root 1.root.json --key boot-log.key`,
		RunE: func(cmd *cobra.Command, args []string) error {
			l.attend(cmd, cfg)
			return l.run(cmd, cfg, args[0], args[1])
		},
	}
	l.keeping.flags(cmd, "log")
	cmd.Flags().StringArrayVar(&l.roots, "root", nil, "root `file` or folder to verify the manifest against; repeatable")
	cmd.Flags().StringVarP(&l.proof, "out", "o", "", "`file` for the proof (default: the manifest's name with .tlog-proof)")
	cmd.Flags().BoolVar(&l.first, "first", false, "there is no --state file any more: believe DIR and begin it anew, after comparing with a mirror")
	return cmd
}

func (l *logging) run(cmd *cobra.Command, cfg Config, dir, file string) error {
	memory, err := l.memory(cmd, dir)
	if err != nil {
		return err
	}
	if len(l.roots) == 0 {
		return needFlag(cmd, "--root", "the root to verify the manifest against")
	}
	now := cfg.today()
	d, err := openManifestDraft(file)
	if err != nil {
		return err
	}
	c, err := openChain(l.roots)
	if err != nil {
		return err
	}
	// Only what machines would boot: half-signed drafts have no place in a log.
	v := manifest.Verifier{Root: c.newest(), Want: manifest.Want{Channel: manifest.Any, Arch: manifest.Any}}
	verified, err := v.Manifest(d.raw, nil, nil, now)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	m := verified.Manifest()
	if !l.yes {
		fmt.Fprintf(l.err, "%s: VERIFIED against %s.\n", file, underRoot(c))
		if err := table(l.err, indented(append(manifestRows(m, now), digestRows(d.draft)...))); err != nil {
			return err
		}
	}
	config := translog.Config{Dir: dir, Memory: memory, First: l.first}
	return l.open("Enter it in the log "+dir+" for everybody to see, for ever?", func(key ed25519.PrivateKey) error {
		config.Key = key
		return l.enter(cmd, config, manifest.LogEntry(m, verified.Digest()), file)
	})
}

func (l *logging) enter(cmd *cobra.Command, config translog.Config, entry []byte, file string) error {
	log, err := translog.Open(config)
	if err != nil {
		return err
	}
	defer log.Close()
	before := log.Reader().Checkpoint().Size
	indexes, err := log.Add(entry)
	if err != nil {
		return err
	}
	p := proving{out: l.proof, format: l.format}
	proof, err := log.Reader().Prove(indexes[0], nil)
	if err != nil {
		return err
	}
	note := "entered"
	if indexes[0] < before {
		note = "there already"
	}
	return p.write(cmd, log.Reader(), file, indexes[0], proof, note)
}

// proving is the writing of a proof.
type proving struct {
	policy, out, format string
}

func newLogProve() *cobra.Command {
	var p proving
	cmd := &cobra.Command{
		Use: "prove DIR MANIFEST", Short: "Write the log proof of a manifest, with what witnesses have cosigned", Args: arguments(2, 2, "the folder of the log, or the manifest,"),
		Long: `Writes the proof that MANIFEST is in the log in DIR. With --policy the proof is
checked as a machine with this policy checks it, and nothing is written that such
a machine would refuse; without, it carries as many cosignatures as there are.`,
		Example: `  phase release log prove log manifest.json --policy log-policy`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(p.format); err != nil {
				return err
			}
			return p.run(cmd, args[0], args[1])
		},
	}
	cmd.Flags().StringVar(&p.policy, "policy", "", "log policy `file` that media carry")
	cmd.Flags().StringVarP(&p.out, "out", "o", "", "`file` to write (default: the manifest's name with .tlog-proof)")
	cmd.Flags().StringVarP(&p.format, "format", "f", "text", "text or json")
	return cmd
}

func (p proving) run(cmd *cobra.Command, dir, file string) error {
	d, err := openManifestDraft(file)
	if err != nil {
		return err
	}
	var policy *logproof.Policy
	note := "not checked against a policy"
	if p.policy != "" {
		if policy, err = openPolicy(p.policy); err != nil {
			return err
		}
		note = "accepted by " + p.policy
	}
	r, err := translog.Read(dir, nil)
	if err != nil {
		return err
	}
	index, err := r.Find(manifest.LogEntry(d.draft.Manifest(), d.draft.Digest()))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	proof, err := r.Prove(index, policy)
	if err != nil {
		return err
	}
	return p.write(cmd, r, file, index, proof, note)
}

// provenJSON is what machines read of a proof that was written.
type provenJSON struct {
	Cosigners []string `json:"cosigners"` // names on the lines; verified under a policy only
	Index     int64    `json:"index"`
	Origin    string   `json:"origin"`
	Policy    bool     `json:"policy"` // a policy was given, and accepts the proof
	Proof     string   `json:"proof"`
	Size      int64    `json:"size"`
}

func (p proving) write(cmd *cobra.Command, r *translog.Reader, file string, index int64, proof *translog.Proof, note string) error {
	out := p.out
	if out == "" {
		out = strings.TrimSuffix(file, ".json") + ".tlog-proof"
	}
	if err := replace(out, proof.Bytes); err != nil {
		return err
	}
	cosigners := slices.Concat([]string{}, proof.Cosigners)
	if p.format == "json" {
		return writeJSON(cmd.OutOrStdout(), provenJSON{cosigners, index, r.Key().Name(), p.policy != "", out, proof.Size})
	}
	by := "nobody yet"
	if len(cosigners) > 0 {
		by = term.Clean(strings.Join(cosigners, ", "))
	}
	return table(cmd.OutOrStdout(), []string{
		fmt.Sprintf("%s\tentry %d of %s, %s", file, index, r.Key().Name(), note),
		fmt.Sprintf("%s\tthe proof, in the tree of size %d", out, proof.Size),
		"cosigned by\t" + by,
	})
}

// witnessing is one witness looking at a log.
type witnessing struct {
	keeping
	name, log string
}

func newLogCosign(cfg Config) *cobra.Command {
	var w witnessing
	cmd := &cobra.Command{
		Use: "cosign DIR", Short: "As a witness: check that the log only grew, and say so", Args: arguments(1, 1, "the folder of the log"),
		Long: `Checks that the log in DIR continues what this witness saw last, remembers its
new checkpoint, and signs it with the time. The signature is a file below
DIR/cosignatures; if DIR is a copy, carry that file back to the log's keeper.

The first time, say which log it is: its vkey, learnt from its keeper in person, and
--first. Keep the file of --state: a witness who forgets can be deceived.`,
		Example: `  phase release log cosign log --key w1.key --name w1.example --first --log log.vkey
  phase release log cosign log --key w1.key --name w1.example`,
		RunE: func(cmd *cobra.Command, args []string) error {
			w.attend(cmd, cfg)
			return w.run(cmd, cfg, args[0])
		},
	}
	w.keeping.flags(cmd, "witness")
	cmd.Flags().StringVar(&w.name, "name", "", "`name` of the witness in its signatures, such as witness.example/w1")
	cmd.Flags().StringVar(&w.log, "log", "", "vkey of the log, or `file` with it; needed with --first")
	cmd.Flags().BoolVar(&w.first, "first", false, "this witness has never seen the log: begin the --state file")
	return cmd
}

func (w *witnessing) run(cmd *cobra.Command, cfg Config, dir string) error {
	path, err := w.memory(cmd, dir)
	if err != nil {
		return err
	}
	if w.name == "" {
		return needFlag(cmd, "--name", "the name of the witness")
	}
	memory, err := memoryOf(cmd, path, w.log, w.first)
	if err != nil {
		return err
	}
	return w.open(fmt.Sprintf("Cosign the log in %s with %s, if it continues what was seen before?", dir, w.key), func(key ed25519.PrivateKey) error {
		c, err := translog.Witness{Memory: memory, Name: w.name, Key: key}.Cosign(dir, cfg.today())
		if err != nil {
			return err
		}
		if w.format == "json" {
			return writeJSON(cmd.OutOrStdout(), keptJSON{c.Tree.Size, c.Path, c.Key.String(), c.Tree.Origin, path})
		}
		return table(cmd.OutOrStdout(), []string{
			fmt.Sprintf("%s\tcosigned %s at %d entries", c.Path, c.Tree.Origin, c.Tree.Size),
			path + "\tremembers it; keep it and a copy of it with the key",
			"vkey\t" + c.Key.String(),
		})
	})
}

// memoryOf reads the flags of those who remember a log: --state, --log, --first.
func memoryOf(cmd *cobra.Command, path, log string, first bool) (translog.Memory, error) {
	m := translog.Memory{Path: path, First: first}
	if first && log == "" {
		return m, needFlag(cmd, "--log", "the vkey of the log, which --first begins to follow,")
	}
	var err error
	m.Log, err = logKey(log)
	return m, err
}

// readVkey reads a public key that was given as it is, or as a file that holds
// it.
func readVkey(flag, given string) (*logproof.Key, error) {
	key, err := logproof.ParseKey(given)
	if err == nil {
		return key, nil
	}
	raw, readErr := release.ReadDocument(given)
	if readErr != nil {
		return nil, usage("%s %q is neither a vkey (%w) nor a file with one", flag, given, err)
	}
	if key, err = logproof.ParseKey(strings.TrimSpace(string(raw))); err != nil {
		return nil, usage("%s %s: %w", flag, given, err)
	}
	return key, nil
}

// logKey reads --log, which may be left out.
func logKey(given string) (*logproof.Key, error) {
	if given == "" {
		return nil, nil
	}
	key, err := readVkey("--log", given)
	if err == nil && key.Type() != logproof.LogKey {
		return nil, usage("--log %s: this is the key of a witness", given)
	}
	return key, err
}

func newLogVkey() *cobra.Command {
	var name, out string
	var witness bool
	cmd := &cobra.Command{
		Use: "vkey FILE.pub", Short: "Write a public key as policies and witnesses name it", Args: arguments(1, 1, "the public key"),
		Example: `  phase release log vkey w1.pub --witness --name w1.example --out w1.vkey`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if name == "" {
				return needFlag(cmd, "--name", "the name of the log or witness")
			}
			public, err := keyfile.ReadPublic(args[0])
			if err != nil {
				return err
			}
			kind := logproof.LogKey
			if witness {
				kind = logproof.WitnessKey
			}
			key, err := logproof.NewKey(name, kind, public)
			if err != nil {
				return usage("--name: %w", err)
			}
			return writeText(cmd, out, key.String()+"\n")
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "origin of the log, or `name` of the witness")
	cmd.Flags().BoolVar(&witness, "witness", false, "the key of a witness, not of a log")
	cmd.Flags().StringVarP(&out, "out", "o", "", "new `file` to write (default: standard output)")
	return cmd
}

func newLogPolicy() *cobra.Command {
	var witnesses []string
	var need int
	var out string
	cmd := &cobra.Command{
		Use: "policy DIR", Short: "Write a log policy to start from, for media to carry", Args: arguments(1, 1, "the folder of the log"),
		Long: `Writes a C2SP tlog-policy: the key of the log in DIR, the witnesses whose vkeys
are given, and how many of them must have cosigned. Learn their vkeys from them in
person. Without witnesses the keeper of the log alone is believed.`,
		Example: `  phase release log policy log --witness w1.vkey --witness w2.vkey --need 2 --out log-policy`,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := translog.Read(args[0], nil)
			if err != nil {
				return err
			}
			text, err := policyText(r.Key(), witnesses, need)
			if err != nil {
				return err
			}
			return writeText(cmd, out, text)
		},
	}
	cmd.Flags().StringArrayVar(&witnesses, "witness", nil, "vkey of a witness, or `file` with it; repeatable")
	cmd.Flags().IntVar(&need, "need", 0, "how many witnesses must have cosigned (default: more than half)")
	cmd.Flags().StringVarP(&out, "out", "o", "", "new `file` to write (default: standard output)")
	return cmd
}

// writeText writes a new file, or to standard output if none was named.
func writeText(cmd *cobra.Command, out, text string) error {
	if out != "" {
		return writeNew(out, []byte(text))
	}
	_, err := fmt.Fprint(cmd.OutOrStdout(), text)
	return err
}

// policyText is a policy that the verifier reads.
func policyText(log *logproof.Key, witnesses []string, need int) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "# Which releases count as logged, C2SP tlog-policy.\nlog %s\n", log)
	var names []string
	for _, vkey := range witnesses {
		key, err := readVkey("--witness", vkey)
		if err != nil {
			return "", err
		}
		names = append(names, key.Name())
		fmt.Fprintf(&b, "witness %s %s\n", key.Name(), key)
	}
	switch {
	case need < 0:
		return "", usage("--need %d: a number of witnesses", need)
	case len(names) == 0 && need == 0:
		b.WriteString("# No witness: the log alone is believed.\nquorum none\n")
	case len(names) == 1 && need <= 1:
		fmt.Fprintf(&b, "quorum %s\n", names[0])
	default:
		fmt.Fprintf(&b, "group witnesses %d %s\nquorum witnesses\n", orMajority(need, len(names)), strings.Join(names, " "))
	}
	if _, err := logproof.ParsePolicy([]byte(b.String())); err != nil {
		return "", usage("%w", err)
	}
	return b.String(), nil
}
