package stages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

const birthRun = "20261123-222000-abcde"

// nursery is where machines are made in a world: known_hosts, refit.yml, the proxies'
// files, and what must hold at each moment.
type nursery struct {
	t     *testing.T
	w     *world
	a     *account
	state string

	stands map[string]map[string]bool // by proxy: address, and whether it is down
	known  map[string][]string        // known_hosts: key names by address
	shows  map[string]string          // what a machine shows, by its key in the world
	yml    map[string]string          // refit.yml: address by host
	names  map[string]string          // hostnames of new machines
	cannot string                     // why refit.yml cannot be written
	dies   string                     // the deed after which the process is killed, once
	kill   context.CancelFunc
}

// inBirth is inCloud with golden images, in a fleet that runs v4.5.15.
func inBirth(t *testing.T, test func(*testing.T, *nursery)) {
	t.Helper()
	state := t.TempDir()
	if err := os.WriteFile(filepath.Join(state, "refit"), []byte("the agent"), 0o600); err != nil {
		t.Fatal(err)
	}
	inCloud(t, func(t *testing.T, w *world, a *account) {
		n := &nursery{
			t: t, w: w, a: a, state: state, stands: map[string]map[string]bool{}, known: map[string][]string{},
			shows: map[string]string{}, yml: map[string]string{}, names: map[string]string{},
		}
		w.onNew()
		w.d.Seal = true
		a.born = map[int]bool{}
		for i := range a.droplets {
			x := &a.droplets[i]
			x.Region, x.Size, x.VPC, x.Tags = "tor1", "s-2vcpu-4gb", "vpc-1", []string{"prod", "prod:" + x.Name}
			n.known[x.Private.String()], n.shows[x.Name] = []string{"key of " + x.Name}, "key of "+x.Name
		}
		for i, h := range w.d.Fleet {
			n.yml[h.Name] = h.Address
			if h.Has(hosts.Web) || h.Has(hosts.Sidekiq) {
				w.permits[h.Name] = node.PermitOut{Instance: node.Instance{ID: strconv.Itoa(a.id(h.Name))}, Permit: &node.Permit{Instance: strconv.Itoa(a.id(h.Name))}}
			}
			more := []node.Verb{answer(w, h, "manifest.show", func(node.ManifestIn) (node.Head, error) {
				return node.Head{}, node.Failf(node.CodeNotFound, "it is not there any more")
			})}
			if h.Has(hosts.Proxy) {
				n.stands[h.Name] = map[string]bool{}
				for _, web := range w.d.webs() {
					n.stands[h.Name][web.Address] = false
				}
				more = append(more, n.proxy(h)...)
			}
			n.extend(w.d.Fleet[i].Agent, more)
		}
		for i, tier := range []string{"web", "sidekiq"} {
			a.images = append(a.images, cloud.Image{
				ID: 900 + i, Name: "golden-" + tier, Regions: []string{"tor1"}, Created: time.Now().Add(-time.Hour),
				Tags: cloud.Marks("lab", cloud.ForBirth, "u-0", cloud.TierTag(tier), cloud.HostTag([]string{"kirk", "scotty"}[i])),
			})
		}
		w.d.Cloud.Runs = func(context.Context) ([]CloudRun, error) { return nil, nil }
		w.d.Births = &Births{
			From: []string{"192.0.2.7/32"}, Reach: n.reach,
			Learn: func(address string, keys []string) error {
				n.known[address] = append(n.known[address], keys...)
				return n.deed("learn")
			},
			Unlearn: func(address, as string) error {
				if as != "" {
					n.known[as] = append(n.known[as], n.known[address]...)
				}
				delete(n.known, address)
				return n.deed("unlearn")
			},
			Relearn: func(address, as string) error {
				n.known[address] = slices.Clone(n.known[as])
				return nil
			},
			Write: func(b Birth, back bool) (string, error) {
				switch {
				case n.cannot != "":
					return n.cannot, nil
				case back && b.Old != nil:
					n.yml[b.Host] = b.Old.Address
				case back:
					delete(n.yml, b.Host)
				default:
					n.yml[b.Host] = b.Address
				}
				return "", n.deed("write")
			},
		}
		a.nursery = n
		test(t, n)
	})
}

// deed kills the process after the deed that the test chose.
func (n *nursery) deed(what string) error {
	if n.dies != what {
		return nil
	}
	n.dies = ""
	n.kill()
	return context.Canceled
}

func (n *nursery) extend(a *node.Agent, more []node.Verb) {
	l := a.Shell.(linked)
	sh := l.Shell.(hoststest.NodeShell)
	sh.Verbs = append(slices.Clone(sh.Verbs), more...)
	l.Shell = sh
	a.Shell = l
}

