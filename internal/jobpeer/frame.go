package jobpeer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/receipt"
)

// A frame is a byte for its kind, four for the length of its body, big-endian, and
// the body. One of a kind that is not due, or longer than its kind may be, ends the
// conversation before the body is read.
type frame struct {
	kind kind
	body []byte
}

type kind byte

// Requests, of which a stream has one.
const (
	askCapacity kind = 1 // empty, or the key of a submitter
	askSubmit   kind = 2 // the module's digest, or zeroes, and a signed submission
	askCommit   kind = 3 // the same, of a job in a quorum
	askReveal   kind = 4 // a job's id, and a signed set of commitments
	askAwait    kind = 5 // a job's id
	askCancel   kind = 6 // a job's id
	askPush     kind = 7 // digest and size of a module or input, and the signed submission that needs it
)

// Answers.
const (
	sayFailure    kind = 128 // why not, as JSON; nothing follows
	sayStatus     kind = 129 // how far the job is, as JSON; when it has ended, what came of it follows
	sayStdout     kind = 130 // the next bytes of an output
	sayStderr     kind = 131
	sayReceipt    kind = 132 // signed
	sayCommitment kind = 133 // signed
	sayOpening    kind = 134 // signed
	sayCapacity   kind = 135 // signed
	sayHave       kind = 136 // the module is here
	sayGo         kind = 137 // send it, bare
	sayDone       kind = 138 // nothing follows
)

const (
	headSize = 5
	idSize   = 32
	// chunk is how much of an output one frame has at most.
	chunk       = 32 << 10
	maxDocument = 64 << 10 // of JSON, and of what is signed
	maxSet      = 256 << 10
)

// bounds are the least and the greatest length of a kind's body, in bytes.
func (k kind) bounds() (least, most int) {
	switch k {
	case askCapacity:
		return 0, idSize
	case askSubmit, askCommit:
		return idSize + 1, idSize + job.MaxSubmissionBytes
	case askReveal:
		return idSize + 1, idSize + maxSet
	case askAwait, askCancel:
		return idSize, idSize
	case askPush:
		return idSize + 8 + 1, idSize + 8 + job.MaxSubmissionBytes
	case sayStdout, sayStderr:
		return 1, chunk
	case sayReceipt:
		return 1, receipt.MaxBytes
	case sayFailure, sayStatus, sayCommitment, sayOpening, sayCapacity:
		return 1, maxDocument
	case sayHave, sayGo, sayDone:
		return 0, 0
	}
	return 1, 0 // none
}

func (k kind) String() string {
	names := map[kind]string{
		sayFailure: "a refusal", sayStatus: "a status", sayStdout: "standard output", sayStderr: "standard error",
		sayReceipt: "a receipt", sayCommitment: "a commitment", sayOpening: "an opening", sayCapacity: "a capacity",
		sayHave: "have", sayGo: "go", sayDone: "the end",
	}
	if name := names[k]; name != "" {
		return name
	}
	return fmt.Sprintf("frame %d", byte(k))
}

// errForm says that bytes are not what may be sent.
var errForm = errors.New("malformed frame")

func formError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errForm, fmt.Sprintf(format, args...))
}

// head is a frame's without its body.
type head struct {
	kind kind
	size int
}

// parseHead judges the announcement of a frame.
func parseHead(raw [headSize]byte) (head, error) {
	k, size := kind(raw[0]), binary.BigEndian.Uint32(raw[1:])
	least, most := k.bounds()
	switch {
	case least > most:
		return head{}, formError("unknown kind %d", byte(k))
	case int64(size) < int64(least) || int64(size) > int64(most):
		return head{}, formError("%d bytes of kind %d, %d to %d are allowed", size, byte(k), least, most)
	}
	return head{k, int(size)}, nil
}

// appendFrame writes a frame behind dst. The body is within the bounds of its kind,
// or none is written.
func appendFrame(dst []byte, k kind, parts ...[]byte) ([]byte, error) {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	if least, most := k.bounds(); size < least || size > most {
		return dst, formError("%d bytes of kind %d, %d to %d are allowed", size, byte(k), least, most)
	}
	dst = append(dst, byte(k))
	dst = binary.BigEndian.AppendUint32(dst, uint32(size))
	for _, p := range parts {
		dst = append(dst, p...)
	}
	return dst, nil
}

// readHead reads the announcement of a frame.
func readHead(r io.Reader) (head, error) {
	var raw [headSize]byte
	if _, err := io.ReadFull(r, raw[:]); err != nil {
		return head{}, err
	}
	return parseHead(raw)
}

// readBody reads what was announced; memory grows with what has come.
func readBody(r io.Reader, size int) ([]byte, error) {
	const step = 16 << 10
	body := make([]byte, 0, min(size, step))
	for len(body) < size {
		if len(body) == cap(body) {
			grown := make([]byte, len(body), min(size, 2*cap(body)))
			copy(grown, body)
			body = grown
		}
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err != nil && len(body) < size {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return body, nil
}
