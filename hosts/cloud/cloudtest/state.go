package cloudtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// account is all that is kept. IDs rise over all that has one.
type account struct {
	Last      int
	Droplets  []*droplet
	Actions   []*action
	Images    []*image
	Tags      []string
	Balancers []*balancer
	Clusters  []*cluster
	Firewalls []*firewall
	VPCs      []*vpc
}

type droplet struct {
	ID, Image                 int
	Name, Machine             string
	Region, Size, VPC, Status string
	Public, Private, UserData string
	Tags                      []string
	Monitoring                bool
	Created                   time.Time
}

type action struct {
	ID, Droplet          int
	Type, Status, Region string
	Started, Completed   time.Time
}

type image struct {
	ID, Origin, MinDisk   int
	Key, Name, Slug, Kind string
	Distribution, About   string
	Regions, Tags         []string
	Bytes                 int64
	Created               time.Time
}

type cluster struct {
	ID, Name, Engine, Version, Size, Region string
	Status, Host, VPC, Project              string
	Port, Nodes, Storage                    int
	Plain                                   bool // it takes connections without TLS
	Tags                                    []string
	Created                                 time.Time
	Backups                                 []time.Time
	Pools                                   []pool
}

type vpc struct {
	ID, Name, About, Region, Range string
	Default                        bool
	Created                        time.Time
}

// The words of states.
const (
	active    = "active"
	inWork    = "in-progress"
	completed = "completed"
	errored   = "errored"
	online    = "online"
)

// next is a new ID.
func (a *account) next() int {
	a.Last++
	return a.Last
}

// uuid is a new one.
func (a *account) uuid() string { return fmt.Sprintf("9b2f0000-0000-4000-8000-%012x", a.next()) }

func find[T any](all []*T, is func(*T) bool) *T {
	if i := slices.IndexFunc(all, is); i >= 0 {
		return all[i]
	}
	return nil
}

func (a *account) droplet(id int) *droplet {
	return find(a.Droplets, func(d *droplet) bool { return d.ID == id })
}

func (a *account) image(id int) *image {
	return find(a.Images, func(i *image) bool { return i.ID == id })
}

// cluster is that of a name or an ID.
func (a *account) cluster(of string) *cluster {
	return find(a.Clusters, func(c *cluster) bool { return c.Name == of || c.ID == of })
}

func (a *account) vpc(id string) *vpc {
	return find(a.VPCs, func(v *vpc) bool { return v.ID == id })
}

// open is the action that holds a droplet, nil if none does.
func (a *account) open(droplet int) *action {
	return find(a.Actions, func(x *action) bool { return x.Droplet == droplet && x.Status == inWork })
}

// kept are the images made of a droplet.
func (a *account) kept(droplet int) []*image {
	var out []*image
	for _, i := range a.Images {
		if i.Origin == droplet {
			out = append(out, i)
		}
	}
	return out
}

// know adds tags that are not known yet.
func (a *account) know(tags []string) {
	for _, t := range tags {
		if !slices.Contains(a.Tags, t) {
			a.Tags = append(a.Tags, t)
		}
	}
}

// free is a machine's name for a droplet of that name.
func (a *account) free(name string, id int) string {
	if find(a.Droplets, func(d *droplet) bool { return d.Machine == name }) != nil {
		return name + "-" + strconv.Itoa(id)
	}
	return name
}

// begun reads the state, or makes the first one. An action that went on when the last
// server died ended as errored. The lock is held.
func (s *Server) begun() {
	if s.conf.State == "" {
		s.seed()
		return
	}
	b, err := os.ReadFile(s.conf.State)
	if errors.Is(err, fs.ErrNotExist) {
		s.seed()
		s.save()
		return
	}
	if err == nil {
		err = json.Unmarshal(b, &s.state)
	}
	if err != nil {
		s.broken = fmt.Errorf("cannot read the simulated account's state: %w", err)
		return
	}
	for _, a := range s.state.Actions {
		if a.Status == inWork {
			a.Status, a.Completed = errored, s.now()
		}
	}
	for _, b := range s.state.Balancers {
		b.Status = active
	}
	s.refence()
	s.save()
}

// save keeps the state. The lock is held.
func (s *Server) save() {
	if s.conf.State == "" || s.broken != nil {
		return
	}
	b, err := json.MarshalIndent(&s.state, "", " ")
	if err == nil {
		err = replace(s.conf.State, b)
	}
	if err != nil {
		s.broken = fmt.Errorf("cannot keep the simulated account's state: %w", err)
	}
}

// replace writes a file so that it is there whole, the old one or the new.
func replace(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
