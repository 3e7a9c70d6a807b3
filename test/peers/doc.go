// Package peers starts web servers and gateways that others wrote, so that tests
// and benchmarks can put our programs beside them: nginx, Python's http.server,
// and the gateway handler of kubo (IPFS).
//
// Each serves on loopback, on a port that nobody else can take, until its context
// ends or it is stopped. It is a helper of tests: it trusts what it starts, which
// comes from Debian and, for the gateway, from the module proxy with its sum in
// go.sum.
package peers
