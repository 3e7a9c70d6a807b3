package main

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/internal/wasm"
)

// A finding is what plasmd doctor says of one thing.
type finding struct {
	Name   string  `json:"name"`
	State  verdict `json:"state"`
	Detail string  `json:"detail"`
	Hint   string  `json:"hint,omitempty"`
}

type verdict string

const (
	fine   verdict = "ok"
	noted  verdict = "note"  // the node works without, or with less
	faulty verdict = "fault" // the node does not work
)

// examination is what --format json prints.
type examination struct {
	OK       bool      `json:"ok"` // nothing is faulty
	Findings []finding `json:"findings"`
}

// doctorFlags are those of plasmd doctor.
type doctorFlags struct {
	config, state, format string
	dial, configOnly      bool
}

func newDoctor() *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what a node lacks on this machine",
		Long: `Looks at the configuration, the folder of the node's state, the room on its disk, the
clock, the ports, the walls around jobs, and how the node would reach the network.
It changes nothing, and contacts nobody unless --dial is given.
With --config-only it looks at the configuration alone, which may be meant for
another machine.
"note" marks what the node can do without. Exit status: 0 the node can work, 1 it
cannot, 2 wrong usage. Run it as the user who runs the node: root for the service.`,
		Example: "  sudo plasmd doctor\n  plasmd doctor --config node.json --state /srv/plasm --format json",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.format != "text" && f.format != "json" {
				return usageError{fmt.Errorf("--format %q is neither text nor json", f.format)}
			}
			return f.examine(cmd.Context(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "configuration file (default ~/.config/plasm/config.json, then "+systemConfig+")")
	stateFlag(cmd, &f.state, "folder of identity, receipts and modules")
	cmd.Flags().BoolVar(&f.configOnly, "config-only", false, "look at the configuration and nothing else")
	cmd.Flags().BoolVar(&f.dial, "dial", false, "connect to the peers of the configuration")
	cmd.Flags().StringVarP(&f.format, "format", "f", "text", "text or json")
	return cmd
}

func (f *doctorFlags) examine(ctx context.Context, out io.Writer) error {
	cfg, path, err := loadConfig(f.config)
	found := []finding{lookAtConfig(path, err)}
	if err != nil {
		cfg = defaultConfig()
	}
	if !f.configOnly {
		found = append(found, f.lookAround(ctx, cfg)...)
	}
	e := examination{OK: true, Findings: found}
	for _, one := range found {
		e.OK = e.OK && one.State != faulty
	}
	if err := e.print(out, f.format); err != nil {
		return err
	}
	if !e.OK {
		return exitStatus(1)
	}
	return nil
}

// lookAround is what there is to say of this machine.
func (f *doctorFlags) lookAround(ctx context.Context, cfg config) []finding {
	found := []finding{lookAtState(f.state), lookAtKey(filepath.Join(f.state, "node.key")), lookAtRoom(f.state), lookAtClock(time.Now())}
	already, runs := lookAtNode(cfg)
	found = append(found, already)
	for _, addr := range cfg.ListenAddrs {
		found = append(found, lookAtPort(addr, runs))
	}
	if cfg.MetricsAddr != "" {
		found = append(found, lookAtAddr("metrics", cfg.MetricsAddr, runs))
	}
	if cfg.PageAddr != "" {
		found = append(found, lookAtAddr("status page", cfg.PageAddr, runs))
	}
	found = append(found, lookAtNetwork(cfg))
	if f.dial {
		for _, addr := range cfg.bootstrap() {
			found = append(found, dialPeer(ctx, addr))
		}
	}
	return append(found, lookAtJobs(ctx, cfg)...)
}

func (e examination) print(out io.Writer, format string) error {
	if format == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(e)
	}
	for _, f := range e.Findings {
		line := fmt.Sprintf("%-6s %s: %s\n", f.State, f.Name, plain(f.Detail))
		if f.Hint != "" {
			line += "       " + f.Hint + "\n"
		}
		if _, err := io.WriteString(out, line); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "\n%s\n", e.summary())
	return err
}

func lookAtConfig(path string, err error) finding {
	switch {
	case err != nil:
		return finding{"configuration", faulty, err.Error(), (&configError{}).Hint()}
	case path == "":
		return finding{"configuration", fine, "there is none; the default applies", ""}
	}
	return finding{"configuration", fine, path, ""}
}

// lookAtState asks whether the node could write there, without doing so.
func lookAtState(dir string) finding {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return finding{"state", noted, dir + " does not exist", "The node makes it when it starts."}
	case err != nil:
		return finding{"state", faulty, err.Error(), "Choose another folder with --state, or run this as the node's user."}
	case !info.IsDir():
		return finding{"state", faulty, dir + " is no folder", "Choose another folder with --state."}
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return finding{"state", faulty, fmt.Sprintf("%s cannot be written to: %v", dir, err), "Run this as the node's user, or give the folder to that user."}
	}
	return finding{"state", fine, dir, ""}
}

