// Package node is the code that runs on a host, as "refit node VERB", from
// refit's own static binary, and the client that calls it over a Shell. No
// daemon and no shell script stays on a host.
//
// The protocol: the caller writes one line of JSON, a Request, to the verb's
// standard input, and after it the verb's payload, if it takes one. The verb
// writes lines of JSON, Reply values: any number with Say, Beat or Raw, then one
// with Done. A line comes at least every two seconds, so that a caller can tell a
// frozen host from a busy one. When the caller is gone, the verb's context ends.
//
// What a Machine (a host, seen from inside) keeps stands under /var/lib/refit:
// bin/ the agents, fence and fence.lock, jobs/ the durable records of transient
// units, permit and permit.d/ what lets Mastodon's units start on this very machine; in
// /run/refit/holders the verbs that are at work now.
package node

import (
	"context"
	"encoding/json"
	"io"
)

// Verb is one deed that a host can be asked for.
type Verb struct {
	// Name as in "refit node NAME": "facts", "switch".
	Name string
	// Changes: the verb changes the host. It then runs only while holding the
	// host's fence, and only for an epoch that is not below the fence's.
	Changes bool
	// Run does it. in is the request's argument, payload the rest of standard
	// input; what it returns is marshalled as the reply's result.
	Run func(ctx context.Context, in json.RawMessage, payload io.Reader, say func(string)) (any, error)
	// Stream stands in Run's place for a verb that sends bytes to the caller
	// beside its result. w may be written to from one goroutine only.
	Stream func(ctx context.Context, in json.RawMessage, w io.Writer, say func(string)) (any, error)
}

// Request is the first line that a verb reads.
type Request struct {
	// Epoch is the caller's lease epoch; 0 for a caller that holds none and so may
	// only call verbs that change nothing.
	Epoch int64 `json:"epoch"`
	// Run is the ID of the run on whose behalf the call is made.
	Run string          `json:"run,omitempty"`
	In  json.RawMessage `json:"in,omitempty"`
	// Packed is set in In's place for a long argument: that many bytes follow the
	// line, In compressed with zstd.
	Packed int64 `json:"packed,omitempty"`
}

// Reply is one line that a verb writes.
type Reply struct {
	Say string `json:"say,omitempty"`
	// Beat: a sign of life and nothing else.
	Beat bool `json:"beat,omitempty"`
	// Raw: that many bytes of the verb's stream follow the line.
	Raw  int             `json:"raw,omitempty"`
	Done bool            `json:"done,omitempty"`
	Out  json.RawMessage `json:"out,omitempty"`
	// Error is set, beside Done, when the verb failed.
	Error string `json:"error,omitempty"`
	// Code names errors that callers tell apart: "fenced", "not-found", "no-space",
	// "payload", "base", "in-use", "signature", "timeout", "sealed"; "failed" for all others.
	Code string `json:"code,omitempty"`
}
