package mastodon

import "path"

// Layout is where Mastodon lives on a host. The zero value of each field means
// the default that DefaultLayout tells.
type Layout struct {
	// Home is the directory of the account that runs Mastodon.
	Home string `json:"home,omitempty"`
	// Live is the symbolic link to the release that serves.
	Live string `json:"live,omitempty"`
	// Releases holds one directory per release, named with a leading v.
	Releases string `json:"releases,omitempty"`
	// Shared holds what the releases share: log and public/system.
	Shared string `json:"shared,omitempty"`
	// EnvFile is Mastodon's .env.production.
	EnvFile string `json:"env_file,omitempty"`
	// User is the account that runs Mastodon.
	User string `json:"user,omitempty"`
}

// DefaultLayout is the layout of every host that refit keeps.
func DefaultLayout() Layout { return Layout{}.filled() }

// filled puts the default into each empty field; what lies below Home follows it.
func (l Layout) filled() Layout {
	set := func(field *string, def string) {
		if *field == "" {
			*field = def
		}
	}
	set(&l.User, "mastodon")
	set(&l.Home, "/home/mastodon")
	set(&l.Live, path.Join(l.Home, "live"))
	set(&l.Releases, path.Join(l.Home, "releases"))
	set(&l.Shared, path.Join(l.Home, "shared"))
	set(&l.EnvFile, path.Join(l.Home, ".env.production"))
	return l
}

// Release is the directory of the release of that name ("v4.5.14").
func (l Layout) Release(name string) string { return path.Join(l.filled().Releases, name) }

// Tool is the wrapper, inside a release, that runs a program (bundle, node,
// tootctl) with that release's own Ruby and Node.
func (l Layout) Tool(release, program string) string {
	return path.Join(l.Release(release), ".refit", "bin", program)
}

// LiveTool is the same wrapper reached through the live link: what units start.
func (l Layout) LiveTool(program string) string {
	return path.Join(l.filled().Live, ".refit", "bin", program)
}
