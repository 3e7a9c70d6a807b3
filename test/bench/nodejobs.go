package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/receipt"
)

// nodeRest is the pause between jobs that are measured alone, in which a node makes
// its next jail ready. Nothing outside tells when it is. A used jail needs none; after a
// pause the machine's caches are cold and its processors asleep, which is measured too.
const nodeRest = 40 * time.Millisecond

// realNode is a plasmd of its own process that listens on loopback and takes the jobs
// of one submitter, besides those of its socket.
type realNode struct {
	cmd    *exec.Cmd
	dir    string
	socket *jobapi.Client
	peer   peer.Peer
	key    ed25519.PublicKey
	log    bytes.Buffer
}

// startNode starts a node whose jails serve so many jobs each.
func startNode(ctx context.Context, submitter ed25519.PublicKey, jobsPerJail int) (*realNode, error) {
	exe, err := filepath.Abs(filepath.Join("build", "bin", "plasmd"))
	if err != nil {
		return nil, err
	}
	n := &realNode{}
	if n.dir, err = os.MkdirTemp("", "phase-bench"); err != nil { // a socket's path is short
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	address, socket := fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port), filepath.Join(n.dir, "s")
	config, err := json.Marshal(map[string]any{
		"listen_addrs": []string{address}, "job_socket": socket, "serve_port": 0, "max_concurrent_jobs": jobWorkers,
		"submitters": []string{job.FormatKey(submitter)}, "max_per_submitter": 0, "jobs_per_jail": jobsPerJail,
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(n.dir, "config.json"), config, 0o600)
	}
	if err != nil {
		return nil, err
	}
	n.cmd = exec.CommandContext(ctx, exe, "start", "-c", filepath.Join(n.dir, "config.json"), "--state", filepath.Join(n.dir, "state"))
	n.cmd.Stdout, n.cmd.Stderr, n.cmd.Env = &n.log, &n.log, []string{"HOME=" + n.dir, "PATH=" + os.Getenv("PATH")}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	n.socket = jobapi.NewClient(socket)
	if err := n.meet(ctx, address); err != nil {
		return nil, errors.Join(err, n.stop())
	}
	return n, nil
}

