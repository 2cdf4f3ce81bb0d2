package node

import "context"

// SecretsFile is where a host keeps the values that configuration files refer to, as lines
// KEY=value; what follows the first "=" is the value, as it stands. It is root's alone.
const SecretsFile = "/etc/refit/secrets.env"

// ConfigFile is a configuration file as a host is to have it.
type ConfigFile struct {
	// Path is absolute and clean: below /etc, or one that the request lists.
	Path string `json:"path"`
	// Content holds references, @refit-secret(NAME)@, in the place of secrets.
	Content []byte `json:"content"`
	Owner   string `json:"owner"`
	Group   string `json:"group"`
	// Mode is the permission bits.
	Mode uint32 `json:"mode"`
	// Check is the program that must accept it: nginx, systemd, stunnel or none.
	Check string `json:"check,omitempty"`
	// Restart and Reload are units that are told of a change, if they run.
	Restart []string `json:"restart,omitempty"`
	Reload  []string `json:"reload,omitempty"`
}

// ConfigIn names files of one host.
type ConfigIn struct {
	// Run is the run that the old contents are kept for.
	Run   string       `json:"run,omitempty"`
	Files []ConfigFile `json:"files,omitempty"`
	// Paths are those outside of /etc that files may have, Never those that none may.
	Paths []string `json:"paths,omitempty"`
	Never []string `json:"never,omitempty"`
	// Leave are units that the caller stops and starts by itself: they are told nothing.
	Leave []string `json:"leave,omitempty"`
	// Contents: a look gives what lies there too, without values of secrets.
	Contents bool `json:"contents,omitempty"`
}

// What a file on a host is beside the one that it should be.
const (
	ConfigSame    = "same"
	ConfigOther   = "other"   // its content
	ConfigRights  = "rights"  // its owner, group or mode alone
	ConfigMissing = "missing" // no file
)

// ConfigState is one file as it is on the host.
type ConfigState struct {
	Path  string `json:"path"`
	State string `json:"state"`
	// Owner, Group and Mode are what it has.
	Owner string `json:"owner,omitempty"`
	Group string `json:"group,omitempty"`
	Mode  uint32 `json:"mode,omitempty"`
	// Content is what lies there, where it was asked for: values that SecretsFile knows are
	// references again, and of a file that holds secrets each other line that assigns
	// something is without its value.
	Content []byte `json:"content,omitempty"`
}

// ConfigOut is what a host says of its files.
type ConfigOut struct {
	Files []ConfigState `json:"files,omitempty"`
	// Lacks are the names of secrets that files refer to and SecretsFile has not.
	Lacks []string `json:"lacks,omitempty"`
	// Changed are the paths that the call wrote or removed.
	Changed []string `json:"changed,omitempty"`
	// Told are the units that were restarted or reloaded, Reloaded that systemd has read
	// its units anew.
	Told     []string `json:"told,omitempty"`
	Reloaded bool     `json:"reloaded,omitempty"`
	// Meddled are files that somebody changed after this run had written them; what they
	// held is kept beside the old contents.
	Meddled []string `json:"meddled,omitempty"`
}

// Differs are the paths that are not as they should be.
func (o ConfigOut) Differs() []string {
	var out []string
	for _, f := range o.Files {
		if f.State != ConfigSame {
			out = append(out, f.Path)
		}
	}
	return out
}

// LookConfigs compares files with what the host has. It changes nothing, and no value of a
// secret leaves the host.
func (a *Agent) LookConfigs(ctx context.Context, in ConfigIn) (ConfigOut, error) {
	return call[ConfigOut](ctx, a, "config.look", in, nil, nil)
}

// ApplyConfigs puts files in place, all or none: a secret that lacks, a program that does
// not accept its file and a unit that does not come up again leave the host as it was. It is
// repeated safely, also after it was killed anywhere in it.
func (a *Agent) ApplyConfigs(ctx context.Context, in ConfigIn) (ConfigOut, error) {
	return call[ConfigOut](ctx, a, "config.apply", in, nil, nil)
}

// RestoreConfigs puts back what a run's ApplyConfigs found there. Of a run that changed
// nothing it does nothing; it is repeated safely. in.Run and in.Leave are read.
func (a *Agent) RestoreConfigs(ctx context.Context, in ConfigIn) (ConfigOut, error) {
	return call[ConfigOut](ctx, a, "config.restore", in, nil, nil)
}
