package stages

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"vmst.io/refit/hosts/node"
)

// rights: what sudo allows is enough for a whole run, and nobody but root can change
// what refit keeps on a host. That the ssh user can do more than needed is said, not
// refused: it is for a team to decide what its keys are worth.
func (j *judgement) rights() {
	wide := map[string][]string{}
	for _, n := range j.d.Fleet {
		f := j.v.Facts[n.Name]
		r := f.Rights
		if r.Error != "" {
			j.say("%s: what sudo allows to %s could not be found out: %s", n.Name, r.User, r.Error)
		}
		if len(r.Refused) > 0 {
			j.refuse("%s: sudo lets %s look, and not act (%s is refused): a run would stop in its middle. As root there, put this line into /etc/sudoers.d/refit (`refit example --sudoers`): %s",
				n.Name, r.User, strings.Join(r.Refused, ", "), node.SudoersLine(r.User, path.Join(node.BinDir, f.Agent)))
		}
		switch {
		case r.Anything:
			wide[r.User+" may run every command as root"] = append(wide[r.User+" may run every command as root"], n.Name)
		case r.Replaceable():
			what := fmt.Sprintf("%s can put its own programs where sudo runs them as root (%s)", r.User, node.BinDir)
			wide[what] = append(wide[what], n.Name)
		}
		for _, l := range f.Loose {
			what := fmt.Sprintf("belongs to %s (mode %04o)", l.Owner, l.Mode)
			switch {
			case l.Writable:
				what = fmt.Sprintf("can be written by everybody (mode %04o)", l.Mode)
			case l.Mode&0o020 != 0:
				what = fmt.Sprintf("can be written by its group (mode %04o)", l.Mode)
			}
			j.refuse("%s: %s %s: who changes it can forge what refit relies on. Find out who did, then as root there: chown root:root %s && chmod go-w %s", n.Name, l.Path, what, l.Path, l.Path)
		}
	}
	for _, what := range slices.Sorted(maps.Keys(wide)) {
		j.say("%s on %s: that key is worth as much as root's; `refit example --sudoers` prints the tight form", what, strings.Join(wide[what], ", "))
	}
}
