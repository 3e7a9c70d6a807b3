package wasm

import (
	"context"
	"fmt"
	"os/exec"
	"time"
)

// protocol counts up when frames or messages between node and runner change.
const protocol = 3

// ProtocolCommand is the argument that makes a runner's program print Protocol and end.
const ProtocolCommand = "protocol"

// Protocol is what a node and the program of its runners must have in common: both
// are of one release.
func Protocol(release string) string {
	return fmt.Sprintf("phase runner %d of %s, %s", protocol, release, wazeroVersion)
}

// Speaks asks the program at path whether it is a runner's for that release. The
// program is trusted: it stands where only who installs the node can write.
func Speaks(ctx context.Context, path, release string) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, ProtocolCommand)
	cmd.Env = []string{}
	said, err := cmd.Output()
	return err == nil && string(said) == Protocol(release)+"\n"
}