// proxy has include files in which nodes come and go.
func (n *nursery) proxy(p Node) []node.Verb {
	has := n.stands[p.Name]
	at := func(address string) error {
		if _, ok := has[address]; !ok {
			return node.Failf(node.CodeNotFound, "%s: %s", nginx.ErrUnknownServer, address)
		}
		return nil
	}
	up := func() (out int) {
		for _, down := range has {
			if !down {
				out++
			}
		}
		return out
	}
	return []node.Verb{
		answer(n.w, p, "upstream.get", func(nginx.UpstreamIn) (nginx.UpstreamOut, error) {
			var out nginx.UpstreamOut
			for file, port := range map[string]int{n.w.d.Proxies.Web: 3000, n.w.d.Proxies.Streaming: 4000} {
				f := nginx.FileServers{Path: file}
				for address, down := range has {
					f.Servers = append(f.Servers, nginx.Server{Address: fmt.Sprintf("%s:%d", address, port), Down: down})
				}
				out.Files = append(out.Files, f)
			}
			return out, nil
		}),
		answer(n.w, p, "upstream.set", func(in nginx.SetIn) (nginx.SetOut, error) {
			if err := at(in.Address); err != nil {
				return nginx.SetOut{}, err
			}
			if in.Down && !has[in.Address] && up() == 1 {
				return nginx.SetOut{}, node.Failf(node.CodeInUse, "%s", nginx.ErrLastServer)
			}
			changed := has[in.Address] != in.Down
			has[in.Address] = in.Down
			if changed {
				n.w.deeds = append(n.w.deeds, fmt.Sprintf("%s: %s %s", p.Name, in.Address, map[bool]string{true: "down", false: "up"}[in.Down]))
			}
			return nginx.SetOut{Changed: changed}, n.deed("upstream.set")
		}),
		answer(n.w, p, "upstream.join", func(in nginx.JoinIn) (nginx.SetOut, error) {
			if _, ok := has[in.Address]; ok {
				return nginx.SetOut{}, nil
			}
			if err := at(in.Like); err != nil {
				return nginx.SetOut{}, err
			}
			has[in.Address] = true
			return nginx.SetOut{Changed: true}, n.deed("upstream.join")
		}),
		answer(n.w, p, "upstream.leave", func(in nginx.LeaveIn) (nginx.SetOut, error) {
			if down, ok := has[in.Address]; ok && !down {
				return nginx.SetOut{}, node.Failf(node.CodeInUse, "%s", nginx.ErrServes)
			}
			delete(has, in.Address)
			return nginx.SetOut{Changed: true}, n.deed("upstream.leave")
		}),
	}
}

// reach is a machine at an address, under the keys that known_hosts has.
func (n *nursery) reach(host, address, knownAs string, m Model) Node {
	out := Node{Host: hosts.Host{Name: host, Address: address, Roles: m.Roles}, Port: m.Port, Streaming: m.Streaming, Workers: m.Workers}
	key := "nobody"
	for _, x := range n.a.droplets {
		if x.Private.String() == address {
			key = n.a.key(x.ID)
		}
	}
	if !strings.HasSuffix(key, "'") {
		if old, ok := n.w.d.Fleet.Named(host); ok && old.Address == address {
			return old
		}
	}
	inside := out
	inside.Name = key
	n.w.down[key] = map[string]bool{}
	out.Agent = &node.Agent{Host: host, Binary: filepath.Join(n.state, "refit"), Run: birthRun, Epoch: func() int64 { return 1 }}
	out.Agent.Shell = checked{n, knownAs, address, key, linked{n.w, key, hoststest.NodeShell{
		Machine: node.Machine{System: "debian 13", State: filepath.Join(n.state, key), Agent: "/var/lib/refit/bin/refit-0"},
		Verbs:   append(n.w.verbs(inside), n.machine(inside)...),
	}}}
	return out
}

// checked is the way to a machine whose host key must be known.
type checked struct {
	n                    *nursery
	knownAs, address, at string
	linked
}

func (c checked) Run(ctx context.Context, cmd hosts.Command, out io.Writer) error {
	under := c.address
	if c.knownAs != "" {
		under = c.knownAs
	}
	if !slices.Contains(c.n.known[under], c.n.shows[c.at]) && !c.n.w.cut[c.at] {
		return fmt.Errorf("%w: %s shows %s", hosts.ErrHostKey, c.address, c.n.shows[c.at])
	}
	return c.linked.Run(ctx, cmd, out)
}

