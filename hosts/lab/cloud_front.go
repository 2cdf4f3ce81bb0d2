package lab

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"vmst.io/refit/hosts/cloud/cloudtest"
)

// front is the host that stands in the place of a managed balancer, and backend the name
// of its proxies in haproxy.cfg.
const (
	front   = "pike"
	backend = "proxies"
)

// Front is the lab's balancer as a managed one.
type Front struct{ lab *Lab }

var _ cloudtest.Balancing = Front{}

// Front gives the lab's balancer as a managed one.
func (l *Lab) Front() Front { return Front{l} }

// Healthy asks HAProxy which of its servers it sends users to, by their names.
func (f Front) Healthy(ctx context.Context) (map[string]bool, error) {
	fail := func(err error) (map[string]bool, error) {
		return nil, fmt.Errorf("cannot ask the balancer on %s: %w", front, err)
	}
	pid, err := leader(front)
	if err != nil {
		return fail(err)
	}
	if pid == 0 {
		return fail(errors.New("it is off; start it with: lab start " + front))
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	c, err := dialer.DialContext(ctx, "unix", filepath.Join("/proc", strconv.Itoa(pid), "root/run/haproxy/admin.sock"))
	if err != nil {
		return fail(err)
	}
	defer c.Close()
	// A frozen host accepts and never answers.
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return fail(err)
	}
	if _, err := io.WriteString(c, "show stat\n"); err != nil {
		return fail(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		return fail(err)
	}
	healthy, err := readHealth(string(b))
	if err != nil {
		return fail(err)
	}
	return healthy, nil
}

// readHealth reads HAProxy's table of statistics (its management guide, 9.1). A server is
// healthy while its check passes: UP, or UP with how many failures it has had.
func readHealth(table string) (map[string]bool, error) {
	rows := csv.NewReader(strings.NewReader(strings.TrimPrefix(strings.TrimSpace(table), "# ")))
	rows.FieldsPerRecord = -1
	head, err := rows.Read()
	if err != nil {
		return nil, fmt.Errorf("its table cannot be read: %w", err)
	}
	group, name, status := slices.Index(head, "pxname"), slices.Index(head, "svname"), slices.Index(head, "status")
	if group < 0 || name < 0 || status < 0 {
		return nil, fmt.Errorf("its table has no pxname, svname and status: %.80s", table)
	}
	out := map[string]bool{}
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("its table cannot be read: %w", err)
		}
		if len(row) <= max(group, name, status) {
			return nil, fmt.Errorf("its table has a short row: %q", row)
		}
		if row[group] == backend && row[name] != "BACKEND" && row[name] != "FRONTEND" {
			word, _, _ := strings.Cut(row[status], " ")
			out[row[name]] = word == "UP"
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("its table has no server of %s", backend)
	}
	return out, nil
}
