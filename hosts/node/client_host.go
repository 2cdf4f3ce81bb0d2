package node

import (
	"context"
	"time"
)

// FactsIn says what to look at. Every part may be left out.
type FactsIn struct {
	// Home as in WantIn.
	Home string `json:"home,omitempty"`
	// Paths are directories whose file system's space is asked for. One that does
	// not exist yet counts as its nearest parent.
	Paths []string `json:"paths,omitempty"`
	// Units are units to show.
	Units []string `json:"units,omitempty"`
	// EnvFile is a file of KEY=value lines, whose values are compared by hash.
	EnvFile string `json:"env_file,omitempty"`
	// Salt keys those hashes. The same salt gives the same hash on every host.
	Salt []byte `json:"salt,omitempty"`
	// Files are files to check.
	Files []FileCheck `json:"files,omitempty"`
	// Commands are asked for the first line that they print.
	Commands []FactCommand `json:"commands,omitempty"`
	// Rights asks what sudo allows to the caller, and whether others than root can
	// change refit's own files.
	Rights bool `json:"rights,omitempty"`
	// Permit, when set, asks for the host's permit and what it holds.
	Permit *PermitIn `json:"permit,omitempty"`
}

// FileCheck asks whether a user can use a file.
type FileCheck struct {
	Path string `json:"path"`
	// User to ask for; empty for root.
	User string `json:"user,omitempty"`
}

// FactCommand is a command that tells a version.
type FactCommand struct {
	Argv []string `json:"argv"`
	// User runs it; empty for root.
	User string `json:"user,omitempty"`
	// Dir is its working directory; empty for /.
	Dir string `json:"dir,omitempty"`
}

// Facts is what a host says about itself.
type Facts struct {
	Hostname string `json:"hostname"`
	// OS is the ID of os-release, "debian"; OSVersion its VERSION_ID, "13".
	OS        string `json:"os"`
	OSVersion string `json:"os_version"`
	// Arch in Go's words: "amd64".
	Arch string `json:"arch"`
	CPUs int    `json:"cpus"`
	// Load1 is the load average of the last minute.
	Load1 float64 `json:"load1"`
	// Memory and swap in bytes; available is the kernel's estimate of what programs
	// can get without swapping.
	MemoryTotal     int64 `json:"memory_total"`
	MemoryAvailable int64 `json:"memory_available"`
	SwapFree        int64 `json:"swap_free"`
	// Disks are the answers for Paths, in order.
	Disks []Disk `json:"disks,omitempty"`
	// Live is the name of the live release; empty where there is none.
	Live string `json:"live,omitempty"`
	// Releases are the releases there, by name.
	Releases []ReleaseFact `json:"releases,omitempty"`
	// Units are the answers for Units, in order.
	Units []UnitState `json:"units,omitempty"`
	// Epoch is the fence's, Holder who raised it.
	Epoch  int64  `json:"epoch"`
	Holder string `json:"holder,omitempty"`
	// Env maps each name in EnvFile to the keyed hash of its value, in hex.
	Env map[string]string `json:"env,omitempty"`
	// EnvError says why EnvFile could not be read.
	EnvError string `json:"env_error,omitempty"`
	// Files and Commands are the answers, in order.
	Files    []FileFact    `json:"files,omitempty"`
	Commands []CommandFact `json:"commands,omitempty"`
	// Rights is what sudo allows to the caller.
	Rights Rights `json:"rights"`
	// Loose are files of refit's own that others than root can change, or own.
	Loose []FileFact `json:"loose,omitempty"`
	// Permit is the host's permit, if it was asked for.
	Permit *PermitOut `json:"permit,omitempty"`
	// Agent is the name of the agent's file, which holds the hash of its content.
	Agent string `json:"agent"`
	// Boot is the ID of the host's boot, Started when that was.
	Boot    string    `json:"boot"`
	Started time.Time `json:"started"`
	// Clock is the host's time when it answered.
	Clock time.Time `json:"clock"`
}

// Unit returns the state of the unit of that name.
func (f Facts) Unit(name string) (UnitState, bool) {
	for _, u := range f.Units {
		if u.Name == name {
			return u, true
		}
	}
	return UnitState{}, false
}

// Release returns the fact of the release of that name.
func (f Facts) Release(name string) (ReleaseFact, bool) {
	for _, r := range f.Releases {
		if r.Name == name {
			return r, true
		}
	}
	return ReleaseFact{}, false
}

// Disk is the space of the file system that holds Path, in bytes. Free is what
// a user other than root can get.
type Disk struct {
	Path  string `json:"path"`
	Free  uint64 `json:"free"`
	Total uint64 `json:"total"`
	// FreeFiles is how many files can be made yet, of Files in all; both 0 where the
	// file system sets no limit.
	FreeFiles uint64 `json:"free_files,omitempty"`
	Files     uint64 `json:"files,omitempty"`
	// Device tells file systems apart: equal for paths on the same one.
	Device uint64 `json:"device"`
}

// ReleaseFact is a release on a host.
type ReleaseFact struct {
	Name string `json:"name"`
	// Digest is its manifest's and Commit the commit it was built from; empty
	// where it has no manifest.
	Digest string `json:"digest,omitempty"`
	Commit string `json:"commit,omitempty"`
	// Complete: refit placed it whole. Its files were verified then; PlaceVerify
	// does it again.
	Complete bool `json:"complete"`
}

