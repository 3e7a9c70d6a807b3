package jobpeer

import (
	"encoding/binary"
	"encoding/hex"

	"github.com/phasebased/phase/blob"
)

// request is what a stream is opened for. Which members count says the kind.
type request struct {
	kind      kind
	submitter []byte // askCapacity: a key, or nothing
	// id is the job's, or the module's. Who submits a job and can push its module says
	// which one it is, to be refused if it is not there; zero leaves it to the node to
	// look for it.
	id       blob.Digest
	size     int64  // of the module
	document []byte // signed: the submission, or the set
}

// marshal is the request as it is sent.
func (r request) marshal() ([]byte, error) {
	id, err := hex.DecodeString(r.id.Hex())
	if err != nil {
		return nil, err
	}
	switch r.kind {
	case askCapacity:
		return appendFrame(nil, r.kind, r.submitter)
	case askSubmit, askCommit, askReveal:
		return appendFrame(nil, r.kind, id, r.document)
	case askPush:
		return appendFrame(nil, r.kind, id, binary.BigEndian.AppendUint64(nil, uint64(r.size)), r.document)
	}
	return appendFrame(nil, r.kind, id)
}

// parseRequest reads a request that a stranger sent. It looks into no signed
// document.
func parseRequest(k kind, body []byte) (request, error) {
	if least, most := k.bounds(); len(body) < least || len(body) > most {
		return request{}, formError("%d bytes of kind %d", len(body), byte(k))
	}
	r := request{kind: k}
	switch k {
	case askCapacity:
		if len(body) != 0 && len(body) != idSize {
			return request{}, formError("a key of %d bytes", len(body))
		}
		r.submitter = body
		return r, nil
	case askSubmit, askCommit, askReveal, askAwait, askCancel, askPush:
		r.id, r.document = blob.FromSum([idSize]byte(body)), body[idSize:]
	default:
		return request{}, formError("kind %d is no request", byte(k))
	}
	if k == askPush {
		r.size, r.document = int64(binary.BigEndian.Uint64(r.document)), r.document[8:]
		if r.size < 1 {
			return request{}, formError("a module or input of %d bytes", r.size)
		}
	}
	if r.id.IsZero() && k != askSubmit && k != askCommit {
		return request{}, formError("no digest")
	}
	return r, nil
}
