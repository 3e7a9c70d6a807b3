package netup

import (
	"io/fs"
	"path"
)

// isWireless reports whether an interface is a Wi-Fi card's: its link is a network
// that somebody has to join. sys is /sys.
func isWireless(sys fs.FS, name string) bool {
	_, err := fs.Stat(sys, path.Join("class/net", name, "phy80211"))
	return err == nil
}
