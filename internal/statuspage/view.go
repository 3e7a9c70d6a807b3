package statuspage

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/statuspage/claims"
	"github.com/phasebased/phase/receipt"
)

// View is what there is to see of a node.
type View struct {
	Version string // of this program
	Key     string // of the node, as ed25519:<hex>
	PeerID  string
	Since   time.Time // start of this program
	Booted  *Booted   // nil: this is not known
	Addrs   []string
	Peers   []Peer

	Published    []Record // on the DHT
	PublishError string
	Held         int    // blobs that others find here
	Announced    string // on the local network; empty: nothing is

	Running, MaxRunning, Waiting, MaxWaiting int
	Ended, Refused                           int64

	Jobs []Job // newest first
	More int   // that were left out
	// Withheld says that of jobs only what anybody may know is here.
	Withheld bool
}

// Booted is what the machine was started with, and who signed it.
type Booted struct {
	Mode, Channel, Arch string
	Release             int64
	Digest              blob.Digest // of the signed manifest
	KeyIDs              []string    // of the keys whose signatures the seed accepted
	Tor                 bool
}

// Peer is a node that this one is connected to.
type Peer struct{ ID, Addr string }

// Record is a record of this node on the DHT.
type Record struct {
	Key         string
	At, Expires time.Time
	By          int // other nodes that confirmed it
}

// Job is a job that this node took.
type Job struct {
	job.Status
	From string // where a job came from that nobody submitted; empty: the submitter

}

// Claims are what a receipt says: names and values.
type Claims [][2]string

// ClaimsOf puts a receipt into words.
func ClaimsOf(s receipt.Statement) Claims { return claims.Of(s) }

// Bounds of what is shown.
const (
	maxJobs  = 100
	maxPeers = 100
)

func (v View) bounded() View {
	if len(v.Jobs) > maxJobs {
		v.Jobs, v.More = v.Jobs[:maxJobs], v.More+len(v.Jobs)-maxJobs
	}
	if len(v.Peers) > maxPeers {
		v.Peers = v.Peers[:maxPeers]
	}
	return v
}

// live is what changes on the page, for the script.
type live struct {
	Texts map[string]string `json:"texts"` // by the names in data-live
	Jobs  []row             `json:"jobs"`
}

// row is one job in the table.
type row struct {
	ID      string `json:"id"` // hexadecimal
	Short   string `json:"short"`
	Tone    string `json:"tone"` // good, bad or busy
	State   string `json:"state"`
	From    string `json:"from"`
	At      string `json:"at"` // RFC 3339
	When    string `json:"when"`
	Took    string `json:"took"`
	Receipt bool   `json:"receipt"`
}

func (v View) live() live {
	l := live{Texts: map[string]string{"load": v.Load(), "peers": v.Connected(), "title": v.Headline()}, Jobs: v.Rows()}
	return l
}

// Headline is for the title of the browser's tab.
func (v View) Headline() string {
	if v.Running+v.Waiting == 0 {
		return "idle"
	}
	return fmt.Sprintf("%d running", v.Running)
}

// Load is how busy the node is, in one sentence.
func (v View) Load() string {
	return fmt.Sprintf("%d of %d running, %d of %d waiting; since the start %d ended and %d refused.",
		v.Running, v.MaxRunning, v.Waiting, v.MaxWaiting, v.Ended, v.Refused)
}

// Connected says how many peers there are.
func (v View) Connected() string {
	switch len(v.Peers) {
	case 0:
		return "connected to nobody"
	case 1:
		return "connected to 1 peer"
	case maxPeers:
		return fmt.Sprintf("connected to %d peers or more", maxPeers)
	}
	return fmt.Sprintf("connected to %d peers", len(v.Peers))
}

// Rows are the jobs as the table has them.
func (v View) Rows() []row {
	rows := make([]row, 0, len(v.Jobs))
	for _, j := range v.Jobs {
		rows = append(rows, j.row())
	}
	return rows
}

func (j Job) row() row {
	r := row{
		ID: j.ID.Hex(), Short: j.ID.Hex()[:12], Tone: "busy", State: string(j.Stage), From: j.from(),
		At: j.AcceptedAt.UTC().Format(time.RFC3339), When: clock(j.AcceptedAt),
	}
	if j.End == nil {
		return r
	}
	r.Took, r.Receipt = took(j.End.EndedAt.Sub(j.AcceptedAt)), j.End.Receipt
	r.Tone, r.State = "bad", strings.ReplaceAll(string(j.End.State), "_", " ")
	switch {
	case j.End.Failure != nil:
		r.State = "no receipt: " + short(j.End.Failure.Text, 120)
	case j.End.State == job.Exited && j.End.ExitCode == 0:
		r.Tone, r.State = "good", "exited 0"
	case j.End.State == job.Exited:
		r.State = "exited " + strconv.FormatInt(j.End.ExitCode, 10)
	case j.End.State == job.Trapped && j.End.Detail != "":
		r.State = "trapped: " + short(j.End.Detail, 120)
	}
	return r
}

func (j Job) from() string {
	if j.From != "" {
		return short(j.From, 50)
	}
	key, signed := strings.CutPrefix(j.Submitter, "ed25519:")
	if signed && len(key) > 12 {
		return "key " + key[:12] + "…"
	}
	return strings.Replace(short(j.Submitter, 40), "local:", "user ", 1)
}

// short cuts a text that others wrote.
func short(text string, most int) string {
	runes := []rune(text)
	if len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func took(d time.Duration) string {
	switch {
	case d < 0:
		return ""
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