// meet waits for the node and asks for its key.
func (n *realNode) meet(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		nodes, err := n.socket.Nodes(ctx)
		if err == nil && len(nodes) > 0 {
			n.key, err = job.ParseKey(nodes[0].Key)
			n.peer = peer.Peer{Key: n.key, Addrs: []string{address}}
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the node does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (n *realNode) stop() error {
	n.socket.Close()
	err := n.cmd.Process.Signal(syscall.SIGTERM)
	_ = n.cmd.Wait() // its status says nothing that its answers have not said
	return errors.Join(err, os.RemoveAll(n.dir))
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// carrier brings hello jobs to a node in one of the ways, and checks their answers.
type carrier struct {
	node   *realNode
	key    ed25519.PrivateKey // of the submitter
	module []byte
	client *jobpeer.Client
	remote bool // over libp2p
}

// hello is the hello job once more; a node runs a job once.
func (c *carrier) hello() (*job.Job, error) {
	return job.New(job.Spec{Version: job.SpecVersion, Module: blob.Of(c.module), Args: []string{helloArg}, Nonce: rand.Text()})
}

// carry makes a job, and gives the time from handing it in to its verified answer.
func (c *carrier) carry(ctx context.Context) (time.Duration, error) {
	j, err := c.hello()
	if err != nil {
		return 0, err
	}
	if !c.remote {
		began := time.Now()
		err := c.byOwnSocket(ctx, j)
		return time.Since(began), err
	}
	envelope, err := job.SignSubmission(j, c.node.key, time.Now().Add(time.Hour), c.key)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	answer, err := c.client.Submit(ctx, c.node.peer, envelope, nil)
	if err != nil {
		return 0, err
	}
	err = c.check(j, answer.Receipt, answer.Stdout)
	return time.Since(began), err
}

// byOwnSocket does what phase job run does.
func (c *carrier) byOwnSocket(ctx context.Context, j *job.Job) error {
	done, err := c.node.socket.Run(ctx, jobapi.TypeSpec, j.Payload(), func(job.Status) {})
	if err != nil {
		return err
	}
	if done.Status.End.Failure != nil {
		return fmt.Errorf("the job ended as %+v", done.Status.End)
	}
	return c.check(j, done.Receipt, done.Stdout)
}

func (c *carrier) check(j *job.Job, raw, stdout []byte) error {
	r, err := receipt.Verify(raw, c.node.key)
	switch {
	case err != nil:
		return err
	case r.Result.JobID != j.ID() || r.Result.Stdout.Digest != blob.Of(stdout) || string(stdout) != helloAnswer:
		return fmt.Errorf("the hello job ended otherwise, with %q", stdout)
	}
	return nil
}

// alone gives the median of jobs one after the other, with rests between them, in
// milliseconds.
func (c *carrier) alone(ctx context.Context, rest time.Duration) (float64, error) {
	var took []float64
	for i := range jobSamples + 3 {
		time.Sleep(rest)
		d, err := c.carry(ctx)
		if err != nil {
			return 0, err
		}
		if i >= 3 { // the first ones find nothing warm
			took = append(took, milliseconds(d))
		}
	}
	return middle(took), nil
}

// rush gives jobs per second, several at once.
func (c *carrier) rush(ctx context.Context, jobs int) (float64, error) {
	var all sync.WaitGroup
	failures, began := make([]error, jobWorkers), time.Now()
	for i := range jobWorkers {
		all.Go(func() {
			for n := 0; n < jobs/jobWorkers && failures[i] == nil; n++ {
				_, failures[i] = c.carry(ctx)
			}
		})
	}
	all.Wait()
	return float64(jobs/jobWorkers*jobWorkers) / time.Since(began).Seconds(), errors.Join(failures...)
}

// nodeFigures measures jobs through nodes as they are run: by their socket, and by
// another node on loopback; and a node's memory over many jobs. The reference is the
// same as of jobs in this process: starting /bin/true in the same namespaces.
func nodeFigures(ctx context.Context, jobs int) ([]Figure, error) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	module, err := os.ReadFile(filepath.Join("examples", "hello", "hello.wasm"))
	if err != nil {
		return nil, err
	}
	asker, err := p2p.New(p2p.Config{Key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize))})
	if err != nil {
		return nil, err
	}
	defer asker.Close()
	client := &jobpeer.Client{Open: asker.Open}
	shell, err := jailedTrue()
	if err != nil {
		return nil, err
	}
	var figures []Figure
	for _, kind := range []struct {
		name, goal  string
		jobsPerJail int
	}{{"new", "<= 1.5", 1}, {"used", "<= 0.3", 1 << 20}} {
		node, err := startNode(ctx, key.Public().(ed25519.PublicKey), kind.jobsPerJail)
		if err != nil {
			return nil, err
		}
		err = node.socket.Upload(ctx, module)
		for _, way := range []string{"its socket", "loopback libp2p"} {
			c := &carrier{node, key, module, client, way != "its socket"}
			name := "hello job through a node in a " + kind.name + " jail, by " + way
			var rested, took, rate float64
			if err == nil {
				rested, err = c.alone(ctx, nodeRest)
			}
			if took = rested; err == nil && kind.jobsPerJail > 1 {
				took, err = c.alone(ctx, 0)
				figures = append(figures, Figure{name + ", after a rest", rested, "ms", shell, rested / shell, ""})
			}
			if err == nil {
				rate, err = c.rush(ctx, jobRushes)
			}
			figures = append(figures, Figure{name, took, "ms", shell, took / shell, kind.goal},
				Figure{"hello jobs through a node in " + kind.name + " jails, by " + way + ", two at once", rate, "/s", 0, 0, ""})
		}
		if err == nil && kind.jobsPerJail > 1 {
			var grown []Figure
			grown, err = (&carrier{node, key, module, client, false}).memory(ctx, jobs)
			figures = append(figures, grown...)
		}
		if err := errors.Join(err, node.stop()); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, &node.log)
		}
	}
	return figures, nil
}

// memory runs many jobs, a tenth at a time, and compares the median of the node's
// memory over the second half with that over the first: a moment may fall upon the
// collector's work, or upon that of the journal, but what is lost adds up.
func (c *carrier) memory(ctx context.Context, jobs int) ([]Figure, error) {
	pid := strconv.Itoa(c.node.cmd.Process.Pid)
	var after []float64
	for range 10 {
		if _, err := c.rush(ctx, jobs/10); err != nil {
			return nil, err
		}
		after = append(after, residentMiB(pid))
	}
	fmt.Fprintf(os.Stderr, "memory of plasmd after each tenth of %d jobs: %.1f MiB\n", jobs, after)
	early, late := middle(slices.Clone(after[:5])), middle(slices.Clone(after[5:]))
	name := fmt.Sprintf("memory of plasmd over the second half of %d jobs, and over the first", jobs)
	return []Figure{{name, late, "MiB", early, late / early, "ratio <= 1.2"}}, nil
}
