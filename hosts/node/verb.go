// Package node is the code that runs on a host, as "refit node VERB", from
// refit's own static binary, and the client that calls it over a Shell. No
// daemon and no shell script stays on a host.
//
// The protocol: the caller writes one line of JSON, a Request, to the verb's
// standard input, and after it the verb's payload, if it takes one. The verb
// writes lines of JSON, Reply values: any number with Say, then one with Done.
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
}

// Request is the first line that a verb reads.
type Request struct {
	// Epoch is the caller's lease epoch; 0 for a caller that holds none and so may
	// only call verbs that change nothing.
	Epoch int64 `json:"epoch"`
	// Run is the ID of the run on whose behalf the call is made.
	Run string          `json:"run,omitempty"`
	In  json.RawMessage `json:"in,omitempty"`
}

// Reply is one line that a verb writes.
type Reply struct {
	Say   string          `json:"say,omitempty"`
	Done  bool            `json:"done,omitempty"`
	Out   json.RawMessage `json:"out,omitempty"`
	Error string          `json:"error,omitempty"`
	// Code names errors that callers tell apart: "fenced", "not-found", "no-space".
	Code string `json:"code,omitempty"`
}
