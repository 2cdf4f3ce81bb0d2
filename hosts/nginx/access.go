package nginx

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxAccess bounds what one call reads of a log, in bytes.
const maxAccess = 64 << 20

// entry is what a line of an access log tells.
type entry struct {
	status int
	// upstream is the server that answered; empty where the log does not tell.
	upstream string
	// took is the request time; negative where the log does not tell.
	took time.Duration
}

// readAccess is the verb "access".
func readAccess(ctx context.Context, in AccessIn, _ func(string)) (Access, error) {
	if in.Path == "" {
		in.Path = "/var/log/nginx/access.log"
	}
	var a Access
	var t tallies
	f, inode, size, err := openLog(in.Path)
	if err != nil {
		return a, err
	}
	defer f.Close()
	since := in.Since
	if since == (Cursor{}) {
		a.Next = Cursor{inode, size}
		return a, nil
	}
	budget := int64(maxAccess)
	if since.Inode != inode {
		a.Rotated = true
		done, err := a.readRotated(ctx, in.Path, since, &budget, &t)
		if err != nil {
			return a, err
		}
		if !done {
			a.More = true
			t.fill(&a)
			return a, nil
		}
		since = Cursor{Inode: inode}
	}
	if size < since.Offset { // emptied in its place
		a.Rotated, a.Lost = true, true
		since.Offset = 0
	}
	end, err := t.read(ctx, f, since.Offset, &budget, &a)
	if err != nil {
		return a, fmt.Errorf("cannot read %s: %w", in.Path, err)
	}
	a.Next = Cursor{inode, end}
	a.More = budget <= 0
	t.fill(&a)
	return a, nil
}

func openLog(path string) (f *os.File, inode uint64, size int64, err error) {
	f, err = os.Open(path)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("cannot read nginx's access log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, 0, errors.Join(fmt.Errorf("cannot read nginx's access log: %w", err), f.Close())
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, 0, 0, errors.Join(errors.New("cannot tell the access log's inode on this system"), f.Close())
	}
	return f, st.Ino, info.Size(), nil
}

// readRotated reads the end of the file that the cursor belongs to, if it still
// lies beside the log under logrotate's name for the newest old one.
func (a *Access) readRotated(ctx context.Context, path string, since Cursor, budget *int64, t *tallies) (done bool, err error) {
	f, inode, _, err := openLog(path + ".1")
	if errors.Is(err, fs.ErrNotExist) {
		a.Lost = true
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if inode != since.Inode {
		a.Lost = true
		return true, nil
	}
	end, err := t.read(ctx, f, since.Offset, budget, a)
	if err != nil {
		return false, fmt.Errorf("cannot read %s.1: %w", path, err)
	}
	a.Next = Cursor{inode, end}
	return *budget > 0, nil
}

// tallies gathers entries.
type tallies struct {
	all    count
	by     map[string]*count
	timing bool
}

type count struct {
	requests, errors int
	took             []time.Duration
}

func (t *count) add(e entry) {
	t.requests++
	if e.status >= 500 {
		t.errors++
	}
	if e.took >= 0 && e.status != 101 {
		t.took = append(t.took, e.took)
	}
}

func (t *count) traffic() Traffic {
	out := Traffic{Requests: t.requests, Errors: t.errors}
	slices.Sort(t.took)
	if n := len(t.took); n > 0 {
		out.P50, out.P95, out.Max = t.took[(n-1)/2], t.took[(n-1)*95/100], t.took[n-1]
	}
	return out
}

// read reads whole lines from offset on until the end or until the budget is
// spent, and returns the offset after the last whole one.
func (t *tallies) read(ctx context.Context, f io.ReadSeeker, offset int64, budget *int64, a *Access) (int64, error) {
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return offset, err
	}
	r := bufio.NewReaderSize(f, 256<<10)
	for *budget > 0 {
		if err := ctx.Err(); err != nil {
			return offset, err
		}
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return offset, nil // an unfinished line is read the next time
		}
		if err != nil {
			return offset, err
		}
		offset += int64(len(line))
		*budget -= int64(len(line))
		e, ok := readEntry(line)
		if !ok {
			a.Unreadable++
			continue
		}
		t.add(e)
	}
	return offset, nil
}

