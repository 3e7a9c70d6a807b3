// Package delta turns one release into the next with few bytes: Make describes a
// new file by pieces of an old one, Apply builds the new file from the old one
// and that description.
//
// A patch is not trusted and neither is what Apply writes: whoever calls it
// checks the digest of the result, exactly as after a full download. What Apply
// itself promises is that no patch, however hostile, makes it write more than
// the announced size, hold more than 16 MiB, read outside the old file, or
// panic.
package delta
