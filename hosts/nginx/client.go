package nginx

import (
	"context"
	"time"

	"vmst.io/refit/hosts/node"
)

// Verbs are the verbs of this package, for the agent's table.
func Verbs() []node.Verb { return realProxy().verbs() }

// DefaultFiles are the include files that refit owns on a proxy: Rails' upstream,
// then streaming's.
func DefaultFiles() []string {
	return []string{"/etc/nginx/refit/web.conf", "/etc/nginx/refit/streaming.conf"}
}

// UpstreamIn names include files.
type UpstreamIn struct {
	// Files are the paths of the include files; nil for DefaultFiles.
	Files []string `json:"files,omitempty"`
}

// UpstreamOut is what stands in the include files.
type UpstreamOut struct {
	Files []FileServers `json:"files"`
}

// FileServers is one include file.
type FileServers struct {
	Path    string   `json:"path"`
	Servers []Server `json:"servers"`
}

// Down tells whether every server at the address is down, in every file; known is
// false where a file has none at that address.
func (o UpstreamOut) Down(address string) (down, known bool) {
	down, known = true, len(o.Files) > 0
	for _, f := range o.Files {
		found := false
		for _, s := range f.Servers {
			if s.Address == address || s.Host() == address {
				found = true
				down = down && s.Down
			}
		}
		known = known && found
	}
	return down && known, known
}

// SetIn marks a node down or up.
type SetIn struct {
	// Files as in UpstreamIn.
	Files []string `json:"files,omitempty"`
	// Address of the node as it stands in the files, without a port.
	Address string `json:"address"`
	// Down: nginx shall send it nothing more; else it shall serve again.
	Down bool `json:"down"`
	// Within is how long new workers may take to appear; 0 for 20 seconds.
	Within time.Duration `json:"within,omitempty"`
}

// SetOut is what a proxy did.
type SetOut struct {
	// Changed: a file was written. Reloaded: nginx runs workers of a new generation;
	// a file that was right but never loaded is reloaded without being changed.
	Changed  bool `json:"changed"`
	Reloaded bool `json:"reloaded"`
	// Files are read back at the end.
	Files []FileServers `json:"files"`
	// Leaving is how many old workers still finish what they have.
	Leaving int `json:"leaving"`
}

// GetUpstream reads the include files.
func GetUpstream(ctx context.Context, a *node.Agent, in UpstreamIn) (UpstreamOut, error) {
	return call[UpstreamOut](ctx, a, "upstream.get", in, nil)
}

// SetUpstream marks a node down or up on one proxy and returns when new workers
// run. Already so: nothing is written or reloaded. Refused, with nothing changed:
// a file that is not understood, an address that is in none, the last server of an
// upstream. What nginx -t refuses is put back as it was.
func SetUpstream(ctx context.Context, a *node.Agent, in SetIn, say func(string)) (SetOut, error) {
	return call[SetOut](ctx, a, "upstream.set", in, say)
}

// JoinUpstream writes a new node into the include files of one proxy, down, with the
// ports and parameters of another, and returns when new workers run. A node that stands
// there already stays as it is.
func JoinUpstream(ctx context.Context, a *node.Agent, in JoinIn, say func(string)) (SetOut, error) {
	return call[SetOut](ctx, a, "upstream.join", in, say)
}

// LeaveUpstream takes a node out of the include files of one proxy. It must be down;
// one that stands nowhere is out already.
func LeaveUpstream(ctx context.Context, a *node.Agent, in LeaveIn, say func(string)) (SetOut, error) {
	return call[SetOut](ctx, a, "upstream.leave", in, say)
}

// ReadFacts reads what the proxy's configuration says about draining.
func ReadFacts(ctx context.Context, a *node.Agent, in UpstreamIn) (Facts, error) {
	return call[Facts](ctx, a, "nginx.facts", in, nil)
}

// Cursor is a place in an access log. The zero value is the log's end.
type Cursor struct {
	// Inode tells files apart after a rotation.
	Inode uint64 `json:"inode,omitempty"`
	// Offset in bytes of the next line to read.
	Offset int64 `json:"offset,omitempty"`
}

// AccessIn asks for what was logged since a cursor.
type AccessIn struct {
	// Path of the log; empty for /var/log/nginx/access.log.
	Path string `json:"path,omitempty"`
	// Since is the cursor of the last answer; the zero value reads nothing and
	// gives the cursor of the log's end.
	Since Cursor `json:"since"`
}

// Access is what was logged since a cursor.
type Access struct {
	// Next is the cursor to ask with the next time.
	Next Cursor `json:"next"`
	// Rotated: the log was rotated since; what the old file held was read too, if
	// it still lay beside the new one. Lost: it did not, so lines are missing. A log
	// that was emptied in its place is known by being shorter than the cursor.
	Rotated bool `json:"rotated,omitempty"`
	Lost    bool `json:"lost,omitempty"`
	// Unreadable counts lines of a format that is not understood.
	Unreadable int `json:"unreadable,omitempty"`
	// More: there is more to read; ask again with Next.
	More bool `json:"more,omitempty"`
	// Timed: the log tells request times.
	Timed bool `json:"timed"`
	Traffic
	// Upstreams is the same by the server that answered, where the log tells it.
	Upstreams map[string]Traffic `json:"upstreams,omitempty"`
}

// Traffic counts requests. Websockets, which end with status 101, are counted but
// not timed.
type Traffic struct {
	Requests int `json:"requests"`
	// Errors are answers with a status of 500 and above.
	Errors int `json:"errors"`
	// P50, P95 and Max are of the request times; 0 where the log tells none.
	P50 time.Duration `json:"p50,omitempty"`
	P95 time.Duration `json:"p95,omitempty"`
	Max time.Duration `json:"max,omitempty"`
}

// ErrorRate is the share of requests that failed, 0 to 1.
func (t Traffic) ErrorRate() float64 {
	if t.Requests == 0 {
		return 0
	}
	return float64(t.Errors) / float64(t.Requests)
}

// ReadAccess reads what a proxy logged since the cursor.
func ReadAccess(ctx context.Context, a *node.Agent, in AccessIn) (Access, error) {
	return call[Access](ctx, a, "access", in, nil)
}

func call[Out any](ctx context.Context, a *node.Agent, verb string, in any, say func(string)) (Out, error) {
	var out Out
	err := a.Call(ctx, verb, in, nil, &out, say)
	return out, err
}
