package node

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// commandTime is how long a command that tells a version may take.
const commandTime = 20 * time.Second

func (m Machine) facts(ctx context.Context, in FactsIn, _ io.Reader, _ func(string)) (Facts, error) {
	f := Facts{Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Boot: m.boot()}
	var err error
	if f.Hostname, err = os.Hostname(); err != nil {
		return f, err
	}
	agent, err := m.agent()
	if err != nil {
		return f, err
	}
	f.Agent = filepath.Base(agent)
	if err := m.kernelFacts(&f); err != nil {
		return f, err
	}
	fence, err := m.readFence()
	if err != nil {
		return f, err
	}
	f.Epoch, f.Holder = fence.Epoch, fence.Holder
	for _, p := range in.Paths {
		d, err := diskOf(p)
		if err != nil {
			return f, err
		}
		f.Disks = append(f.Disks, d)
	}
	if err := releaseFacts(in.Home, &f); err != nil {
		return f, err
	}
	if f.Units, err = m.show(ctx, in.Home, in.Units); err != nil {
		return f, err
	}
	if in.EnvFile != "" {
		if f.Env, err = envHashes(in.EnvFile, in.Salt); err != nil {
			f.EnvError = err.Error()
		}
	}
	if in.Rights {
		// sudo(8) sets it, and the caller cannot set it through sudo.
		caller := os.Getenv("SUDO_USER")
		f.Rights = m.rights(ctx, caller)
		if f.Loose, err = m.loose(caller); err != nil {
			return f, err
		}
	}
	if in.Permit != nil {
		p, err := m.lookPermit(ctx, *in.Permit)
		if err != nil {
			return f, err
		}
		f.Permit = &p
	}
	f.Files = make([]FileFact, len(in.Files))
	f.Commands = make([]CommandFact, len(in.Commands))
	var g errgroup.Group
	g.SetLimit(4)
	for i, c := range in.Files {
		g.Go(func() error { f.Files[i] = checkFile(ctx, c); return nil })
	}
	for i, c := range in.Commands {
		g.Go(func() error { f.Commands[i] = firstLine(ctx, c); return nil })
	}
	if err := g.Wait(); err != nil {
		return f, err
	}
	f.Clock = time.Now().UTC()
	return f, nil
}

// kernelFacts reads os-release(5), proc_meminfo(5), proc_loadavg(5).
func (m Machine) kernelFacts(f *Facts) error {
	release, err := keyValues("/etc/os-release", "=")
	if err != nil {
		return err
	}
	f.OS, f.OSVersion = unquote(release["ID"]), unquote(release["VERSION_ID"])
	mem, err := keyValues(m.proc("meminfo"), ":")
	if err != nil {
		return err
	}
	for key, to := range map[string]*int64{"MemTotal": &f.MemoryTotal, "MemAvailable": &f.MemoryAvailable, "SwapFree": &f.SwapFree} {
		kb, err := strconv.ParseInt(strings.TrimSuffix(mem[key], " kB"), 10, 64)
		if err != nil {
			return fmt.Errorf("cannot read %s of meminfo: %w", key, err)
		}
		*to = kb << 10
	}
	load, err := os.ReadFile(m.proc("loadavg"))
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(load), " ")
	if f.Load1, err = strconv.ParseFloat(first, 64); err != nil {
		return fmt.Errorf("cannot read loadavg: %w", err)
	}
	up, err := os.ReadFile(m.proc("uptime"))
	if err != nil {
		return err
	}
	first, _, _ = strings.Cut(string(up), " ")
	since, err := time.ParseDuration(first + "s")
	if err != nil {
		return fmt.Errorf("cannot read uptime: %w", err)
	}
	// In a container the kernel's time is that of the machine below; the first process
	// of the host tells when the host began, in ticks of 1/100 s (USER_HZ).
	init, err := m.process(1)
	if err != nil {
		return err
	}
	ticks := time.Duration(init.start) * 10 * time.Millisecond //nolint:gosec // it is below 2^63 for 29,000 years
	f.Started = time.Now().Add(ticks - since).UTC().Truncate(time.Second)
	return nil
}

