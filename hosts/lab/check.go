package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Need is one thing that the lab needs of the machine.
type Need struct {
	Name string
	OK   bool
	// Found is what is there.
	Found string
	// Remedy is what to do if it is not enough.
	Remedy string
}

const (
	minMemory = 8 << 30
	minDisk   = 15 << 30
)

// tools are the programs that the lab runs and the Debian packages that hold them.
var tools = []struct{ program, pkg string }{
	{"mmdebstrap", "mmdebstrap"},
	{"mksquashfs", "squashfs-tools"},
	{"systemd-nspawn", "systemd-container"},
	{"arch-test", "arch-test"},
	{"ip", "iproute2"},
	{"tc", "iproute2"},
	{"ssh", "openssh-client"},
	{"ssh-keygen", "openssh-client"},
	{"zstd", "zstd"},
	{"rsync", "rsync"},
	{"nft", "nftables"},
	{"git", "git"},
	{"nsenter", "util-linux"},
	{"mount", "mount"},
	{"gcc", "gcc"}, // for the tests, which run with -race
}

const debianKeys = "/usr/share/keyrings/debian-archive-keyring.gpg"

// files are what the lab needs besides programs, and the Debian packages that hold
// them.
var files = []struct{ name, path, pkg string }{
	{"c headers", "/usr/include/stdlib.h", "libc6-dev"},
	{"debian keys", debianKeys, "debian-archive-keyring"},
}

// Check tells each need with what was found. cache is where the disk is wanted.
func Check(ctx context.Context, cache string) []Need {
	if cache == "" {
		cache = DefaultCache()
	}
	memory, merr := memoryTotal()
	disk, derr := diskFree(cache)
	needs := []Need{
		{"linux", runtime.GOOS == "linux", runtime.GOOS + "/" + runtime.GOARCH, "run the lab on a Linux machine or in a virtual one"},
		{"root", os.Geteuid() == 0, fmt.Sprintf("user %d", os.Geteuid()), "run it with sudo"},
		goVersion(ctx),
		{"memory", memory >= minMemory*9/10, fmt.Sprintf("%.1f GiB%s", float64(memory)/(1<<30), because(merr)), "the lab needs 8 GiB of memory: use a larger machine"},
		{"disk", disk >= minDisk, fmt.Sprintf("%.1f GiB free for %s%s", float64(disk)/(1<<30), cache, because(derr)), "free 15 GiB, or name a roomier place with --cache"},
		filesystem("overlay"), filesystem("squashfs"),
		exists("loop", "/dev/loop-control", "modprobe loop"),
		vethPair(ctx), addressRange(), cgroups(),
	}
	for _, t := range tools {
		needs = append(needs, program(t.program, "lab check --install, or: apt-get install "+t.pkg))
	}
	for _, f := range files {
		needs = append(needs, exists(f.name, f.path, "lab check --install, or: apt-get install "+f.pkg))
	}
	return needs
}

// Missing joins what is not met into an error, each with its remedy.
func Missing(needs []Need) error {
	var errs []error
	for _, n := range needs {
		if !n.OK {
			errs = append(errs, fmt.Errorf("%s: found %s; %s", n.Name, n.Found, n.Remedy))
		}
	}
	return errors.Join(errs...)
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return " (" + err.Error() + ")"
}

func program(name, remedy string) Need {
	p, err := exec.LookPath(name)
	if err != nil {
		p = "nothing"
	}
	return Need{name, err == nil, p, remedy}
}

func exists(name, path, remedy string) Need {
	_, err := os.Stat(path)
	found := path
	if err != nil {
		found = "no " + path
	}
	return Need{name, err == nil, found, remedy}
}

func goVersion(ctx context.Context) Need {
	n := Need{Name: "go", Found: "nothing", Remedy: "install Go 1.26 or later from https://go.dev/dl"}
	out, err := run(ctx, "go", "env", "GOVERSION")
	if err != nil {
		return n
	}
	n.Found = strings.TrimSpace(out)
	minor, _, _ := strings.Cut(strings.TrimPrefix(n.Found, "go1."), ".")
	v, err := strconv.Atoi(minor)
	n.OK = err == nil && v >= 26
	return n
}

// MemoryAvailable tells whether the machine has so many bytes of memory to give.
func MemoryAvailable(least int64) Need {
	n, err := meminfo("MemAvailable:")
	return Need{
		"memory", n >= least, fmt.Sprintf("%.1f GiB available%s", float64(n)/(1<<30), because(err)),
		fmt.Sprintf("%.0f GiB must be free: the hosts' disks are in memory; use a larger machine", float64(least)/(1<<30)),
	}
}

func memoryTotal() (int64, error) { return meminfo("MemTotal:") }

// meminfo is a line of /proc/meminfo in bytes.
func meminfo(name string) (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		w := strings.Fields(lines.Text())
		if len(w) > 1 && w[0] == name {
			kib, err := strconv.ParseInt(w[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("no " + name)
}

// diskFree of the file system that a folder is on or would be on.
func diskFree(dir string) (int64, error) {
	for {
		var fs unix.Statfs_t
		err := unix.Statfs(dir, &fs)
		if err == nil {
			return int64(fs.Bavail) * fs.Bsize, nil
		}
		if !errors.Is(err, unix.ENOENT) || dir == filepath.Dir(dir) {
			return 0, err
		}
		dir = filepath.Dir(dir)
	}
}

func filesystem(name string) Need {
	n := Need{Name: name, Found: "not in /proc/filesystems", Remedy: "modprobe " + name}
	has := func() bool {
		b, err := os.ReadFile("/proc/filesystems")
		return err == nil && slices.Contains(strings.Fields(string(b)), name)
	}
	if !has() {
		if _, err := run(context.Background(), "modprobe", name); err != nil {
			return n
		}
	}
	if n.OK = has(); n.OK {
		n.Found = "known to the kernel"
	}
	return n
}

// vethPair makes a pair in a namespace of its own and lets it go with it.
func vethPair(ctx context.Context) Need {
	n := Need{Name: "veth", Found: "the kernel makes a pair", Remedy: "modprobe veth bridge"}
	if _, err := run(ctx, "unshare", "-n", "ip", "link", "add", "try0", "type", "veth", "peer", "name", "try1"); err != nil {
		n.Found = err.Error()
		return n
	}
	if _, err := run(ctx, "unshare", "-n", "ip", "link", "add", "try0", "type", "bridge"); err != nil {
		n.Found = err.Error()
		return n
	}
	n.OK = true
	return n
}

func addressRange() Need {
	n := Need{Name: "addresses", OK: true, Found: Network + " is free", Remedy: "take the address off that interface while the lab is up"}
	want := netip.MustParsePrefix(Network)
	all, err := net.InterfaceAddrs()
	if err != nil {
		return Need{n.Name, false, err.Error(), "see ip addr"}
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Overlaps(want) && p.Bits() > 0 {
			n.OK, n.Found = false, "this machine has "+a.String()+", which meets "+Network
		}
	}
	return n
}

func cgroups() Need {
	u, err := unified()
	if err != nil {
		return Need{"cgroup v2", false, "none", err.Error()}
	}
	return Need{"cgroup v2", true, u, ""}
}