// machine is what a new machine answers beside what every node does.
func (n *nursery) machine(m Node) []node.Verb {
	w, host := n.w, strings.TrimSuffix(m.Name, "'")
	return []node.Verb{
		answer(w, m, "fence.raise", func(node.RaiseIn) (node.Fence, error) { return node.Fence{Epoch: 1}, nil }),
		answer(w, m, "permit.show", func(node.PermitIn) (node.PermitOut, error) { return w.permits[m.Name], nil }),
		answer(w, m, "permit.write", func(node.PermitIn) (node.PermitOut, error) {
			p := w.permits[m.Name]
			p.Permit, p.Refused = &node.Permit{Instance: p.Instance.ID}, ""
			w.permits[m.Name] = p
			w.deeds = append(w.deeds, m.Name+": permit")
			p.Wrote = []string{"permit"}
			return p, n.deed("permit.write")
		}),
		answer(w, m, "permit.withdraw", func(node.PermitIn) (node.PermitOut, error) {
			p := w.permits[m.Name]
			p.Permit, p.Refused = nil, "sealed"
			w.permits[m.Name] = p
			w.deeds = append(w.deeds, m.Name+": withdraw")
			return p, nil
		}),
		answer(w, m, "hostkeys.make", func(struct{}) (node.HostKeysOut, error) {
			return node.HostKeysOut{Public: []string{"own key of " + m.Name}}, n.deed("hostkeys.make")
		}),
		answer(w, m, "hostkeys.use", func(struct{}) (node.HostKeysOut, error) {
			if !slices.Contains(n.known[n.address(m.Name)], "own key of "+m.Name) {
				n.t.Errorf("%s shows keys that are not written down", m.Name)
			}
			n.shows[m.Name] = "own key of " + m.Name
			return node.HostKeysOut{Used: true}, n.deed("hostkeys.use")
		}),
		answer(w, m, "hostname.set", func(in node.HostnameIn) (node.HostnameOut, error) {
			n.names[m.Name] = in.Name
			return node.HostnameOut{}, nil
		}),
		answer(w, m, "units", func(in node.UnitsIn) (node.UnitsOut, error) {
			w.deeds = append(w.deeds, m.Name+": "+strings.TrimSpace(string(in.Op)+" "+in.Signal))
			switch in.Op {
			case node.StopUnits:
				w.runs[m.Name], w.quiet[m.Name] = "", false
			case node.KillUnits:
				w.quiet[m.Name] = true
			case node.StartUnits:
				if err := w.fails[m.Name+" start"]; err != nil {
					return w.units(m), err
				}
				if w.permits[m.Name].Refused != "" {
					return w.units(m), node.Failf(node.CodeSealed, "sealed")
				}
				if m.Has(hosts.Sidekiq) && w.runs[host] != "" {
					n.t.Errorf("workers of the name %s run on two machines", host)
				}
				for _, wall := range n.a.walls {
					if slices.Contains(wall.Tags, cloud.RunTag(birthRun)) {
						n.t.Error("units are started behind the firewall of the birth")
					}
				}
				w.runs[m.Name] = w.live[m.Name]
			}
			return w.units(m), n.deed("units")
		}),
	}
}

func (n *nursery) address(key string) string {
	for _, x := range n.a.droplets {
		if n.a.key(x.ID) == key {
			return x.Private.String()
		}
	}
	return ""
}

// conceive surveys; nothing may stand against it.
func (n *nursery) conceive(r BirthRequest) *Facts {
	n.t.Helper()
	f, refused, err := n.w.d.Conceive(n.t.Context(), r, n.w.say)
	if err != nil || len(refused) > 0 {
		n.t.Fatalf("%v, refused: %q", err, refused)
	}
	return f
}

// run runs the plan, or goes on with it as a new process does.
func (n *nursery) run(shelf *dying, f *Facts, back bool) pipeline.Result {
	n.t.Helper()
	ctx, kill := context.WithCancel(n.t.Context())
	defer kill()
	n.kill, shelf.kill = kill, kill
	d := n.w.d
	d.Fleet = d.Fleet.But(f.Birth.Host)
	if shelf.last != nil { // a new process knows what the journal has
		f = &Facts{}
	}
	n.w.f = &Facts{From: builds.Release{}, To: n.w.f.To}
	watch := pipeline.Watch(pipeline.ObserverFunc(func(e pipeline.Event) { n.w.say("%s %s %s %s", e.Kind, e.Step, e.Text, e.Err) }))
	o := pipeline.Options{Ground: d.Ground(), Patience: time.Minute, Watch: watch}
	if shelf.last == nil {
		p := Replace(birthRun, d, f)
		return pipeline.Execute(ctx, p, pipeline.NewJournal(p, shelf, 1, time.Now()), o)
	}
	j, err := pipeline.LoadJournal(n.t.Context(), shelf, birthRun)
	if err == nil {
		err = errors.Join(j.Adopt(shelf, 1), j.LoadFacts(f))
	}
	if err != nil {
		n.t.Fatal(err)
	}
	n.w.f.Birth = f.Birth
	if back {
		return pipeline.Unwind(ctx, Replace(birthRun, d, f), j, o)
	}
	return pipeline.Execute(ctx, Replace(birthRun, d, f), j, o)
}
