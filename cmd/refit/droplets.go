package main

import (
	"fmt"
	"net/netip"

	"vmst.io/refit/hosts/cloud"
)

// dropletOf is the droplet of a host: the one with the ID that refit.yml names, or the
// one that has the host's address, private or public.
func dropletOf(h hostConfig, all []cloud.Droplet) (cloud.Droplet, error) {
	address, err := netip.ParseAddr(h.Address)
	var found []cloud.Droplet
	for _, d := range all {
		if h.Droplet != 0 && d.ID == h.Droplet || h.Droplet == 0 && err == nil && (d.Private == address || d.Public == address) {
			found = append(found, d)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return cloud.Droplet{}, fmt.Errorf("%s: %d droplets have the address %s: name its own as hosts[].droplet in refit.yml", h.Name, len(found), h.Address)
	case h.Droplet != 0:
		return cloud.Droplet{}, fmt.Errorf("%s: the account has no droplet %d, or this token does not see it: correct hosts[].droplet in refit.yml, or take a token of the right team", h.Name, h.Droplet)
	case err != nil:
		return cloud.Droplet{}, fmt.Errorf("%s: its address %s is a name, by which no droplet is found: name its ID as hosts[].droplet in refit.yml", h.Name, h.Address)
	}
	return cloud.Droplet{}, fmt.Errorf("%s: no droplet of the account has the address %s: name its ID as hosts[].droplet in refit.yml, or take a token of the right team", h.Name, h.Address)
}
