package node_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/dispatch"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/quorum"
)

// slowHello works for a moment and writes a line.
const slowHello = `(module ` + wasi + ` (data (i32.const 64) "the right answer\n") (func (export "_start") (local $n i32)
	loop $more
		local.get $n i32.const 1 i32.add local.tee $n i32.const 400000000 i32.ne br_if $more
	end
	i32.const 0 i32.const 64 i32.store
	i32.const 4 i32.const 17 i32.store
	i32.const 1 i32.const 0 i32.const 1 i32.const 8 call $fd_write drop))`

const rightAnswer = "the right answer\n"

// town is a network of nodes, each on a machine of its own, with the submitter at
// the switch.
type town struct {
	*testing.T
	here  *nettest.Host
	key   ed25519.PrivateKey // of the submitter
	dir   string
	hosts []*nettest.Host
	peers []peer.Peer
	fates map[string]quorum.Fate // that each must have, by its key
}

// machines makes so many of them, with addresses from 10.77.0.2 on.
func (w *town) machines(count int) {
	w.Helper()
	w.here.Up("lo")
	var ports []string
	for i := range count {
		h := nettest.NewHost(w.T, fmt.Sprint("node", i))
		port := fmt.Sprint("port", i)
		nettest.Cable(nettest.End{Host: w.here, Device: port}, nettest.End{Host: h, Device: "eth0"})
		h.Address("eth0", fmt.Sprintf("10.77.0.%d/24", i+2))
		h.Up("eth0")
		w.hosts, ports = append(w.hosts, h), append(ports, port)
	}
	w.here.Bridge("lan", nettest.Switch{}, ports...)
	w.here.Address("lan", "10.77.0.1/24")
}

// next is the machine for the next node, and the address to listen on.
func (w *town) next() (*nettest.Host, string) {
	i := len(w.peers)
	return w.hosts[i], fmt.Sprintf("/ip4/10.77.0.%d/tcp/4001", i+2)
}

// honest starts a plasmd.
func (w *town) honest(fate quorum.Fate) *node {
	w.Helper()
	host, listen := w.next()
	n := newNode(w, map[string]any{"listen_addrs": []string{listen}}, w.key)
	n.host = host
	n.start()
	w.peers = append(w.peers, peer.Peer{Key: n.key, Addrs: []string{listen}})
	w.fates[job.FormatKey(n.key)] = fate
	return n
}

// bad starts a node that cheats.
func (w *town) bad(how string, fate quorum.Fate) {
	w.Helper()
	host, listen := w.next()
	dir := filepath.Join(w.dir, how)
	nettest.Check(w, os.Mkdir(dir, 0o755))
	cmd := exec.Command("/proc/self/exe", badCommand, how, dir, listen, job.FormatKey(publicOf(w.key)))
	cmd.Env = append(os.Environ(), builtVar+"="+programs.dir)
	line := host.StartCommand("", cmd).Await(readyLine)
	var p peer.Peer
	nettest.Check(w, json.Unmarshal([]byte(strings.TrimPrefix(line, readyLine)), &p))
	p.Addrs = []string{listen}
	w.peers = append(w.peers, p)
	w.fates[job.FormatKey(p.Key)] = fate
}

// beacon is one by which an honest node is the farthest from the job, so that all
// cheats are asked before there is a quorum.
func (w *town) beacon(id blob.Digest) []byte {
	w.Helper()
	var nodes []quorum.Node
	for _, p := range w.peers {
		nodes = append(nodes, quorum.Node{Key: p.Key})
	}
	for i := range uint64(10_000) {
		beacon := binary.BigEndian.AppendUint64(make([]byte, 24), i)
		order := quorum.Choose(id, beacon, nodes)
		if w.fates[job.FormatKey(order[len(order)-1].Key)] == quorum.Agreed {
			return beacon
		}
	}
	w.Fatal("no such beacon")
	return nil
}

// gossip is a client that lets the world know the first honest commitment, so that
// somebody can copy it.
type gossip struct {
	*jobpeer.Client
	honest func(ed25519.PublicKey) bool
	leak   string
	once   *sync.Once
}

// Commit is Client.Commit.
func (g gossip) Commit(ctx context.Context, p peer.Peer, envelope []byte, tell func(job.Status)) ([]byte, error) {
	raw, err := g.Client.Commit(ctx, p, envelope, tell)
	if err == nil && g.honest(p.Key) {
		g.once.Do(func() { err = durable.WriteFile(g.leak, raw, 0o644) })
	}
	return raw, err
}

// TestQuorumAmongCheats: of eight nodes one lies, one copies, one stalls, one dies
// within the job and one is cut off from the network. The three that are left make
// a quorum; its statement says of each what it did, and names the liar. The one
// that died owes its job an end when it lives again.
func TestQuorumAmongCheats(t *testing.T) {
	if !nettest.Isolated(t, nettest.Config{Timeout: 5 * time.Minute, Env: []string{builtVar + "=" + programs.dir}}) {
		return
	}
	w := &town{T: t, here: nettest.Here(t), key: newKey(t), fates: map[string]quorum.Fate{}}
	var err error
	w.dir, err = os.MkdirTemp("", "phase-town")
	nettest.Check(t, err)
	t.Cleanup(func() { os.RemoveAll(w.dir) })
	nettest.Check(t, os.Chmod(w.dir, 0o755))
	w.machines(8)
	w.bad(lies, quorum.Dissented)
	w.bad(copies, quorum.Copied)
	w.bad(stalls, quorum.Stalled)
	dies, cutOff := w.honest(quorum.Silent), w.honest(quorum.Silent)
	for range 3 {
		w.honest(quorum.Agreed)
	}
	module := assemble(t, slowHello)
	j := newJob(t, blob.Of(module), func(s *job.Spec) { s.Limits.DeadlineMS = 15_000 })
	answer := w.run(j, module, func(e dispatch.Event) {
		switch {
		case e.Round == 0 || e.Stage != job.Running:
		case e.Node == job.FormatKey(dies.key):
			_ = syscall.Kill(dies.pid, syscall.SIGKILL)
		case e.Node == job.FormatKey(cutOff.key):
			cutOff.host.Down("eth0")
		}
	})
	w.judge(j, answer)
	<-dies.ended
	dies.start()
	for _, n := range []*node{dies, cutOff} {
		w.paid(n, j.ID())
	}
}

