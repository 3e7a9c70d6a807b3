// Package jobpeer is how one node gives jobs to another: what they say over
// streams, each end's bounds on the other, and nothing about how streams come
// about.
//
// A stream carries one request and its answer. Requests and answers are frames of
// bounded length; everything is read as it comes, so that nobody's announcement
// costs memory, and each part has its time, so that one who says nothing, or drips,
// goes. Who asks too much at once, or asks in vain too often, is turned away before
// their requests are read.
//
// Whose job it is says the signature of the submission, and nothing else: a node
// may carry another's jobs. Who carried it may ask about it later, being known by
// the key of the connection.
//
// An answer is not trusted. The client holds a node to the form of the
// conversation and to the digests it told; that the receipt is the node's, for this
// job and these outputs, is for the caller to verify.
package jobpeer
