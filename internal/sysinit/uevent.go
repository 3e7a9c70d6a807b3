package sysinit

import (
	"errors"
	"fmt"
	"strings"
)

// maxUevent is the kernel's own bound (UEVENT_BUFFER_SIZE) and then some.
const maxUevent = 8 << 10

// Uevent is a message of the kernel that a device came, went or changed.
type Uevent struct {
	Action  string // "add", "remove", "change", "bind", …
	DevPath string // below /sys
	Env     map[string]string
}

// errUevent is wrapped by every error of parseUevent.
var errUevent = errors.New("malformed uevent")

// parseUevent reads "add@/devices/…" and then KEY=value, each ended by NUL.
func parseUevent(data []byte) (Uevent, error) {
	if len(data) > maxUevent {
		return Uevent{}, fmt.Errorf("%w: %d bytes", errUevent, len(data))
	}
	head, rest, ok := strings.Cut(string(data), "\x00")
	action, path, at := strings.Cut(head, "@")
	if !ok || !at || action == "" || !strings.HasPrefix(path, "/") {
		return Uevent{}, fmt.Errorf("%w: head %.80q", errUevent, head)
	}
	u := Uevent{Action: action, DevPath: path, Env: make(map[string]string)}
	for rest != "" {
		var field string
		field, rest, _ = strings.Cut(rest, "\x00")
		if key, value, ok := strings.Cut(field, "="); ok {
			u.Env[key] = value
		}
	}
	return u, nil
}
