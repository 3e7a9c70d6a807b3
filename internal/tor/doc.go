// Package tor runs Tor (0.4, as Debian builds it) as a client, and dials through
// it. It is for boots that must not be seen asking for what they boot.
//
// Tor is a program of other people because its protocol and its defences are
// theirs to get right. That program is started here with a configuration written
// for it, without privileges, told nothing afterwards, and started again when it
// dies. How far it is comes from its log, which is read line by line with bounds.
//
// The promise is that nothing goes round it. A Dialer connects to Tor's SOCKS
// socket (RFC 1928) and to nothing else: it has no other way to fall back on, names
// are handed to Tor as they are, so that none is looked up here, and whatever is no
// TCP is refused. Package netup can make the kernel hold everybody else to it.
//
// Trust: Tor is trusted as much as the kernel of the same medium. What it says in
// its log is shown to people, cut and escaped. Relays, and the exit above all, see
// and can change what passes: what is downloaded through them is verified elsewhere,
// as anything is. A policy may add lines to Tor's configuration, but only options
// that leave the promise alone (see Config.Extra).
//
// Sources: tor(1) for the options; RFC 1929 and tor's socks-extensions.txt for the
// isolation of streams by user name.
package tor
