package stages

import (
	"fmt"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/node"
)

// system names what native code is made for: the operating system's release and the
// processor.
func system(f node.Facts) string { return fmt.Sprintf("%s %s (%s)", f.OS, f.OSVersion, f.Arch) }

// sites divides the nodes among the builders by their systems. A fleet with one builder
// has one site, without names. A builder whose system no node has makes nothing; a node
// without a builder is refused by the rules, and is none's.
func (d Deps) sites(v *View) []*Made {
	builders := d.Fleet.With(hosts.Builder)
	if len(builders) == 1 {
		return []*Made{{}}
	}
	var out []*Made
	taken := map[string]bool{}
	for _, b := range builders {
		here := system(v.Facts[b.Name])
		if taken[here] {
			continue
		}
		taken[here] = true
		m := &Made{Builder: b.Name}
		for _, n := range d.Fleet.Apps() {
			if system(v.Facts[n.Name]) == here {
				m.Nodes = append(m.Nodes, n.Name)
			}
		}
		if len(m.Nodes) > 0 {
			out = append(out, m)
		}
	}
	if len(out) == 0 { // every node is refused by the rules
		return []*Made{{Builder: builders[0].Name}}
	}
	return out
}

// hosts: native gems and libraries tie a build to one OS release and architecture.
func (j *judgement) hosts() {
	builders := map[string][]string{}
	var first string
	for _, b := range j.d.Fleet.With(hosts.Builder) {
		here := system(j.v.Facts[b.Name])
		if first == "" {
			first = fmt.Sprintf("the builder %s runs %s", b.Name, here)
		}
		builders[here] = append(builders[here], b.Name)
		if two := builders[here]; len(two) == 2 {
			j.refuse("%s and %s are both builders and run %s: which of them builds? One for each system is enough", two[0], two[1], here)
		}
	}
	for _, n := range j.d.Fleet.Apps() {
		if here := system(j.v.Facts[n.Name]); len(builders[here]) == 0 {
			j.refuse("%s runs %s, %s: what is built there does not run here; use a builder like the nodes, or give a host like it the role builder too", n.Name, here, first)
		}
	}
}
