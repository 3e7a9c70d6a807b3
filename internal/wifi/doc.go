// Package wifi joins wireless networks by driving wpa_supplicant (2.10, as
// Debian builds it) over its control socket: it looks around, joins WPA2 and WPA3
// personal and open networks, and keeps the connection while addresses and
// routes are package netup's affair.
//
// Wi-Fi needs a program of other people because the handshakes are theirs to
// get right. That program is started here, told what to do over a datagram
// socket in a folder of mode 0700, and started again when it dies. Nothing is
// waited for by sleeping: the socket's birth comes from inotify, everything else
// from the supplicant's events.
//
// Trust: the passphrase goes over that socket and nowhere else: not to the
// command line, a file, a log or an error. Whatever is in the air is a
// stranger's word: names of networks are up to 32 bytes of anything, which are
// decoded strictly, sent back as hex and shown escaped ([Show]). A network that
// knows the passphrase can misdirect or stop a boot, as any router can; what is
// downloaded through it is verified elsewhere.
//
// Sources: wpa_supplicant's ctrl_iface documentation and wpa_supplicant.conf;
// IEEE 802.11-2020 for status and reason codes and for the passphrase (annex J.4).
package wifi