func lookAtKey(path string) finding {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return finding{"identity", noted, "there is none yet", "The node makes one when it starts."}
	case errors.Is(err, fs.ErrPermission):
		return finding{"identity", noted, err.Error(), "Run this as the node's user."}
	case err != nil:
		return finding{"identity", faulty, err.Error(), (&node.KeyError{}).Hint()}
	case info.Mode().Perm()&0o077 != 0:
		return finding{"identity", faulty, fmt.Sprintf("others may read %s", path), "Take the right away with chmod 600; who has read the key can sign as this node."}
	}
	if _, err := node.LoadOrCreateKey(path); err != nil { // it is there: nothing is made
		return finding{"identity", faulty, err.Error(), (&node.KeyError{}).Hint()}
	}
	return finding{"identity", fine, path, ""}
}

// What a node should have on its disk, in bytes: for modules and receipts.
const (
	littleRoom = 1 << 30
	noRoom     = 64 << 20
)

// lookAtRoom measures the nearest folder that exists.
func lookAtRoom(dir string) finding {
	var s unix.Statfs_t
	err := unix.Statfs(dir, &s)
	for err == unix.ENOENT && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		err = unix.Statfs(dir, &s)
	}
	if err != nil {
		return finding{"disk", noted, fmt.Sprintf("%s: %v", dir, err), "Run this as the node's user."}
	}
	free := int64(s.Bavail) * int64(s.Bsize)
	detail := fmt.Sprintf("%s free at %s", size(free), dir)
	switch {
	case free < noRoom:
		return finding{"disk", faulty, detail, "Make room: modules and receipts cannot be kept."}
	case free < littleRoom:
		return finding{"disk", noted, detail, "Make room for modules and receipts, 1 GiB or more."}
	}
	return finding{"disk", fine, detail, ""}
}

// lookAtClock compares with the date of the sources, and asks the kernel whether
// anybody keeps the clock right.
func lookAtClock(now time.Time) finding {
	text := now.UTC().Format(time.RFC3339)
	if now.Before(sourcesTime()) {
		return finding{"clock", faulty, text + " is before this program was made", "Set the clock: signatures would count as not yet or no longer valid."}
	}
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err == nil && t.Status&unix.STA_UNSYNC != 0 {
		return finding{"clock", noted, text + ", and nothing keeps it right", "Run systemd-timesyncd or chrony, unless the machine's host sets the clock."}
	}
	return finding{"clock", fine, text, ""}
}

// lookAtPort opens what the node would listen on, and closes it.
func lookAtPort(addr string, runs bool) finding {
	name, hostPort := "port "+addr, tcpOf(addr)
	if hostPort == "" {
		return finding{name, noted, "not looked at: it is no address of TCP", ""}
	}
	l, err := net.Listen("tcp", hostPort)
	switch {
	case errors.Is(err, unix.EADDRINUSE) && runs:
		return finding{name, fine, "taken, as a node runs here", ""}
	case errors.Is(err, unix.EADDRINUSE):
		return finding{name, noted, "taken", "Stop who has it, or change listen_addrs: with no address left the node does not start."}
	case errors.Is(err, unix.EAFNOSUPPORT):
		return finding{name, noted, "this machine has no such addresses", ""}
	case err != nil:
		return finding{name, faulty, err.Error(), "Change listen_addrs in the configuration."}
	}
	l.Close()
	return finding{name, fine, "free", ""}
}

// tcpOf reads /ip4/…/tcp/… and its like, as far as Go can dial it; "" for others.
func tcpOf(addr string) string {
	parts := strings.Split(addr, "/")
	if len(parts) < 5 || parts[0] != "" || parts[3] != "tcp" {
		return ""
	}
	switch parts[1] {
	case "ip4", "ip6", "dns", "dns4", "dns6":
		return net.JoinHostPort(parts[2], parts[4])
	}
	return ""
}

// lookAtNetwork says how the node would find others, and contacts nobody.
func lookAtNetwork(cfg config) finding {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return finding{"network", noted, err.Error(), ""}
	}
	global := 0
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() {
			global++
		}
	}
	peers := len(cfg.bootstrap())
	detail := fmt.Sprintf("%s of this machine, %s to start from, listens on %d", addresses(global), count(peers, "peer"), len(cfg.ListenAddrs))
	switch {
	case global == 0:
		return finding{"network", noted, detail, "Without a network the node runs only jobs that are given to it here."}
	case peers == 0:
		return finding{"network", noted, detail, "Nobody is asked where others are: name peers in bootstrap_peers, or let them name this node."}
	}
	return finding{"network", fine, detail, ""}
}

