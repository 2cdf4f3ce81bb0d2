package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// SSHArgs are the arguments for OpenSSH's client that reach a host as root with
// the lab's own key; they work inside the lab's network only. The key exchange
// named is the cheapest one: a lab opens many connections.
func (l *Lab) SSHArgs(host string) ([]string, error) {
	ip, err := l.resolve(host)
	if err != nil {
		return nil, err
	}
	known := l.KnownHosts()
	if own := knownHost(host); exists("", own, "").OK {
		known = own
	}
	return []string{
		"ssh", "-F", "/dev/null", "-i", l.AdminKeyFile(), "-o", "UserKnownHostsFile=" + known, "-o", "StrictHostKeyChecking=yes",
		"-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3",
		"-o", "KexAlgorithms=curve25519-sha256", "root@" + ip,
	}, nil
}

// Exec runs a program on a host as root, over ssh, and gives its standard output.
func (l *Lab) Exec(ctx context.Context, host string, argv ...string) (string, error) {
	args, err := l.SSHArgs(host)
	if err != nil {
		return "", err
	}
	quoted := make([]string, len(argv))
	for i, a := range argv {
		quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	var out, errs bytes.Buffer
	c := exec.CommandContext(ctx, args[0], append(args[1:], "--", strings.Join(quoted, " "))...)
	c.Stdout, c.Stderr = &out, &errs
	c.WaitDelay = time.Second
	// The child takes the namespace of the thread that forks it.
	err = inNamespace(netns, c.Start)
	if err == nil {
		err = c.Wait()
	}
	if err != nil {
		if ctx.Err() != nil {
			err = errors.Join(err, context.Cause(ctx))
		}
		return out.String(), fmt.Errorf("cannot run %s on %s: %w%s", argv[0], host, err, tail(errs.String()))
	}
	return out.String(), nil
}
