package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// fakeProc is a /proc of made-up processes.
type fakeProc struct {
	t   *testing.T
	dir string
}

func (p fakeProc) add(pid int, comm, exe string, pssKiB, peakKiB int, kids ...int) {
	p.t.Helper()
	dir := filepath.Join(p.dir, fmt.Sprint(pid))
	task := filepath.Join(dir, "task", fmt.Sprint(pid))
	if err := os.MkdirAll(task, 0o755); err != nil {
		p.t.Fatal(err)
	}
	var list string
	for _, k := range kids {
		list += fmt.Sprintf("%d ", k)
	}
	files := map[string]string{
		"comm": comm + "\n", "task/" + fmt.Sprint(pid) + "/children": list,
		"status": fmt.Sprintf("Name:\t%s\nVmHWM:\t%8d kB\nVmRSS:\t%8d kB\n", comm, peakKiB, pssKiB+500),
	}
	if pssKiB > 0 {
		files["smaps_rollup"] = fmt.Sprintf("00400000-7fff ---p 00000000 00:00 0 [rollup]\nRss: %d kB\nPss:      %d kB\nPss_Anon: 1 kB\n", pssKiB+500, pssKiB)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := os.Symlink("/usr/bin/"+exe, filepath.Join(dir, "exe")); err != nil {
		p.t.Fatal(err)
	}
}

func TestOnlyWhatRunsForTheRollCountsOnAHost(t *testing.T) {
	p := fakeProc{t, t.TempDir()}
	p.add(1, "systemd", "systemd", 9000, 9000, 10, 20, 30, 40)
	p.add(10, "sshd", "sshd", 3000, 3000, 11)
	p.add(11, "sshd-session", "sshd-session", 2000, 2500, 12)
	p.add(12, "sudo", "sudo", 1000, 1000, 13)
	p.add(13, "refit-012345678", "refit-0123456789abcdef", 20000, 21000, 14)
	p.add(14, "bundle", "ruby3.3", 150000, 150000)
	p.add(20, "bundle", "ruby3.3", 200000, 200000, 21)
	p.add(21, "puma", "ruby3.3", 200000, 200000)
	p.add(30, "refit-012345678", "refit-0123456789abcdef", 5000, 8000)
	p.add(40, "nginx", "nginx", 5000, 5000)
	got := slices.Sorted(slices.Values(proc(p.dir).forRoll(1)))
	if want := []int{11, 12, 13, 30}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if none := proc(p.dir).forRoll(999); len(none) != 0 {
		t.Errorf("a host that is off runs %v", none)
	}
}

func TestThePeakIsTheLargestSumOrTheLargestProcess(t *testing.T) {
	p := fakeProc{t, t.TempDir()}
	p.add(1, "a", "a", 10_000, 11_000)
	p.add(2, "b", "b", 20_000, 21_000)
	p.add(3, "c", "c", 0, 90_000) // no rollup: its resident set counts
	var k peak
	k.look(proc(p.dir), []int{1, 2})
	k.look(proc(p.dir), []int{1})
	if k.bytes() != 30_000<<10 || len(k.at) != 2 {
		t.Errorf("peak %d of %v", k.bytes(), k.at)
	}
	k.look(proc(p.dir), []int{3, 4}) // 4 has just ended
	if k.sum != 30_000<<10 || k.bytes() != 90_000<<10 {
		t.Errorf("sum %d, peak %d", k.sum, k.bytes())
	}
}

func TestThisProcessHasAPeak(t *testing.T) {
	if n := proc("/proc").used(os.Getpid()); n < 1<<20 {
		t.Errorf("%d bytes", n)
	}
	m := watchMemory(t.Context(), "/proc", func() ([]int, error) { return []int{os.Getpid()}, nil }, map[string]int{"kirk": os.Getpid()})
	if err := m.end(); err != nil {
		t.Fatal(err)
	}
	if m.controller.bytes() < 1<<20 || m.hosts["kirk"].bytes() != 0 {
		t.Errorf("controller %d, kirk %d", m.controller.bytes(), m.hosts["kirk"].bytes())
	}
	lost := watchMemory(t.Context(), "/proc", func() ([]int, error) { return nil, os.ErrNotExist }, nil)
	if err := lost.end(); err == nil {
		t.Error("a group that cannot be read gives a peak")
	}
}
