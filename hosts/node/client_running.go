package node

import "context"

// RunningIn names the units whose processes are Mastodon's.
type RunningIn struct {
	// Home as in WantIn.
	Home  string   `json:"home,omitempty"`
	Units []string `json:"units"`
}

// Process is one process of Mastodon's.
type Process struct {
	Pid int `json:"pid"`
	// Name is the kernel's short name of it: "puma 6.6.1 (tcp", "node".
	Name string `json:"name"`
	// Unit is the unit or session that it belongs to; empty for none.
	Unit string `json:"unit,omitempty"`
	// Dir is its working directory and Program its executable, as the kernel names
	// them; Release the release that Dir lies in.
	Dir     string `json:"dir"`
	Program string `json:"program"`
	Release string `json:"release,omitempty"`
	// Faults tell in what it is not of the live release: "works in v4.5.14, and live
	// is v4.5.15"; none for a process that is.
	Faults []string `json:"faults,omitempty"`
}

// RunningOut is what runs.
type RunningOut struct {
	// Live is the live release.
	Live      string    `json:"live"`
	Processes []Process `json:"processes"`
}

// Running looks at every process of the units, and at any other that works in a
// release: whether its directory, its program and the libraries that it loaded are
// those of the release that live points to. Jobs of refit's own are left out.
func (a *Agent) Running(ctx context.Context, in RunningIn) (RunningOut, error) {
	return call[RunningOut](ctx, a, "running", in, nil, nil)
}