// FileFact is what a user can do with a file.
type FileFact struct {
	Path     string `json:"path"`
	Exists   bool   `json:"exists"`
	Readable bool   `json:"readable"`
	Writable bool   `json:"writable"`
	// Mode holds the permission bits, Owner the owner's name.
	Mode  uint32 `json:"mode,omitempty"`
	Owner string `json:"owner,omitempty"`
	Size  int64  `json:"size,omitempty"`
	// Error says what kept it from being checked.
	Error string `json:"error,omitempty"`
}

// CommandFact is what a command said.
type CommandFact struct {
	// Line is the first line that is not empty, of its output or its errors.
	Line string `json:"line"`
	// Error is set when it could not be run or failed.
	Error string `json:"error,omitempty"`
}

// Facts asks everything about the host in one exchange. It changes nothing, and
// one part that cannot be found out does not hide the others.
func (a *Agent) Facts(ctx context.Context, in FactsIn) (Facts, error) {
	return call[Facts](ctx, a, "facts", in, nil, nil)
}

// RaiseIn raises the fence.
type RaiseIn struct {
	Epoch int64 `json:"epoch"`
	// Holder is who raises it, for those it turns away: "anna@laptop, run u-17".
	Holder string `json:"holder"`
	// Wait is how long to wait for verbs at work; 0 for 20 seconds.
	Wait time.Duration `json:"wait,omitempty"`
	// Kill ends verbs of a lower epoch that still hold the fence after Wait. They
	// are processes of refit that are frozen or stuck.
	Kill bool `json:"kill,omitempty"`
}

// Fence is a host's fence.
type Fence struct {
	Epoch  int64     `json:"epoch"`
	Holder string    `json:"holder,omitempty"`
	Raised time.Time `json:"raised,omitzero"`
	// Verbs are those that change the host right now.
	Verbs []Holder `json:"verbs,omitempty"`
	// Killed are those that the raising had to end.
	Killed []Holder `json:"killed,omitempty"`
}

// Holder is a verb at work that changes a host.
type Holder struct {
	Pid   int       `json:"pid"`
	Verb  string    `json:"verb"`
	Run   string    `json:"run,omitempty"`
	Epoch int64     `json:"epoch"`
	Since time.Time `json:"since"`
	// State is the process's state: "R", "S", "T" for stopped.
	State string `json:"state,omitempty"`

	start uint64
}

// FenceRaise raises the host's fence, after which no verb of a lower epoch can
// change it, not even one that was frozen in the middle. A lower epoch than the
// fence's gives ErrFenced; verbs that still hold it after Wait give ErrInUse,
// naming them, or are ended with Kill.
func (a *Agent) FenceRaise(ctx context.Context, in RaiseIn) (Fence, error) {
	return call[Fence](ctx, a, "fence.raise", in, nil, nil)
}

// FenceShow reads the host's fence.
func (a *Agent) FenceShow(ctx context.Context) (Fence, error) {
	return call[Fence](ctx, a, "fence.show", nil, nil, nil)
}

// InflightIn asks for open connections.
type InflightIn struct {
	// Ports are local ports.
	Ports []int `json:"ports"`
	// Peers, when not empty, counts only connections from these IP addresses.
	Peers []string `json:"peers,omitempty"`
}

// InflightOut counts established TCP connections.
type InflightOut struct {
	// Ports maps each port asked for to its count.
	Ports map[int]int `json:"ports"`
	// Peers maps the remote addresses seen to their counts.
	Peers map[string]int `json:"peers,omitempty"`
	Total int            `json:"total"`
}

// Inflight counts established TCP connections to local ports.
func (a *Agent) Inflight(ctx context.Context, in InflightIn) (InflightOut, error) {
	return call[InflightOut](ctx, a, "inflight", in, nil, nil)
}

// FilePutIn is a small file to write.
type FilePutIn struct {
	Path    string `json:"path"`
	Content []byte `json:"content"`
	// Mode holds the permission bits; 0 for those it has, or 0644 for a new file.
	Mode uint32 `json:"mode,omitempty"`
	// Owner is a user's name; empty for the one it has, or root for a new file.
	Owner string `json:"owner,omitempty"`
	// Validate is a command that must succeed. With a word "{}" in it it runs
	// before the file is put in place, the word replaced by the new content's
	// path; without, after, and its failure puts the previous content back.
	Validate []string `json:"validate,omitempty"`
}

// FilePutOut is what stood there before.
type FilePutOut struct {
	// Changed is false when content, mode and owner were the same already.
	Changed bool `json:"changed"`
	Existed bool `json:"existed"`
	// Previous is its content before.
	Previous []byte `json:"previous,omitempty"`
}

// FilePut writes a small file, at most 1 MiB, in one rename.
func (a *Agent) FilePut(ctx context.Context, in FilePutIn) (FilePutOut, error) {
	return call[FilePutOut](ctx, a, "file.put", in, nil, nil)
}

// FileGetIn names a file.
type FileGetIn struct {
	Path string `json:"path"`
}

// FileGetOut is a small file.
type FileGetOut struct {
	Content []byte `json:"content"`
	Mode    uint32 `json:"mode"`
	Owner   string `json:"owner"`
}

// FileGet reads a small file, at most 1 MiB; ErrNotFound without one.
func (a *Agent) FileGet(ctx context.Context, path string) (FileGetOut, error) {
	return call[FileGetOut](ctx, a, "file.get", FileGetIn{Path: path}, nil, nil)
}