func (t *tallies) add(e entry) {
	t.all.add(e)
	t.timing = t.timing || e.took >= 0
	if e.upstream == "" {
		return
	}
	if t.by == nil {
		t.by = map[string]*count{}
	}
	if t.by[e.upstream] == nil {
		t.by[e.upstream] = &count{}
	}
	t.by[e.upstream].add(e)
}

func (t *tallies) fill(a *Access) {
	a.Traffic, a.Timed = t.all.traffic(), t.timing
	for name, one := range t.by {
		if a.Upstreams == nil {
			a.Upstreams = map[string]Traffic{}
		}
		a.Upstreams[name] = one.traffic()
	}
}

// readEntry reads a line of nginx's "combined" format and of formats that append
// name=value or name="value" to it. The status is the first number after the
// quoted request; nginx writes a quote inside a value as \x22.
func readEntry(line string) (entry, bool) {
	e := entry{took: -1}
	words := fields(line)
	i := slices.IndexFunc(words, func(w field) bool { return w.quoted && w.name == "" })
	if i < 0 || i+1 >= len(words) {
		return e, false
	}
	status, err := strconv.Atoi(words[i+1].value)
	if err != nil || status < 100 || status > 599 {
		return e, false
	}
	e.status = status
	for _, w := range words[i+2:] {
		switch w.name {
		case "request_time", "rt":
			if s, err := strconv.ParseFloat(w.value, 64); err == nil && s >= 0 {
				e.took = time.Duration(s * float64(time.Second))
			}
		case "upstream_addr", "upstream", "ua":
			// "ua" is also a common name for the browser's own.
			if addr := lastAddress(w.value); strings.Contains(addr, ":") && !strings.Contains(addr, " ") {
				e.upstream = addr
			}
		}
	}
	return e, true
}

// lastAddress is the server that answered in the end: nginx lists all that were
// tried, parted by commas, and by colons after an internal redirect.
func lastAddress(v string) string {
	v = v[strings.LastIndex(v, ", ")+1:]
	if i := strings.LastIndex(v, " : "); i >= 0 {
		v = v[i+3:]
	}
	v = strings.TrimSpace(v)
	if v == "-" {
		return ""
	}
	return v
}

type field struct {
	name, value string
	quoted      bool
}

// fields splits a line at blanks, keeping "quoted" and [bracketed] parts whole
// and reading name= before either.
func fields(line string) []field {
	var out []field
	line = strings.TrimRight(line, "\r\n")
	for i := 0; i < len(line); {
		if line[i] == ' ' {
			i++
			continue
		}
		var f field
		start := i
		for i < len(line) && line[i] != ' ' && line[i] != '"' && line[i] != '[' {
			if line[i] == '=' && f.name == "" && i > start {
				f.name = line[start:i]
				start = i + 1
			}
			i++
		}
		switch {
		case i < len(line) && line[i] == '"' && i == start:
			end := strings.IndexByte(line[i+1:], '"')
			if end < 0 {
				end = len(line) - i - 1
			}
			f.value, f.quoted = line[i+1:i+1+end], true
			i += end + 2
		case i < len(line) && line[i] == '[' && i == start:
			end := strings.IndexByte(line[i:], ']')
			if end < 0 {
				end = len(line) - i - 1
			}
			f.value = line[i+1 : i+max(1, end)]
			i += end + 1
		default:
			for i < len(line) && line[i] != ' ' {
				i++
			}
			// A list of several values, unquoted: "10.77.0.21:3000, 10.77.0.22:3000".
			for f.name != "" && i+1 < len(line) && line[i-1] == ',' {
				for i++; i < len(line) && line[i] != ' '; i++ {
				}
			}
			f.value = line[start:i]
		}
		out = append(out, f)
	}
	return out
}