func keyValues(path, separator string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	all := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, separator); ok {
			all[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	return all, nil
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

// diskOf asks for the space of the file system that holds path, or of the one
// that would hold it.
func diskOf(path string) (Disk, error) {
	d := Disk{Path: path}
	for at := path; ; at = filepath.Dir(at) {
		var fs syscall.Statfs_t
		var st syscall.Stat_t
		err := syscall.Statfs(at, &fs)
		if errors.Is(err, syscall.ENOENT) && at != "/" && at != "." {
			continue
		}
		if err == nil {
			err = syscall.Stat(at, &st)
		}
		if err != nil {
			return d, fmt.Errorf("cannot ask for the space at %s: %w", path, err)
		}
		size := uint64(fs.Bsize) //nolint:gosec // a block size is positive
		d.Free, d.Total = fs.Bavail*size, fs.Blocks*size
		d.Device = uint64(st.Dev) //nolint:gosec,unconvert // of another type where hosts/node only has to compile
		d.FreeFiles, d.Files = fs.Ffree, fs.Files
		return d, nil
	}
}

func releaseFacts(homeDir string, f *Facts) error {
	var err error
	if f.Live, err = liveRelease(homeDir); err != nil {
		return err
	}
	releases, err := localReleases(homeDir)
	if err != nil {
		return err
	}
	for _, r := range releases {
		fact := ReleaseFact{Name: r.name}
		// A manifest that cannot be read is as good as none: the release is not
		// complete then, and placing it anew mends it.
		if head, digest, err := readHead(r.dir); err == nil {
			fact.Commit, fact.Digest = head.Commit, digest
			var p placedRecord
			fact.Complete = readJSON(filepath.Join(r.dir, placedFile), &p) == nil && p.Digest == digest
		}
		f.Releases = append(f.Releases, fact)
	}
	return nil
}

// envHashes hashes the values of a file of KEY=value lines, as dotenv and systemd
// write them. The hashes are keyed: without the salt nobody can try values.
func envHashes(path string, salt []byte) (map[string]string, error) {
	if len(salt) < 16 {
		return nil, errors.New("the request's salt is shorter than 16 bytes")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	all := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "export ")
		k, v, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(k, "#") {
			continue
		}
		h := hmac.New(sha256.New, salt)
		h.Write([]byte(unquote(strings.TrimSpace(v)))) // a hash takes everything
		all[strings.TrimSpace(k)] = hex.EncodeToString(h.Sum(nil)[:16])
	}
	return all, nil
}

// asUser makes a command run as a user; the empty name changes nothing.
func asUser(cmd *exec.Cmd, name string) error {
	if name == "" {
		return nil
	}
	uid, gid, groups, err := lookupUser(name)
	if err != nil {
		return err
	}
	if uid != os.Geteuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: groups}}
	}
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	cmd.Env = append(os.Environ(), "HOME="+u.HomeDir, "USER="+name, "LOGNAME="+name)
	return nil
}

// checkFile asks the kernel, as the user: test(1) with that user's rights sees
// every directory on the way as the user's programs will.
func checkFile(ctx context.Context, c FileCheck) FileFact {
	f := FileFact{Path: c.Path}
	fi, err := os.Stat(c.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return f
	}
	if err != nil {
		f.Error = err.Error()
		return f
	}
	f.Exists, f.Mode = true, uint32(fi.Mode().Perm())
	if !fi.IsDir() {
		f.Size = fi.Size()
	}
	f.Owner = ownerOf(fi)
	for flag, to := range map[string]*bool{"-r": &f.Readable, "-w": &f.Writable} {
		cmd := exec.CommandContext(ctx, "test", flag, c.Path)
		if err := asUser(cmd, c.User); err != nil {
			f.Error = err.Error()
			return f
		}
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			f.Error = err.Error()
		}
		*to = err == nil
	}
	return f
}

// ownerOf is the name of a file's owner, or the number where there is no name.
func ownerOf(fi fs.FileInfo) string {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	id := strconv.FormatUint(uint64(st.Uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

func firstLine(ctx context.Context, c FactCommand) CommandFact {
	if len(c.Argv) == 0 {
		return CommandFact{Error: "no command"}
	}
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Dir, cmd.WaitDelay = c.Dir, time.Second
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	if err := asUser(cmd, c.User); err != nil {
		return CommandFact{Error: err.Error()}
	}
	b, err := cmd.CombinedOutput()
	var f CommandFact
	s := bufio.NewScanner(bytes.NewReader(b))
	for f.Line == "" && s.Scan() {
		f.Line = strings.TrimSpace(s.Text())
	}
	switch {
	case ctx.Err() != nil:
		f.Error = fmt.Sprintf("it did not end within %s", commandTime)
	case err != nil:
		f.Error = err.Error()
	}
	return f
}
