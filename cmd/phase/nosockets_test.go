//go:build !linux

package main

import "errors"

// forbidSockets: only Linux kills a process that asks for a socket.
func forbidSockets() error { return errors.New("sockets cannot be forbidden on this system") }
