// Package nettime asks time servers what time it is, all at once and within a
// bound, and says how far their answers can be believed. It sets no clock.
//
// Trust: a plain NTP answer is a stranger's word. Whoever is on the path can
// choose it, and [Answer.Authenticated] is false. An answer by Network Time
// Security (NTS, RFC 8915) is tied by TLS 1.3 and an AEAD to a server whose
// certificate a root in Query.Roots vouches for. Neither kind says that the
// server's own clock is right; hence several servers, of which more than half
// must agree. What a caller does with either kind of answer is its own affair:
// see internal/trust.
//
// Certificates have dates, and a machine that asks for the time cannot judge
// them by its clock: one that stands in 2040 would find that all have expired,
// and be beyond mending. So they are judged by the time that the server gives
// (RFC 8915, section 8.5): at the handshake the chain must verify at some moment
// that may still be now, and the authenticated answer counts only if every
// certificate of a chain holds at the time in it, which is not before
// Query.Floor. The machine's clock decides nothing.
//
// What remains: whoever holds the key of a certificate that ended after the
// floor, stolen or thrown away, can claim a time of that certificate's life, to
// a machine whose clock is right as well as to one that is wrong. The
// floor bounds how far back such a claim reaches, and the certificate how far
// ahead; where two servers must agree it takes the keys of two. Revocation is
// not looked up.
//
// An authenticated answer counts as such where two servers give it, or the
// only one asked. A lone one of several is an opinion among the plain ones,
// with one privilege: no majority of plain answers overrules it.
//
// Every byte from the network is bounded, and packets that do not belong to
// the question, or do not authenticate, are passed over while the wait for the
// right one goes on: only silencing the server stops an answer. The delay of
// an answer is measured here and not believed, so it errs by half of that.
//
// NTS is implemented here, over the extension hook of github.com/beevik/ntp and
// with the one AEAD that every server must offer (AES-SIV-CMAC-256). The
// existing client, github.com/beevik/nts v0.3.0, takes an answer without any
// authenticator for an authenticated one, and hands packets it has not
// authenticated to slices and to amd64 assembly that a wrong length or an
// address off a 16-byte boundary brings down together with the process, which
// here is PID 1.
//
// Sources: RFC 5905 and 4330 (NTP, SNTP), RFC 7822 (extension fields), RFC 8915
// (NTS), RFC 5297 (AES-SIV).
package nettime
