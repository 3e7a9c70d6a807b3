package schemas_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/job"
)

func fullJob(t *testing.T) *job.Job {
	t.Helper()
	j, err := job.New(job.Spec{
		Version: job.SpecVersion, Module: blob.Of([]byte("module")), Args: []string{"Hello, World", ""},
		Env: map[string]string{"A": "b"}, Stdin: []byte("in"), Nonce: "7",
		Inputs: map[string]job.Input{"a.txt": {Digest: blob.Of([]byte("a")), Size: 1}, "none": {Digest: blob.Of(nil)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// beyondJob is to jobs and submissions what beyond is to the documents of a boot.
var beyondJob = []struct{ comment, detail string }{
	{"numbers written as plain integers", "not a plain integer"},
	{"levels", "nested too deeply"},
	{"bytes, not characters", "bytes"},
	{"a canonical point of the curve", "unusable Ed25519 public key"},
	{"The submitter is the key that signed", "this node runs no jobs of"},
	{"A day of expires_at exists", "is not of the form 2006-01-02T15:04:05Z"},
	{"it is in the future", "was to be accepted before"},
	{"by at most 24 hours", "more than 24h0m0s ahead"},
}

// compareJob asks schema and parser about one document.
func (j judge) compareJob(t *testing.T, schema, name string, raw []byte, byParser error) bool {
	t.Helper()
	doc, bySchema := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if bySchema == nil {
		bySchema = j.schemas[schema].Validate(doc)
	}
	if bySchema != nil && byParser == nil {
		t.Errorf("%s: accepted, but not by its schema: %v", name, bySchema)
	}
	if bySchema != nil || byParser == nil {
		return bySchema == nil
	}
	for _, b := range beyondJob {
		if strings.Contains(byParser.Error(), b.detail) && strings.Contains(j.comments[schema], b.comment) {
			return false
		}
	}
	t.Errorf("%s: accepted by its schema, but refused: %v", name, byParser)
	return false
}

// TestJobs changes every part of a job and compares.
func TestJobs(t *testing.T) {
	j := newJudge(t)
	doc := decode(t, fullJob(t).Payload())
	var count tally
	mutate(doc, func(what string) {
		count.total++
		raw := encode(t, doc)
		_, err := job.Parse(raw)
		if j.compareJob(t, "job", what, raw, err) {
			count.accepted++
		}
	})
	count.check(t, 1000, 100)
}

// TestSubmissions changes every part of submissions, with the jobs in them, signs the
// result and compares.
func TestSubmissions(t *testing.T) {
	j := newJudge(t)
	authority := job.Authority{Node: public("node"), Submitters: []ed25519.PublicKey{public("submitter")}, Now: clock}
	single, err := job.SignSubmission(fullJob(t), nil, clock.Add(time.Hour), key("submitter"))
	if err != nil {
		t.Fatal(err)
	}
	replica, err := job.SignReplica(fullJob(t), blob.Of([]byte("plan")), public("node"), clock.Add(time.Hour), key("submitter"))
	if err != nil {
		t.Fatal(err)
	}
	for name, envelope := range map[string][]byte{"single": single, "replica": replica} {
		payload, err := dsse.Open(envelope, job.SubmissionType, job.MaxSubmissionBytes, authority.Submitters, 1)
		if err != nil {
			t.Fatal(err)
		}
		doc := decode(t, payload)
		var count tally
		mutate(doc, func(what string) {
			count.total++
			raw := encode(t, doc)
			signature := dsse.Sign(job.SubmissionType, raw, key("submitter"))
			_, err := authority.Open(fmt.Appendf(nil, `{"payload":%q,"payloadType":%q,"signatures":[{"keyid":%q,"sig":%q}]}`,
				base64.StdEncoding.EncodeToString(raw), job.SubmissionType, signature.KeyID, base64.StdEncoding.EncodeToString(signature.Sig)))
			if j.compareJob(t, "job-submission", name+": "+what, raw, err) {
				count.accepted++
			}
		})
		count.check(t, 2000, 100)
	}
}
