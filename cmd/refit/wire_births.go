package main

import (
	"strings"
	"sync"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/ssh"
	"vmst.io/refit/stages"
)

// wireBirths puts in what it takes to make nodes from images.
func (x *session) wireBirths() error {
	c := x.config
	if c.Cloud == nil || c.Cloud.Born == nil {
		return nil
	}
	file, err := c.path(c.SSH.KnownHosts)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	made := map[string]stages.Node{}
	x.deps.Births = &stages.Births{
		From: c.Cloud.Born.From, SSHKeys: c.Cloud.Born.SSHKeys,
		Reach: func(host, address, knownAs string, m stages.Model) stages.Node {
			mu.Lock()
			defer mu.Unlock()
			key := strings.Join([]string{host, address, knownAs}, " ")
			n, ok := made[key]
			if !ok {
				conn, agent := x.connect(host, address, knownAs, x.keeper.Run)
				x.conns[key] = conn
				n = stages.Node{
					Host:  hosts.Host{Name: host, Address: address, Roles: m.Roles, Shell: conn},
					Agent: agent, Port: m.Port, Streaming: m.Streaming, Workers: m.Workers,
				}
				made[key] = n
			}
			return n
		},
		Learn:   func(address string, keys []string) error { return ssh.Learn(file, address, c.SSH.Port, keys) },
		Unlearn: func(address, as string) error { return ssh.Unlearn(file, address, c.SSH.Port, as) },
		Relearn: func(address, as string) error { return ssh.Relearn(file, address, c.SSH.Port, as) },
		Write:   x.writeBirth,
	}
	return nil
}

// writeBirth writes refit.yml, and lets this session's report show the node where it is now.
func (x *session) writeBirth(b stages.Birth, back bool) (string, error) {
	change, err := rewriteFile(x.config.file, b, back)
	if err == nil && !back {
		x.deps.Fleet = append(x.deps.Fleet.But(b.Host), x.deps.Births.Reach(b.Host, b.Address, "", b.Model))
	}
	return change, err
}