// run gives the job to the town.
func (w *town) run(j *job.Job, module []byte, tell func(dispatch.Event)) *dispatch.Answer {
	w.Helper()
	n, err := p2p.New(p2p.Config{})
	nettest.Check(w, err)
	w.Cleanup(func() { n.Close() })
	client := gossip{
		Client: &jobpeer.Client{Open: n.Open, Submitter: publicOf(w.key)},
		honest: func(key ed25519.PublicKey) bool { return w.fates[job.FormatKey(key)] == quorum.Agreed },
		leak:   filepath.Join(w.dir, "leak"), once: &sync.Once{},
	}
	answer, err := dispatch.Run(w.Context(), client, dispatch.Job{Job: j, Module: module, Key: w.key}, dispatch.Options{
		Nodes: w.peers, Replicas: 5, Quorum: 3, MaxNodes: len(w.peers), Beacon: w.beacon(j.ID()), Grace: 10 * time.Second,
		AskTime: patience, Tell: func(e dispatch.Event) { w.Logf("%.20s round %d: %s %s", e.Node, e.Round, e.What, e.Stage); tell(e) },
	})
	nettest.Check(w, err)
	return answer
}

// judge verifies the statement from its bytes, and holds it against what happened.
func (w *town) judge(j *job.Job, answer *dispatch.Answer) {
	w.Helper()
	nettest.Check(w, same(answer.Stdout, []byte(rightAnswer)))
	var nodes []quorum.Node
	for _, p := range w.peers {
		nodes = append(nodes, quorum.Node{Key: p.Key})
	}
	v, err := quorum.Verify(answer.Quorum, quorum.Expectation{
		Nodes: nodes, JobID: j.ID(), Submitter: publicOf(w.key), Stdout: blob.Of([]byte(rightAnswer)),
	})
	nettest.Check(w, err)
	if v.Outcome.Votes != 3 || answer.Agreed != 3 || len(v.Outcome.Nodes) != len(w.peers) {
		w.Errorf("%d votes, %d nodes", v.Outcome.Votes, len(v.Outcome.Nodes))
	}
	for _, s := range v.Outcome.Nodes {
		if want := w.fates[job.FormatKey(s.Node)]; s.Fate != want {
			w.Errorf("%s is said to have %s (%s), and has %s", job.FormatKey(s.Node), s.Fate, s.Why, want)
		}
	}
	w.verifies(j, answer)
	bent := bytes.Replace(answer.Quorum, []byte(`"payload":"`), []byte(`"payload":"AAAA`), 1)
	if _, err := quorum.Verify(bent, quorum.Expectation{Nodes: nodes, JobID: j.ID()}); err == nil {
		w.Error("a changed statement is accepted")
	}
}

// verifies: phase job verify accepts the statement, and says of each node what it did.
func (w *town) verifies(j *job.Job, answer *dispatch.Answer) {
	w.Helper()
	file, out := filepath.Join(w.dir, "quorum.json"), filepath.Join(w.dir, "out")
	nettest.Check(w, os.WriteFile(file, answer.Quorum, 0o600))
	nettest.Check(w, os.WriteFile(out, answer.Stdout, 0o600))
	args := []string{"job", "verify", file, "--job", j.ID().String(), "--stdout", out, "--format", "json"}
	for _, p := range w.peers {
		args = append(args, "--node-key", job.FormatKey(p.Key))
	}
	raw, err := exec.CommandContext(w.Context(), programs.phase, args...).Output()
	if err != nil {
		w.Fatalf("phase job verify: %v\n%s", err, raw)
	}
	var said struct {
		Verdict string
		Nodes   []struct {
			Node string
			Fate quorum.Fate
		}
	}
	nettest.Check(w, json.Unmarshal(raw, &said))
	for _, n := range said.Nodes {
		if want := w.fates[n.Node]; n.Fate != want {
			w.Errorf("phase job verify says that %s has %s, and not %s", n.Node, n.Fate, want)
		}
	}
	if said.Verdict != "ACCEPT" || len(said.Nodes) != len(w.peers) {
		w.Errorf("phase job verify says %s", raw)
	}
}

// paid: the node gives a job that it accepted an end, although it was killed or cut
// off meanwhile.
func (w *town) paid(n *node, id blob.Digest) {
	w.Helper()
	for late := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		status, err := n.client.Get(w.Context(), id)
		nettest.Check(w, err)
		if status.Stage == job.Ended || status.Stage == job.Committed {
			w.Logf("the job is %s with %+v", status.Stage, status.End)
			return
		}
		if time.Now().After(late) {
			w.Fatalf("the job is still %s", status.Stage)
		}
	}
}
