package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"golang.org/x/sys/unix"
)

// rosterFile says how the running set differs from the fleet. It stands with the mounts
// and namespaces that it tells of, so that it is gone when they are.
const rosterFile = runDir + "/droplets.json"

// firstInstance is the droplet ID of the first host of the fleet; the others follow in
// the order of Machines.
const firstInstance = 1001

// Addresses of hosts that were created from an image: the private one with the public one
// a hundred above it, both on the host's eth0.
const (
	firstPrivate = 100
	firstPublic  = 200
	cloneLimit   = 50
)

// clone is a host that was created from an image.
type clone struct {
	ID     int    `json:"id"`
	Public string `json:"public"`
	// Made: its creation was not broken off.
	Made bool `json:"made"`
	// Machine has the private address; trees and units are those of the image's host.
	Machine Machine `json:"machine"`
}

// fork is a copy of the database.
type fork struct {
	Name string `json:"name"`
	Host string `json:"host"`
	Port int    `json:"port"`
}

// roster is what rosterFile holds.
type roster struct {
	Clones []clone `json:"clones,omitempty"`
	// Gone are hosts of the fleet that were destroyed.
	Gone []string `json:"gone,omitempty"`
	// Places counts the addresses given so far: one that has become free is given
	// again as late as possible, since neighbours remember who had it.
	Places int    `json:"places,omitempty"`
	Forks  []fork `json:"forks,omitempty"`
}

func readRoster(path string) (roster, error) {
	var r roster
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return r, fmt.Errorf("cannot read which hosts the lab has: %s: %w; end it with: lab down", path, err)
	}
	return r, nil
}

// changeRoster changes the file, one program at a time.
func changeRoster(path string, change func(*roster) error) error {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("cannot note which hosts the lab has: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("cannot note which hosts the lab has: %w", err)
	}
	r, err := readRoster(path)
	if err != nil {
		return err
	}
	if err := change(&r); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(path+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("cannot note which hosts the lab has: %w", err)
	}
	return nil
}

// present are the hosts that there are, on or off: the fleet but for those that were
// destroyed, and those that were created.
func (r roster) present() []Machine {
	out := slices.DeleteFunc(Machines(), func(m Machine) bool { return slices.Contains(r.Gone, m.Name) })
	for _, c := range r.Clones {
		out = append(out, c.Machine)
	}
	return out
}

// clone finds a created host by name.
func (r roster) clone(name string) (clone, bool) {
	i := slices.IndexFunc(r.Clones, func(c clone) bool { return c.Machine.Name == name })
	if i < 0 {
		return clone{}, false
	}
	return r.Clones[i], true
}

// instance is a host's droplet ID; 0 for a host that is not there.
func (r roster) instance(name string) int {
	if c, ok := r.clone(name); ok {
		return c.ID
	}
	i := slices.IndexFunc(Machines(), func(m Machine) bool { return m.Name == name })
	if i < 0 || slices.Contains(r.Gone, name) {
		return 0
	}
	return firstInstance + i
}

// hostName is what a host may be called: its name is also that of its cgroup and its
// system's host name, which Linux limits to 64 letters.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`)

// add places a new host that is like another.
func (r *roster) add(id int, name string, like Machine) (clone, error) {
	if !hostName.MatchString(name) || len(name) > 64 || name == "mirrors" {
		return clone{}, fmt.Errorf("cannot name a host %q: up to 64 letters, digits, dashes and dots, and not mirrors", name)
	}
	for _, m := range r.present() {
		if m.Name == name {
			return clone{}, fmt.Errorf("cannot create %s: the lab has a host of that name, with ID %d", name, r.instance(name))
		}
		if r.instance(m.Name) == id {
			return clone{}, fmt.Errorf("cannot create %s with ID %d: that is the ID of %s", name, id, m.Name)
		}
	}
	if id < firstInstance {
		return clone{}, fmt.Errorf("cannot create %s with ID %d: IDs begin with %d", name, id, firstInstance)
	}
	for range cloneLimit {
		at := r.Places % cloneLimit
		r.Places++
		private := fmt.Sprintf("10.77.0.%d", firstPrivate+at)
		if slices.ContainsFunc(r.Clones, func(c clone) bool { return c.Machine.Address == private }) {
			continue
		}
		c := clone{ID: id, Public: fmt.Sprintf("10.77.0.%d", firstPublic+at), Machine: like}
		c.Machine.Name, c.Machine.Address = name, private
		r.Clones = append(r.Clones, c)
		return c, nil
	}
	return clone{}, fmt.Errorf("cannot create %s: all %d addresses for created hosts are taken; destroy one", name, cloneLimit)
}

// made notes that a host was created.
func (r *roster) made(name string) {
	for i := range r.Clones {
		r.Clones[i].Made = r.Clones[i].Made || r.Clones[i].Machine.Name == name
	}
}

// drop forgets a host that is destroyed.
func (r *roster) drop(name string) {
	if _, ok := r.clone(name); ok {
		r.Clones = slices.DeleteFunc(r.Clones, func(c clone) bool { return c.Machine.Name == name })
		return
	}
	if !slices.Contains(r.Gone, name) && slices.ContainsFunc(Machines(), func(m Machine) bool { return m.Name == name }) {
		r.Gone = append(r.Gone, name)
	}
}

// present are the hosts of the running lab.
func present() ([]Machine, error) {
	r, err := readRoster(rosterFile)
	if err != nil {
		return nil, err
	}
	return r.present(), nil
}

// instance is the droplet ID of a host of the running lab.
func instance(name string) (int, error) {
	r, err := readRoster(rosterFile)
	if err != nil {
		return 0, err
	}
	id := r.instance(name)
	if id == 0 {
		_, err := machine(name)
		return 0, errors.Join(fmt.Errorf("%s has no ID", name), err)
	}
	return id, nil
}

// Instance is a host's droplet ID: the system credential refit.instance on it.
func (l *Lab) Instance(host string) (int, error) { return instance(host) }

// remains are the names of all hosts that may have left something on this machine: the
// fleet's, and whatever has a folder below dir, which needs no roster that can be read.
func remains(dir string) []string {
	var names []string
	for _, m := range Machines() {
		names = append(names, m.Name)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return names // the pattern is whole: dir is the lab's own
	}
	for _, f := range found {
		if name := filepath.Base(f); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