func addresses(n int) string {
	if n == 1 {
		return "1 address"
	}
	return fmt.Sprintf("%d addresses", n)
}

// dialTimeout is how long a peer may take to accept.
const dialTimeout = 10 * time.Second

func dialPeer(ctx context.Context, addr string) finding {
	name, hostPort := "peer "+addr, tcpOf(addr)
	if hostPort == "" {
		return finding{name, noted, "not dialled: DNS says where it is", ""}
	}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", hostPort)
	if err != nil {
		return finding{name, noted, err.Error(), "The node goes on trying; name other peers if this one is gone."}
	}
	conn.Close()
	return finding{name, fine, "accepts connections", ""}
}

// lookAtJobs runs a job that does nothing, and compares the walls around it with all
// that there are.
func lookAtJobs(ctx context.Context, cfg config) []finding {
	empty, err := emptyFolder()
	if err != nil {
		return []finding{{"jobs", faulty, err.Error(), "Make room in the folder for temporary files."}}
	}
	defer os.Remove(empty)
	box, err := sandbox(empty)
	if err != nil {
		return []finding{{"jobs", faulty, err.Error(), ""}}
	}
	group := finding{"control groups", fine, "jobs are bounded by those of this service", ""}
	if box.Cgroup, err = wasm.DelegatedCgroup(); err != nil {
		group = finding{"control groups", noted, err.Error(), "The service has them: its unit asks for Delegate=yes. A command in a shell has none."}
	}
	res, err := node.Probe(ctx, box, cfg.nodeLimits())
	if err != nil {
		return []finding{{"jobs", faulty, err.Error(), "No job can run here; the detail says what this machine refused."}}
	}
	required := lookAtRequired(cfg, res.Walls, box.Cgroup != "")
	found := []finding{group, required, {"jobs", fine, fmt.Sprintf("one that does nothing ran, in a jail that took %s", res.Timings.Spawn.Round(100*time.Microsecond)), ""}}
	stands := map[string]bool{}
	for _, wall := range res.Walls {
		stands[wall] = true
	}
	for _, wall := range wasm.AllWalls {
		if stands[wall] {
			found = append(found, finding{"wall " + wall, fine, "stands", ""})
		} else {
			found = append(found, finding{"wall " + wall, noted, "is missing", whyNoWall(wall, box.Exe)})
		}
	}
	return found
}

// whyNoWall is what most often keeps a wall away. Receipts do not name it then.
// jail is the program in which guests are jailed.
func whyNoWall(wall, jail string) string {
	switch {
	case os.Geteuid() != 0 && !strings.HasPrefix(wall, "landlock") && wall != wasm.WallSeccomp:
		return "Only root can have it: run the node as the service does."
	case strings.HasPrefix(wall, "landlock"):
		return whyNoLandlock(wall, jail, wasm.LandlockVersion())
	case strings.HasPrefix(wall, "cgroup"):
		return "This command has no control group of its own. The service has one (Delegate=yes) where control groups are of version 2; receipts name this wall where it stood."
	case wall == wasm.WallSeccomp:
		return "The kernel has no seccomp filters, or who started this process forbids them."
	case strings.HasSuffix(wall, "namespace"):
		return "The kernel or the container around this process forbids new namespaces."
	}
	return "The kernel or the container around this process refuses it."
}

// landlockSince are the versions of Landlock that brought its walls, and landlockC the
// one that walls in programs with C in them. Source: landlock(7), "VERSIONS".
var landlockSince = map[string]int{wasm.WallFiles: 1, wasm.WallTCP: 4, wasm.WallScopes: 6}

const landlockC = 8

// whyNoLandlock tells a kernel that cannot from a program that was built so that the
// kernel cannot.
func whyNoLandlock(wall, jail string, version int) string {
	switch {
	case version == 0:
		return "The kernel has no Landlock, or it is not in its list of security modules (/sys/kernel/security/lsm)."
	case version < landlockSince[wall]:
		return fmt.Sprintf("The kernel's Landlock is of version %d; this wall needs version %d.", version, landlockSince[wall])
	case version < landlockC && builtWithC(jail):
		return fmt.Sprintf("%s was built with cgo: Landlock binds all threads of such a program from version %d on, and this kernel's is %d. Build it with CGO_ENABLED=0, as the releases are.", jail, landlockC, version)
	}
	return "The kernel or the container around this process refuses it."
}

// builtWithC reports whether a Go program says that it was built with cgo.
func builtWithC(path string) bool {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return false
	}
	for _, s := range info.Settings {
		if s.Key == "CGO_ENABLED" {
			return s.Value == "1"
		}
	}
	return false
}
